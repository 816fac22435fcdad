//! Sums from GPU to GPU by NCCL, for ranks that an MPI has started with a GPU each.
//!
//! Experimental: it is compiled and linked, and has never run on two cards.

use crate::error::{Error, Result};
use crate::ranks::Reduce;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::cudarc::nccl::result::NcclError;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Storage, Tensor};
use std::ffi::c_char;

/// The GPU of this rank, connected to those of the others.
pub(crate) struct Cards {
    device: CudaDevice,
    comm: Comm,
}

impl Cards {
    /// `ranks` carries the name under which the cards find each other from rank 0 to all.
    ///
    /// # Errors
    /// When the device is not a GPU, or NCCL refuses: two ranks on one card, say.
    pub(crate) fn connect(ranks: &dyn Reduce, device: &Device) -> Result<Self> {
        let Device::Cuda(device) = device else {
            return Err(failed("`cpu`, expected a GPU on every rank; start all with --device cuda"));
        };
        let own = match ranks.rank() {
            0 => Id::new().map(|id| id.internal().map(c_char::cast_unsigned).to_vec()),
            _ => Ok(vec![]),
        };
        let name = ranks.gather(own.as_deref().unwrap_or_default())?.swap_remove(0);
        own.map_err(refused("a name for the cards to meet under"))?;
        let name: [u8; 128] =
            name.try_into().map_err(|_| failed("rank 0 has no name for the cards to meet under"))?;
        let id = Id::uninit(name.map(u8::cast_signed));
        let comm = Comm::from_rank(device.cuda_stream(), ranks.rank(), ranks.ranks(), id)
            .map_err(refused("to connect the cards; give every rank a card of its own"))?;
        Ok(Self { device: device.clone(), comm })
    }

    /// As [`Reduce::sum`]; a tensor that is not on the card goes there and comes back.
    pub(crate) fn sum(&self, values: &Tensor) -> Result<Tensor> {
        let here = Device::Cuda(self.device.clone());
        let own = values.to_device(&here)?.contiguous()?;
        let (storage, layout) = own.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { return Err(failed("a sum that is not on the card")) };
        let (first, len) = (layout.start_offset(), own.elem_count());
        let own = storage.as_cuda_slice::<f32>()?.slice(first..first + len);
        let mut sum: CudaSlice<f32> =
            self.comm.stream().alloc_zeros(len).map_err(|e| failed(format!("no room for a sum: {e:?}")))?;
        self.comm.all_reduce(&own, &mut sum, &ReduceOp::Sum).map_err(refused("a sum over the cards"))?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(sum, self.device.clone()));
        let sum = Tensor::from_storage(storage, len, BackpropOp::none(), false);
        Ok(sum.to_device(values.device())?)
    }
}

/// A failure of this rank alone, which has to end the others.
fn failed(what: impl Into<String>) -> Error {
    rslad_models::Error::Other(format!("NCCL: {}", what.into())).into()
}

fn refused(what: &str) -> impl FnOnce(NcclError) -> Error + '_ {
    move |error| failed(format!("refused {what}: {:?}", error.0))
}
