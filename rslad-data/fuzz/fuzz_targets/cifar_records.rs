//! The files of the archives, unpacked: binary records and pickles, of both data sets. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_data_fuzz::open_directory;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 4 {
        0 => open_directory("cifar10", "test_batch.bin", bytes),
        1 => open_directory("cifar100", "test.bin", bytes),
        2 => open_directory("cifar10", "test_batch", bytes),
        _ => open_directory("cifar100", "test", bytes),
    }
});
