//! People's own data as pictures: one folder per class, its name the class's.

use crate::dataset::{Contents, Dataset, Split};
use crate::error::{Error, Result};
use crate::picture;
use crate::pixels::Pixels;
use std::path::{Path, PathBuf};

/// The pictures below a directory, PNG or WebP, all of one size: classes by the names of the folders,
/// pictures by the names of the files, both in the order of their bytes.
///
/// A directory with the folders `train` and `test` and no other holds both splits; any other is one split,
/// and whichever is asked for is this one.
///
/// # Errors
/// When there is no picture, one cannot be decoded, or two differ in size or in gray against color.
pub fn folder(path: &Path, split: Split) -> Result<Dataset> {
    let mut root = path.to_owned();
    let mut classes = folders(&root)?;
    let names: Vec<String> = classes.iter().map(|class| name(class)).collect();
    if names == ["test", "train"] {
        root = root.join(split.to_string());
        classes = folders(&root)?;
    }
    if classes.is_empty() {
        return Err(Error::file(&root, "has no folders, expected one for each class with its pictures"));
    }
    let (mut values, mut labels, mut first) = (Vec::new(), Vec::new(), None);
    for (label, class) in classes.iter().enumerate() {
        for file in files(class)? {
            let bytes = std::fs::read(&file).map_err(Error::reading(&file))?;
            let picture = picture::decode(&bytes, None).map_err(|message| Error::file(&file, message))?;
            let (of, shape) = first.get_or_insert_with(|| (file.clone(), picture.shape));
            if picture.shape != *shape {
                let message = format!(
                    "is {:?} (channels, height, width), expected {shape:?} as {}",
                    picture.shape,
                    of.display()
                );
                return Err(Error::file(&file, message));
            }
            values.extend(picture.values);
            labels.push(label as u32);
        }
    }
    let (_, shape) =
        first.ok_or_else(|| Error::file(&root, "its folders have no files, expected pictures"))?;
    Dataset::new(Contents {
        name: "folder".to_owned(),
        split,
        pixels: Pixels::Levels { values, full_scale: 255 },
        shape,
        labels,
        class_names: classes.iter().map(|class| name(class)).collect(),
    })
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(path)?.into_iter().filter(|entry| entry.is_dir()).collect())
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(path)?.into_iter().filter(|entry| entry.is_file()).collect())
}

/// What lies in a directory, but for hidden files, in the order of the names.
fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
    let entries = entries.map_err(Error::reading(path))?.into_iter().map(|entry| entry.path());
    let mut entries: Vec<PathBuf> = entries.filter(|entry| !name(entry).starts_with('.')).collect();
    entries.sort();
    Ok(entries)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
