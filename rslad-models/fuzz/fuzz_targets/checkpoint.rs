//! A checkpoint of ours from any bytes: an error or a network, nothing else. Almost every change breaks the
//! seal, so a file with a broken one is read again with it mended.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_models::Network;
use rslad_models::checkpoint::seal::{self, Seal};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let read = |bytes: &[u8]| drop(Network::from_bytes(bytes, Path::new("fuzzed")));
    read(bytes);
    if seal::check(bytes) == Seal::Broken {
        read(&seal::close(bytes.to_vec()));
    }
});
