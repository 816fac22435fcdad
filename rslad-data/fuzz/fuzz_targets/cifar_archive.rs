//! Archives. The first byte chooses whether the bytes are the packed file, or a tar that is packed here: so
//! that the walk is reached, and not only the checksums of gzip.
#![no_main]

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use rslad_data_fuzz::open_file;
use std::io::Write;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let set = if which & 1 == 0 { "cifar10" } else { "cifar100" };
    if which & 2 == 0 {
        return open_file(set, "archive.tar.gz", bytes);
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::none());
    packer.write_all(bytes).expect("memory");
    open_file(set, "archive.tar.gz", &packer.finish().expect("memory"));
});
