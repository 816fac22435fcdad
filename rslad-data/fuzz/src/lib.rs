//! What the targets share: bytes become a file, and the file a data set or an error.

use rslad_data::{Split, open};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A directory that lives as long as the process.
fn directory() -> PathBuf {
    thread_local!(static DIRECTORY: TempDir = TempDir::new().expect("a directory"));
    DIRECTORY.with(|directory| directory.path().to_owned())
}

/// Opens a data set at a file with these bytes.
pub fn open_file(set: &str, name: &str, bytes: &[u8]) {
    let path = directory().join(name);
    fs::write(&path, bytes).expect("a small file");
    let _ = open(&format!("{set}:{}", path.display()), Split::Test);
}

/// Opens a data set in a directory that holds this file alone.
pub fn open_directory(set: &str, name: &str, bytes: &[u8]) {
    let folder = directory().join(set).join(name);
    fs::create_dir_all(&folder).expect("a directory");
    fs::write(folder.join(name), bytes).expect("a small file");
    let _ = open(&format!("{set}:{}", folder.display()), Split::Test);
}
