//! A checkpoint of ours from any bytes: an error or a network, nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_models::Network;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let _ = Network::from_bytes(bytes, Path::new("fuzzed"));
});
