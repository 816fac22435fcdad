//! Parquet's hybrid of runs and packed bits, in which levels and places in a dictionary are written.

use super::{Result, damaged};

/// The first `n` numbers of so many bits each. A run is a few bytes however long, so the caller bounds `n`.
pub(super) fn numbers(mut bytes: &[u8], bits: u32, n: usize) -> Result<Vec<u32>> {
    if bits > 32 {
        return Err(damaged(format!("numbers of {bits} bits")));
    }
    let mut numbers = Vec::new();
    while numbers.len() < n {
        let left = n - numbers.len();
        let head = varint(&mut bytes)?;
        let length = (head >> 1) as usize;
        if length == 0 {
            return Err(damaged("a run of nothing"));
        }
        if head & 1 == 0 {
            let value = take(&mut bytes, bits.div_ceil(8) as usize)?;
            let value = value.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            numbers.resize(numbers.len() + length.min(left), value);
        } else {
            // Eights of numbers; some writers cut the last of them short.
            let wanted = length.saturating_mul(8).min(left);
            let size = (wanted * bits as usize).div_ceil(8);
            let whole = length.saturating_mul(bits as usize).min(bytes.len());
            let packed = bytes.get(..size).ok_or_else(ended)?;
            numbers.extend((0..wanted).map(|i| unpack(packed, bits, i)));
            bytes = &bytes[whole..];
        }
    }
    Ok(numbers)
}

/// Number `i` of numbers of so many bits, from the lowest bit of the first byte on.
fn unpack(packed: &[u8], bits: u32, i: usize) -> u32 {
    let first = i * bits as usize;
    let mut wide = [0; 8];
    let from = &packed[(first / 8).min(packed.len())..];
    let n = from.len().min(8);
    wide[..n].copy_from_slice(&from[..n]);
    let mask = (1u64 << bits) - 1;
    (u64::from_le_bytes(wide) >> (first % 8) & mask) as u32 // 32 bits and a shift of 7 fit
}

fn varint(bytes: &mut &[u8]) -> Result<u32> {
    let mut n = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        n |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(damaged("a run without end"))
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n).ok_or_else(ended)?;
    *bytes = rest;
    Ok(taken)
}

fn ended() -> String {
    damaged("a page with fewer values than it says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_bits_are_read_as_the_specification_writes_them() {
        let check = |bytes: &[u8], bits, expected: &[u32]| {
            assert_eq!(numbers(bytes, bits, expected.len()).as_deref(), Ok(expected));
        };
        check(&[0x0a, 7], 3, &[7; 5]);
        check(&[0x03, 0x88, 0xc6, 0xfa], 3, &[0, 1, 2, 3, 4, 5, 6, 7]); // the example of Encodings.md
        check(&[0x03, 0x88, 0xc6, 0xfa, 0x04, 2], 3, &[0, 1, 2, 3, 4, 5, 6, 7, 2, 2]);
        check(&[0x03, 0x88, 0xc6], 3, &[0, 1, 2, 3, 4]); // cut short, as some writers do
        check(&[0x04, 0x34, 0x12], 16, &[0x1234; 2]);
        check(&[0x03, 1, 0, 0, 0x80], 32, &[0x8000_0001]);
        check(&[0x06], 0, &[0; 3]); // a dictionary of one value
        check(&[], 8, &[]);
    }

    #[test]
    fn what_is_not_there_is_no_number() {
        for (bytes, bits) in [
            (&[][..], 3),
            (&[0x0a], 3),
            (&[0x03], 3),
            (&[0x00, 0x00], 3),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 3),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f, 1], 32),
            (&[0x0a, 7], 33),
        ] {
            assert!(numbers(bytes, bits, 9).is_err(), "{bytes:?}");
        }
    }
}
