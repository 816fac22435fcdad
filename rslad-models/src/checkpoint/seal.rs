//! Files that know whether they are whole: a SHA-256 of the file, kept within it.
//!
//! safetensors has no checksum, and a flipped bit of a weight is a weight like any other. The metadata
//! of our files therefore holds a field `seal`; the digest there is that of the file with 64 zeros in
//! its place.

use sha2::{Digest, Sha256};
use std::ops::Range;

/// What the field holds before the file is sealed.
pub const OPEN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The field as it stands in a safetensors header, where metadata is JSON within JSON.
const FIELD: &[u8] = br#"\"seal\":\""#;

/// What a file's seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Not a byte has changed since it was sealed.
    Whole,
    /// It was changed or cut.
    Broken,
    /// It has none.
    Absent,
}

/// Seals a safetensors file whose metadata has a field `seal` that holds [`OPEN`].
///
/// # Panics
/// When there is no such field.
pub fn close(mut bytes: Vec<u8>) -> Vec<u8> {
    let place = place(&bytes).expect("the metadata has a field `seal`");
    let digest = digest(&bytes, place.clone());
    bytes[place].copy_from_slice(digest.as_bytes());
    bytes
}

/// Compares a file with its seal.
pub fn check(bytes: &[u8]) -> Seal {
    let Some(place) = place(bytes) else { return Seal::Absent };
    match bytes[place.clone()] == *digest(bytes, place).as_bytes() {
        true => Seal::Whole,
        false => Seal::Broken,
    }
}

/// Where the digest stands.
fn place(bytes: &[u8]) -> Option<Range<usize>> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?.min(bytes.len());
    let start = 8 + bytes[8..end].windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    (start + OPEN.len() <= end).then(|| start..start + OPEN.len())
}

fn digest(bytes: &[u8], place: Range<usize>) -> String {
    let mut hash = Sha256::new();
    hash.update(&bytes[..place.start]);
    hash.update(OPEN);
    hash.update(&bytes[place.end..]);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
