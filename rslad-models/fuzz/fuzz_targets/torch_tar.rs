//! The tar format from any bytes: as a whole archive, or cut into its three members, which spares the
//! fuzzer the checksums of their headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rslad_models::checkpoint::torch;

fuzz_target!(|bytes: &[u8]| {
    if bytes.get(257..262) == Some(b"ustar") {
        rslad_models_fuzz::check(bytes, torch::read(bytes));
    } else if let Some(archive) = archive(bytes) {
        rslad_models_fuzz::check(&archive, torch::read(&archive));
    }
});

/// Two lengths in two bytes each, then `storages`, `tensors` and `pickle`.
fn archive(bytes: &[u8]) -> Option<Vec<u8>> {
    let (lengths, rest) = bytes.split_first_chunk::<4>()?;
    let length = |low: usize| usize::from(u16::from_le_bytes([lengths[low], lengths[low + 1]]));
    let (storages, rest) = rest.split_at_checked(length(0))?;
    let (tensors, pickle) = rest.split_at_checked(length(2))?;
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in [("storages", storages), ("tensors", tensors), ("pickle", pickle)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, data).ok()?;
    }
    builder.into_inner().ok()
}
