//! The official archives, read as they stream by: nothing is unpacked to disk, and only the files that
//! are asked for are looked into.

use super::official::is_published;
use super::part::Part;
use super::{Cifar, binary, python};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::walk::walk;
use std::fs::File;
use std::path::Path;

/// Reads a split from an archive.
pub(super) fn read_file(set: Cifar, path: &Path, split: Split) -> Result<Vec<Part>> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let members = set.members(split);
    let mut parts: Vec<Option<Part>> = members.iter().map(|_| None).collect();
    let sha256 = walk(path, file, &mut |name, reader| {
        let Some((at, form)) = member(members, name) else { return Ok(()) };
        let inside = path.join(name); // for messages: cifar-10-binary.tar.gz/data_batch_1.bin
        if parts[at].is_some() {
            return Err(Error::file(&inside, "comes twice in the archive, expected once"));
        }
        parts[at] = Some(match form {
            Form::Binary => binary::read(set, &inside, reader)?,
            Form::Python => python::read(set, &inside, reader)?,
        });
        Ok(())
    })?;
    let missing = members.iter().zip(&parts).find(|(_, part)| part.is_none());
    if let Some((name, _)) = missing {
        let message = format!("holds no {name}.bin and no {name}, expected an archive of {}", set.name());
        return Err(Error::file(path, message));
    }
    let mut parts: Vec<Part> = parts.into_iter().flatten().collect();
    if let [first, ..] = &mut parts[..]
        && !is_published(&sha256)
    {
        first.unknown.push(path.display().to_string());
    }
    Ok(parts)
}

/// How a member of an archive is written.
enum Form {
    Binary,
    Python,
}

/// Which of the wanted files an entry is.
fn member(members: &[&str], name: &str) -> Option<(usize, Form)> {
    let name = name.rsplit('/').next()?;
    let (stem, form) = match name.strip_suffix(".bin") {
        Some(stem) => (stem, Form::Binary),
        None => (name, Form::Python),
    };
    Some((members.iter().position(|member| *member == stem)?, form))
}
