//! How PyTorch stores an element, and how a run of them becomes a tensor of ours.

use candle_core::{Device, Result, Tensor};

/// The type of the elements of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    Bool,
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl Element {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The tensor of these elements, each at a place (counted in elements) of `data`: floats in f32 (doubles in
    /// f64), which holds them exactly, integers in i64.
    pub(crate) fn tensor(
        self,
        data: &[u8],
        order: ByteOrder,
        places: impl Iterator<Item = usize>,
        shape: &[usize],
    ) -> Result<Tensor> {
        let gather = Gather { data, order, places };
        let cpu = &Device::Cpu;
        match self {
            Self::F16 => Tensor::from_vec(gather.map(|b| half::f16::from_le_bytes(b).to_f32()), shape, cpu),
            Self::Bf16 => Tensor::from_vec(gather.map(|b| half::bf16::from_le_bytes(b).to_f32()), shape, cpu),
            Self::F32 => Tensor::from_vec(gather.map(f32::from_le_bytes), shape, cpu),
            Self::F64 => Tensor::from_vec(gather.map(f64::from_le_bytes), shape, cpu),
            Self::I8 => Tensor::from_vec(gather.map(|b| i64::from(i8::from_le_bytes(b))), shape, cpu),
            Self::I16 => Tensor::from_vec(gather.map(|b| i64::from(i16::from_le_bytes(b))), shape, cpu),
            Self::I32 => Tensor::from_vec(gather.map(|b| i64::from(i32::from_le_bytes(b))), shape, cpu),
            Self::I64 => Tensor::from_vec(gather.map(i64::from_le_bytes), shape, cpu),
            Self::U8 | Self::Bool => Tensor::from_vec(gather.map(|[b]: [u8; 1]| i64::from(b)), shape, cpu),
        }
    }
}

struct Gather<'a, I> {
    data: &'a [u8],
    order: ByteOrder,
    places: I,
}

impl<I: Iterator<Item = usize>> Gather<'_, I> {
    /// The element at every place, from its bytes with the lowest first.
    fn map<T, const N: usize>(self, element: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (elements, _) = self.data.as_chunks::<N>();
        let read = |place: usize| {
            let mut bytes = elements[place];
            if self.order == ByteOrder::Big {
                bytes.reverse();
            }
            element(bytes)
        };
        self.places.map(read).collect()
    }
}
