//! Which of the published forms lies at a place.

use super::Cifar;
use crate::dataset::Split;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the images of a split are; files in the order of the images.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// `.bin` files.
    Binary(Vec<PathBuf>),
    /// Pickles.
    Python(Vec<PathBuf>),
    /// A `.tar.gz` of either.
    Archive(PathBuf),
    /// Parquet files.
    Parquet(Vec<PathBuf>),
}

/// The names that a data set was published under.
struct Published {
    binaries: &'static str,
    pickles: &'static str,
    archives: [&'static str; 2],
    /// Where the hub's parquet files lie, below the folder of the data set.
    parquet: [&'static str; 3],
}

fn published(set: Cifar) -> Published {
    match set {
        Cifar::Ten => Published {
            binaries: "cifar-10-batches-bin",
            pickles: "cifar-10-batches-py",
            archives: ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"],
            parquet: ["", "plain_text", "cifar10"],
        },
        Cifar::Hundred => Published {
            binaries: "cifar-100-binary",
            pickles: "cifar-100-python",
            archives: ["cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"],
            parquet: ["", "cifar100", "data"],
        },
    }
}

/// Finds a split in a directory, or takes an archive or a parquet file as it is. Unpacked files come
/// first: whoever has both has unpacked one to read it.
pub(super) fn find(set: Cifar, place: &Path, split: Split) -> Result<Route> {
    if place.is_file() {
        return of_file(place, split);
    }
    std::fs::read_dir(place).map_err(Error::reading(place))?; // so that a wrong path is told as such
    let published = published(set);
    let unpacked = |folder: &str, ending: &str| {
        let names: Vec<String> = set.members(split).iter().map(|name| format!("{name}{ending}")).collect();
        let folders = [place.to_owned(), place.join(folder)];
        let folder = folders.into_iter().find(|folder| folder.join(&names[0]).is_file())?;
        Some(all(&folder, &names))
    };
    if let Some(files) = unpacked(published.binaries, ".bin") {
        return files.map(Route::Binary);
    }
    if let Some(archive) = published.archives.map(|name| place.join(name)).into_iter().find(|p| p.is_file()) {
        return Ok(Route::Archive(archive));
    }
    if let Some(files) = unpacked(published.pickles, "") {
        return files.map(Route::Python);
    }
    for folder in published.parquet {
        let files = parquet_files(&place.join(folder), split);
        if !files.is_empty() {
            return Ok(Route::Parquet(files));
        }
    }
    let (name, [binary, python]) = (set.name(), published.archives);
    let first = set.members(split)[0];
    let expected = format!("{binary}, {python}, {first}.bin, {first} or {split}-*.parquet");
    let fix = format!("`rslad data fetch {name} --dir {}` gets it", place.display());
    Err(Error::file(place, format!("no {name} ({split}) here, expected {expected}; {fix}")))
}

/// What a file is by its first bytes, which no ending can belie.
fn of_file(path: &Path, split: Split) -> Result<Route> {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(Error::reading(path))?;
    match &magic[..read] {
        [0x1f, 0x8b, ..] => Ok(Route::Archive(path.to_owned())),
        b"PAR1" if is_of(path, split) => Ok(Route::Parquet(vec![path.to_owned()])),
        b"PAR1" => {
            let message =
                format!("holds one split, expected {split}-*.parquet for `{split}`; name its folder");
            Err(Error::file(path, message))
        }
        _ => {
            let message = "neither a .tar.gz nor a parquet file, expected an archive or a folder";
            Err(Error::file(path, message))
        }
    }
}

/// The parquet files of a split, in the order of their numbers.
fn parquet_files(folder: &Path, split: Split) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|p| is_of(p, split)).collect();
    files.sort();
    files
}

fn is_of(path: &Path, split: Split) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&format!("{split}-")) && name.ends_with(".parquet")
}

/// All files of a split, or which of them is missing.
fn all(folder: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    match paths.iter().find(|path| !path.is_file()) {
        Some(missing) => Err(Error::file(missing, format!("no such file, expected beside {}", names[0]))),
        None => Ok(paths),
    }
}
