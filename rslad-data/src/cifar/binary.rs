//! The binary files: records of one fixed size, the label or labels first, then the red, the green and
//! the blue plane, each row by row.

use super::official::is_published;
use super::part::Part;
use super::{Cifar, IMAGE};
use crate::error::{Error, Result};
use crate::hash::Hashed;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Reads the files of a split, in their order.
pub(super) fn read_files(set: Cifar, files: &[PathBuf]) -> Result<Vec<Part>> {
    let read = |path: &PathBuf| {
        let file = File::open(path).map_err(Error::reading(path))?;
        let mut reader = Hashed::new(BufReader::with_capacity(1 << 16, file));
        let mut part = read(set, path, &mut reader)?;
        if !is_published(&reader.sha256().map_err(Error::reading(path))?) {
            part.unknown.push(path.display().to_string());
        }
        Ok(part)
    };
    files.iter().map(read).collect()
}

/// Reads records until the end; `path` names the file in errors.
pub(crate) fn read(set: Cifar, path: &Path, reader: &mut dyn Read) -> Result<Part> {
    let mut part = Part::default();
    let mut labels = vec![0; if set == Cifar::Ten { 1 } else { 2 }];
    let size = labels.len() + IMAGE;
    loop {
        let record = part.labels.len();
        let begun = fill(reader, &mut labels).map_err(Error::reading(path))?;
        if begun == 0 {
            return Ok(part);
        }
        let rest = reader.take(IMAGE as u64).read_to_end(&mut part.images).map_err(Error::reading(path))?;
        if begun + rest < size {
            let message =
                format!("record {record} has {} bytes, expected {size}; wholly copied?", begun + rest);
            return Err(Error::file(path, message));
        }
        let (label, coarse) = match labels[..] {
            [coarse, fine] => (fine.into(), Some(coarse.into())),
            _ => (labels[0].into(), None),
        };
        if let Some(problem) = Part::label_problem(set, label, coarse) {
            return Err(Error::file(path, format!("record {record} has {problem}")));
        }
        part.labels.push(label as u32);
        part.coarse.extend(coarse.map(|label| label as u32));
    }
}

/// Fills a buffer as far as the reader goes; says how far.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}
