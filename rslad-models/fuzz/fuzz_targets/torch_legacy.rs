//! The legacy format from any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_models::checkpoint::torch;

fuzz_target!(|bytes: &[u8]| rslad_models_fuzz::check(bytes, torch::read(bytes)));
