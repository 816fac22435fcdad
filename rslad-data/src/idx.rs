//! The IDX format of MNIST and its kin: a magic number, the sizes, the bytes.
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database: the type byte 8 is unsigned bytes, the
//! fourth byte is the number of dimensions, sizes are big-endian. Files come packed by gzip or not.

use crate::error::{Error, Result};
use crate::hash::Hashed;
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

const MAX_BYTES: usize = 1 << 28; // the largest of these files unpacks to 47 MB

/// An array of bytes.
#[derive(Debug)]
pub(crate) struct Idx<const D: usize> {
    pub(crate) shape: [usize; D],
    pub(crate) values: Vec<u8>,
    /// The SHA-256 of the file as it is.
    pub(crate) sha256: String,
}

/// Reads an array of `D` dimensions.
///
/// # Errors
/// When the file is another one, or shorter or longer than its sizes say.
pub(crate) fn read<const D: usize>(path: &Path) -> Result<Idx<D>> {
    let open = || File::open(path).map(BufReader::new).map_err(Error::reading(path));
    let mut magic = [0; 2];
    let packed = open()?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let mut file = Hashed::new(open()?);
    let (shape, values) = match packed {
        true => array(path, &mut GzDecoder::new(&mut file))?,
        false => array(path, &mut file)?,
    };
    let sha256 = file.sha256().map_err(Error::reading(path))?;
    Ok(Idx { shape, values, sha256 })
}

fn array<const D: usize>(path: &Path, reader: &mut dyn Read) -> Result<([usize; D], Vec<u8>)> {
    let wrong = |message: String| Error::file(path, message);
    let mut word = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(|e| wrong(format!("ends within its header ({e})")))?;
        Ok::<_, Error>(u32::from_be_bytes(bytes))
    };
    let (magic, expected) = (word()?, 0x800 + D as u32);
    if magic != expected {
        return Err(wrong(format!("begins with {magic:#010x}, expected {expected:#010x} (IDX, bytes)")));
    }
    let mut shape = [0; D];
    for side in &mut shape {
        *side = word()? as usize;
    }
    let n = shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side)).filter(|n| *n <= MAX_BYTES);
    let n = n.ok_or_else(|| wrong(format!("says it is {shape:?}, expected at most {MAX_BYTES} values")))?;
    let mut values = Vec::new();
    let read = reader.take(n as u64 + 1).read_to_end(&mut values);
    read.map_err(|error| wrong(format!("is damaged after {} values ({error})", values.len())))?;
    if values.len() != n {
        let got = if values.len() > n { "more".to_owned() } else { values.len().to_string() };
        return Err(wrong(format!("has {got} values, expected {n} as its header says {shape:?}")));
    }
    Ok((shape, values))
}
