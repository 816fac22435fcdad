//! The processes that train one student together: the seam between the trainer and what carries words
//! between them.
//!
//! Every rank runs the same program on the same recipe and data, and holds the same weights. Between two
//! calls of the seam a rank may do what it likes; all ranks make the same calls in the same order. A rank
//! that fails by itself must take the others with it, which is its launcher's business: the seam has no
//! time-outs and no elasticity, a run that lost a rank ends and is continued from its last state.

use crate::error::{Error, Result};
use candle_core::Tensor;
use rslad_models::Network;
use sha2::{Digest, Sha256};

/// What the trainer asks of whatever connects its ranks.
pub trait Reduce {
    /// Which one this is, from 0. Rank 0 alone writes files.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Adds up a row of f32 over the ranks, and leaves the sum where the values were. All ranks end with
    /// the same bits; other numbers of ranks may give other bits.
    ///
    /// # Errors
    /// When a rank is gone.
    fn sum(&self, values: Tensor) -> Result<Tensor>;

    /// What each rank has given, in the order of ranks, of any length each.
    ///
    /// # Errors
    /// When a rank is gone.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// One process, with nobody to talk to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Reduce for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum(&self, values: Tensor) -> Result<Tensor> {
        Ok(values)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }
}

/// Ends all ranks alike where one of them differs in something that all must share.
///
/// # Errors
/// Names what differs, the ranks that have it otherwise than most, and both values.
pub fn agree(ranks: &dyn Reduce, what: &[(&str, String)]) -> Result<()> {
    let own: Vec<&str> = what.iter().map(|(_, value)| value.as_str()).collect();
    let all = ranks.gather(own.join("\n").as_bytes())?;
    let all: Vec<String> = all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    let values: Vec<Vec<&str>> = all.iter().map(|text| text.split('\n').collect()).collect();
    for (i, (name, _)) in what.iter().enumerate() {
        let of = |rank: usize| values[rank].get(i).copied().unwrap_or("nothing");
        if let Some(message) = odd(name, &(0..values.len()).map(of).collect::<Vec<_>>()) {
            return Err(Error::Ranks(message));
        }
    }
    Ok(())
}

/// What is said where the values of the ranks are not all the same.
fn odd(name: &str, values: &[&str]) -> Option<String> {
    let times = |value: &str| values.iter().filter(|other| **other == value).count();
    let usual = values.iter().rev().max_by_key(|value| times(value))?; // of two that are as usual, rank 0's
    let others: Vec<usize> = (0..values.len()).filter(|&rank| values[rank] != *usual).collect();
    let first = *others.first()?;
    let ranks: Vec<String> = others.iter().map(usize::to_string).collect();
    let word = if others.len() == 1 { "rank" } else { "ranks" };
    Some(format!(
        "{word} {} of {} differ in {name}: {} where the others have {}; start all with the same",
        ranks.join(", "),
        values.len(),
        short(values[first]),
        short(usual)
    ))
}

/// A hash by its head, and anything else as it is.
fn short(value: &str) -> &str {
    let is_hash = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { &value[..12] } else { value }
}

/// Whether it is so on any rank.
pub(crate) fn any(ranks: &dyn Reduce, so: bool) -> Result<bool> {
    Ok(ranks.gather(&[u8::from(so)])?.iter().any(|answer| answer == &[1]))
}

/// What rank 0 has given; the others give nothing.
pub(crate) fn of_first(ranks: &dyn Reduce, own: &[u8]) -> Result<Vec<u8>> {
    let own = if ranks.rank() == 0 { own } else { &[] };
    Ok(ranks.gather(own)?.swap_remove(0))
}

/// That all ranks hold the same weights and statistics, to the bit.
pub(crate) fn same_weights(ranks: &dyn Reduce, student: &Network) -> Result<()> {
    match ranks.ranks() {
        1 => Ok(()),
        _ => agree(ranks, &[("weights", weights_hash(student)?)]),
    }
}

/// The hash of all tensors of a network.
fn weights_hash(student: &Network) -> Result<String> {
    let mut hash = Sha256::new();
    for (_, tensor) in student.params().state_dict()? {
        match tensor.dtype() {
            candle_core::DType::I64 => hash.update(tensor.to_scalar::<i64>()?.to_le_bytes()),
            _ => hash.update(bytes_of(&tensor.flatten_all()?.to_vec1::<f32>()?)),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Numbers as bytes.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
    bytes
}

/// Numbers from bytes.
pub(crate) fn values_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_rank_is_named() {
        let check = |values: &[&str], expected: Option<&str>| {
            assert_eq!(odd("recipe", values).as_deref(), expected, "{values:?}");
        };
        check(&["a", "a"], None);
        check(
            &["a", "b"],
            Some("rank 1 of 2 differ in recipe: b where the others have a; start all with the same"),
        );
        check(
            &["b", "a", "a"],
            Some("rank 0 of 3 differ in recipe: b where the others have a; start all with the same"),
        );
        check(
            &["a", "b", "a", "c"],
            Some("ranks 1, 3 of 4 differ in recipe: b where the others have a; start all with the same"),
        );
    }

    #[test]
    fn numbers_come_back_from_bytes() {
        let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY];
        let back = values_of(&bytes_of(&values));
        assert!(back.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
