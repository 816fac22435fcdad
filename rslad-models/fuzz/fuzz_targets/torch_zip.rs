//! The zip format from any bytes. Checksums keep most changes of a whole archive from getting far, so bytes
//! that begin no archive become the pickle of one whose storages are given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_models::checkpoint::torch;
use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"PK") {
        rslad_models_fuzz::check(bytes, torch::read(bytes));
    } else {
        let archive = archive(bytes);
        rslad_models_fuzz::check(&archive, torch::read(&archive));
    }
});

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: &str, data: &[u8]| {
        writer.start_file(name, stored).unwrap();
        writer.write_all(data).unwrap();
    };
    entry("archive/data.pkl", pickle);
    for (key, length) in [("0", 216), ("1", 8), ("2", 8), ("3", 32), ("4", 288)] {
        entry(&format!("archive/data/{key}"), &vec![0x3e; length]);
    }
    writer.finish().unwrap().into_inner()
}
