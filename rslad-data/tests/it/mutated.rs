//! Thousands of damaged files of every form: each is an error or a data set, never a panic, and none takes long.
//!
//! The mutations are drawn from a fixed seed, so a failure repeats. `RSLAD_MUTATIONS=N` makes N of each form.

use super::published::{Set, archive};
use flate2::Compression;
use flate2::write::GzEncoder;
use rslad_data::{Split, open};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A place to change: mostly near an end, where the headers are.
fn place(draws: &mut Draws, len: usize) -> usize {
    match draws.below(4) {
        0 => draws.below(len),
        1 => len - 1 - draws.below(len.min(600)),
        _ => draws.below(len.min(600)),
    }
}

/// One to four changes: bits, numbers that tempt a reader, cuts, repetitions.
fn mutate(bytes: &[u8], draws: &mut Draws) -> Vec<u8> {
    const NUMBERS: [u64; 6] = [0, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let mut out = bytes.to_vec();
    for _ in 0..=draws.below(4) {
        if out.is_empty() {
            return out;
        }
        let at = place(draws, out.len());
        match draws.below(6) {
            0 => out[at] ^= 1 << draws.below(8),
            1 => out[at] = draws.next() as u8,
            2 => {
                let number = NUMBERS[draws.below(6)].to_le_bytes();
                let end = out.len().min(at + [1, 2, 4, 8][draws.below(4)]);
                let n = end - at;
                out[at..end].copy_from_slice(&number[..n]);
            }
            3 => out.truncate(at),
            4 => {
                let end = out.len().min(at + 1 + draws.below(64));
                out.drain(at..end);
            }
            _ => {
                let end = out.len().min(at + 1 + draws.below(64));
                let again = out[at..end].to_vec();
                out.splice(at..at, again);
            }
        }
    }
    out
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(vec![], Compression::none());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// How a mutated file is written, and under which name.
type Form = (&'static str, Vec<u8>, fn(&[u8]) -> Vec<u8>);

/// Opens mutations of a file; says how many were data sets all the same.
fn check(set: Set, (name, whole, write): &Form, seed: u64) -> usize {
    let n = std::env::var("RSLAD_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let dir = TempDir::new().unwrap();
    let spec = format!("{}:{}", set.name(), dir.path().display());
    let (mut draws, mut whole_ones) = (Draws(seed), 0);
    for i in 0..n {
        fs::write(dir.path().join(name), write(&mutate(whole, &mut draws))).unwrap();
        let clock = Instant::now();
        whole_ones += usize::from(open(&spec, Split::Test).is_ok());
        let took = clock.elapsed();
        assert!(took < Duration::from_secs(5), "{set:?} {name}, mutation {i} took {took:?}");
    }
    whole_ones
}

#[test]
fn a_mutated_file_is_an_error_or_a_data_set() {
    for set in [Set::Cifar10, Set::Cifar100] {
        let stem = if set == Set::Cifar10 { "test_batch" } else { "test" };
        let of = |ending| set.files(ending).into_iter().rev().take(1).collect::<Vec<_>>();
        let tar = |ending| unpacked(&archive("folder", &of(ending)));
        let name = if set == Set::Cifar10 { "cifar-10-binary.tar.gz" } else { "cifar-100-binary.tar.gz" };
        let binary = if set == Set::Cifar10 { "test_batch.bin" } else { "test.bin" };
        let forms: Vec<Form> = vec![
            (binary, set.records(0..2), <[u8]>::to_vec),
            (stem, set.pickle(0..2), <[u8]>::to_vec),
            (name, archive("folder", &of(".bin")), <[u8]>::to_vec),
            (name, tar(".bin"), packed),
            (name, tar(""), packed),
            #[cfg(feature = "parquet")]
            (
                "test-00000-of-00001.parquet",
                super::published::parquet(set, 0..3, image::ImageFormat::Png),
                <[u8]>::to_vec,
            ),
            #[cfg(feature = "parquet")]
            (
                "test-00000-of-00001.parquet",
                super::published::parquet(set, 0..3, image::ImageFormat::WebP),
                <[u8]>::to_vec,
            ),
        ];
        let whole: usize = forms.iter().enumerate().map(|(i, form)| check(set, form, i as u64)).sum();
        assert!(whole > 0, "no mutation left a file readable: they do not reach far");
    }
}

/// What the fuzzers found worth keeping, opened as their targets open it: a panic here is one they would find.
#[test]
fn the_corpus_of_the_fuzzers_is_read() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let targets: &[&str] = match cfg!(feature = "parquet") {
        true => &["cifar_records", "cifar_archive", "cifar_parquet"],
        false => &["cifar_records", "cifar_archive"],
    };
    for target in targets {
        let mut whole = 0;
        for file in fs::read_dir(corpus.join(target)).unwrap() {
            let input = fs::read(file.unwrap().path()).unwrap();
            let Some((&choice, bytes)) = input.split_first() else { continue };
            let (set, even) = (["cifar10", "cifar100"][usize::from(choice & 1)], choice & 1 == 0);
            let (name, bytes) = match *target {
                "cifar_parquet" => ("test-00000-of-00001.parquet", bytes.to_vec()),
                "cifar_archive" if choice & 2 == 0 => ("archive.tar.gz", bytes.to_vec()),
                "cifar_archive" => ("archive.tar.gz", packed(bytes)),
                _ if choice & 2 == 0 => (if even { "test_batch.bin" } else { "test.bin" }, bytes.to_vec()),
                _ => (if even { "test_batch" } else { "test" }, bytes.to_vec()),
            };
            let dir = TempDir::new().unwrap();
            let place = dir.path().join(name);
            fs::write(&place, bytes).unwrap();
            let place = if *target == "cifar_records" { dir.path() } else { &place };
            whole += usize::from(open(&format!("{set}:{}", place.display()), Split::Test).is_ok());
        }
        assert!(whole > 0, "{target}: the corpus never reaches the end of the reader");
    }
}
