//! Randomness as a function of (seed, purpose, epoch, example id, restart).
//!
//! Every draw of the project comes from here: initial weights, shuffles, crops, attack starts. A draw
//! depends on what it is for and not on what was drawn before it, so results do not move with the
//! batch size, the number of threads, sharding or a resume. candle's own generator cannot be seeded on
//! the CPU and is never called.
//!
//! A stream is ChaCha8: the key holds seed, purpose, epoch and restart in full (no hashing, hence no
//! collisions between seeds or epochs), the stream number is the example id.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream of draws is for: two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Purpose(u64);

impl Purpose {
    /// The order of the examples in an epoch.
    pub const SHUFFLE: Self = Self::named("shuffle");
    /// Crop offsets and flips.
    pub const AUGMENT: Self = Self::named("augment");
    /// The held-out part of a training set.
    pub const SPLIT: Self = Self::named("split");
    /// The start of an inner maximization.
    pub const INNER_START: Self = Self::named("inner start");

    /// The purpose with this name (FNV-1a of its bytes): `Purpose::named("attack/pgd_sat")`.
    pub const fn named(name: &str) -> Self {
        Self(fnv1a(name.as_bytes(), 0xcbf2_9ce4_8422_2325))
    }

    /// A purpose within this one, such as the target class of a targeted attack.
    pub const fn within(self, part: &str) -> Self {
        Self(fnv1a(part.as_bytes(), fnv1a(b"/", self.0)))
    }
}

const fn fnv1a(bytes: &[u8], mut hash: u64) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Everything a stream depends on but the example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The seed of the run.
    pub seed: u64,
    /// What the draws are for.
    pub purpose: Purpose,
    /// The epoch, from 1; 0 outside training.
    pub epoch: u64,
    /// The restart of an attack, from 0.
    pub restart: u64,
}

impl Key {
    /// A key outside training: epoch 0, restart 0.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { seed, purpose, epoch: 0, restart: 0 }
    }

    /// The same key in this epoch.
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// The same key in this restart.
    pub fn restart(self, restart: u64) -> Self {
        Self { restart, ..self }
    }

    /// The stream of one example (or of another thing numbered within the purpose).
    pub fn stream(&self, id: u64) -> Stream {
        let mut bytes = [0; 32];
        let words = [self.seed, self.purpose.0, self.epoch, self.restart];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(bytes);
        generator.set_stream(id);
        Stream(generator)
    }

    /// The numbers `0..n` in a random order that depends on nothing but this key: the place of a number
    /// is given by its own draw.
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> = (0..n).map(|i| (self.stream(i as u64).bits(), i)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, i)| i).collect()
    }
}

/// A sequence of draws.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number in [0, 1) with 24 random bits, so exact in f32.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// A uniform number in (-1, 1), symmetric about 0, which never comes up: (2k + 1) / 2^24 - 1.
    pub fn symmetric(&mut self) -> f32 {
        let odd = 2 * (self.0.next_u32() >> 9) as i32 + 1;
        (odd - (1 << 23)) as f32 * (1.0 / (1 << 23) as f32)
    }

    /// A standard normal number (Box-Muller in f64 on portable elementary functions).
    pub fn normal(&mut self) -> f32 {
        let unit = |bits: u64| (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(self.bits()))); // 1 - u is in (0, 1]
        (radius * libm::cos(2.0 * std::f64::consts::PI * unit(self.bits()))) as f32
    }

    /// A uniform integer in `0..n`, without bias.
    ///
    /// # Panics
    /// When `n` is 0: there is nothing to choose from.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range has no elements");
        let zone = u32::MAX - (u32::MAX - n + 1) % n; // the largest accepted draw: a multiple of n, less 1
        loop {
            let draw = self.0.next_u32();
            if draw <= zone {
                return draw % n;
            }
        }
    }

    /// True or false, evenly.
    pub fn coin(&mut self) -> bool {
        self.0.next_u32() >> 31 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(7, Purpose::AUGMENT)
    }

    #[test]
    fn draws_are_pinned() {
        // A change of these numbers changes every result of the project.
        let mut s = key().epoch(3).stream(41);
        assert_eq!(s.bits(), PINNED_BITS);
        assert_eq!((s.unit(), s.symmetric(), s.normal(), s.below(10)), PINNED_DRAWS);
    }
    const PINNED_BITS: u64 = 1007593421567003043;
    const PINNED_DRAWS: (f32, f32, f32, u32) = (0.88851506, 0.51322687, -0.7663435, 4);

    #[test]
    fn every_part_of_the_key_changes_the_stream() {
        let base = key().stream(0).bits();
        let others = [
            Key { seed: 8, ..key() }.stream(0),
            Key { purpose: Purpose::SHUFFLE, ..key() }.stream(0),
            key().epoch(1).stream(0),
            key().restart(1).stream(0),
            key().stream(1),
            Key { purpose: Purpose::AUGMENT.within("t2"), ..key() }.stream(0),
        ];
        for mut other in others {
            assert_ne!(other.bits(), base);
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 20_000;
        let mut s = key().stream(0);
        let check = |name: &str, draws: Vec<f32>, mean: f64, variance: f64| {
            let m = draws.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let v = draws.iter().map(|&v| (f64::from(v) - m).powi(2)).sum::<f64>() / n as f64;
            assert!((m - mean).abs() < 0.02, "{name}: mean {m}");
            assert!((v - variance).abs() < 0.05 * variance, "{name}: variance {v}");
        };
        check("unit", (0..n).map(|_| s.unit()).collect(), 0.5, 1.0 / 12.0);
        check("symmetric", (0..n).map(|_| s.symmetric()).collect(), 0.0, 1.0 / 3.0);
        check("normal", (0..n).map(|_| s.normal()).collect(), 0.0, 1.0);
        check("below", (0..n).map(|_| s.below(9) as f32).collect(), 4.0, 80.0 / 12.0);
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut p = key().permutation(1000);
        assert_ne!(p, (0..1000).collect::<Vec<_>>());
        p.sort_unstable();
        assert_eq!(p, (0..1000).collect::<Vec<_>>());
    }
}
