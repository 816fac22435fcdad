//! The names that a pickled state dict may refer to.

use super::Element;
use crate::checkpoint::fault::Fault;
use crate::checkpoint::pickle::{Made, Vocabulary};

/// A name on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`: (storage, offset, size, stride, ..).
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: (tensor, ..).
    RebuildParameter,
    /// A storage class, which says how an element is stored.
    Storage(Element),
    /// A class of mappings: what it makes becomes a dictionary.
    Mapping,
    /// Anything that stands beside a state dict in an innocent checkpoint: what it makes is passed over.
    Inert(&'static str),
}

impl Vocabulary for Global {
    const LONGEST_STRING: usize = 1 << 20;

    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch" | "torch.storage" | "torch.cuda", storage) if storage.ends_with("Storage") => {
                element(storage).map(Global::Storage)
            }
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Some(Global::Mapping),
            ("builtins" | "__builtin__", "dict") => Some(Global::Mapping),
            _ => INERT
                .iter()
                .find(|(m, names)| *m == module && names.contains(&name))
                .map(|(m, _)| Global::Inert(m)),
        }
    }

    fn called(self) -> Result<Made, Fault> {
        match self {
            Self::RebuildTensor | Self::RebuildParameter => Ok(Made::Call),
            Self::Mapping => Ok(Made::Mapping),
            Self::Inert(_) => Ok(Made::Nothing),
            Self::Storage(_) => Err(Fault::Unsupported(
                "holds a storage by value, expected tensors of storages beside it".into(),
            )),
        }
    }
}

fn element(storage: &str) -> Option<Element> {
    Some(match storage {
        "FloatStorage" => Element::F32,
        "DoubleStorage" => Element::F64,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::Bf16,
        "LongStorage" => Element::I64,
        "IntStorage" => Element::I32,
        "ShortStorage" => Element::I16,
        "CharStorage" => Element::I8,
        "ByteStorage" => Element::U8,
        "BoolStorage" => Element::Bool,
        _ => return None,
    })
}

/// Modules and their names that mean nothing to weights.
const INERT: &[(&str, &[&str])] = &[
    ("argparse", &["Namespace"]),
    (
        "builtins",
        &["bool", "bytearray", "complex", "float", "frozenset", "int", "list", "set", "str", "tuple"],
    ),
    (
        "__builtin__",
        &["bool", "complex", "float", "frozenset", "int", "list", "long", "set", "str", "unicode"],
    ),
    ("_codecs", &["encode"]),
    ("datetime", &["date", "datetime", "timedelta"]),
    ("pathlib", &["Path", "PosixPath", "PurePosixPath", "WindowsPath"]),
    ("numpy", &["dtype", "ndarray", "bool_", "float32", "float64", "int32", "int64"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    (
        "torch",
        &[
            "Size",
            "device",
            "float16",
            "float32",
            "float64",
            "bfloat16",
            "int64",
            "FloatTensor",
            "DoubleTensor",
            "HalfTensor",
            "LongTensor",
            "IntTensor",
            "ShortTensor",
            "CharTensor",
            "ByteTensor",
        ],
    ),
    ("torch.cuda", &["FloatTensor", "DoubleTensor", "HalfTensor", "LongTensor", "IntTensor", "ByteTensor"]),
];
