//! Parquet files, of both data sets. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_data_fuzz::open_file;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let set = if which & 1 == 0 { "cifar10" } else { "cifar100" };
    open_file(set, "test-00000-of-00001.parquet", bytes);
});
