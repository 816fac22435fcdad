//! An evaluation of ten thousand examples takes the memory of its lanes: nothing that was found stays. In a
//! process of its own, so that no other test moves its memory.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use candle_core::{Device, Tensor};
use rslad_attacks::evaluate::Source;
use rslad_attacks::{Examples, Observer, Place, Protocol, Suite, Verdict};
use rslad_models::arch::ArchSpec;
use rslad_models::{Classifier, Frozen, Network, randomness};

const N: u64 = 10_000;

/// Images that are made when they are asked for, labelled as the network sees them so that all are attacked.
struct Made<'a>(&'a Frozen);

impl Source for Made<'_> {
    fn ids(&self) -> Vec<u64> {
        (0..N).collect()
    }

    fn examples(&self, rows: &[usize]) -> rslad_attacks::Result<Examples> {
        let key = randomness::Key::new(1, randomness::Purpose::named("test images"));
        let image = |&row: &usize| {
            let mut stream = key.stream(row as u64);
            std::iter::repeat_with(move || stream.unit()).take(28 * 28)
        };
        let pixels: Vec<f32> = rows.iter().flat_map(image).collect();
        let ids = rows.iter().map(|&row| row as u64).collect();
        let x = Tensor::from_vec(pixels, (rows.len(), 1, 28, 28), &Device::Cpu)?;
        let y = self.0.logits(&x)?.argmax(1)?;
        Ok(Examples { ids, x, y })
    }
}

/// Reads the resident memory whenever examples are decided.
#[derive(Default)]
struct Resident {
    decided: usize,
    kib: Vec<(usize, u64)>,
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Observer for Resident {
    fn verdicts(&mut self, _: &Place<'_>, verdicts: &[Verdict]) {
        self.decided += verdicts.len();
        self.kib.extend(resident_kib().map(|kib| (self.decided, kib)));
    }
}

#[test]
fn memory_is_flat_from_the_first_batch_to_the_last() {
    if resident_kib().is_none() {
        eprintln!("skipped: there is no /proc/self/status to read resident memory from");
        return;
    }
    let suite =
        "name = 'a'\nabout = 'b'\n[[column]]\nname = 'pgd'\nattack = 'pgd'\nsteps = 2\nstep_size = 'eps/2'
        start = 'uniform'\nclip_start = 'clip'\n[[column]]\nname = 'apgd'\nattack = 'apgd_ce'\niterations = 3
        restarts = 1\nrho = 0.75\neot = 1";
    let suite = Suite::parse("the test's suite", suite).unwrap();
    let arch =
        ArchSpec::parse("tiny_cnn", "classes = 10\nin_channels = 1\nnorm = 'none'\nwidth = 4").unwrap();
    let network = Network::new(&arch, 0).unwrap();
    let mut resident = Resident::default();
    let protocol = Protocol { suite: &suite, eps: "8/255".parse().unwrap(), seed: 0, lanes: 100 };
    let f = network.freeze().unwrap();
    let found = protocol.run(&f, &Made(&f), &mut (), &mut resident).unwrap();
    assert_eq!((found.clean().correct, resident.decided), (N as usize, 2 * N as usize));
    // The points of all of them would be 30 MiB for each column.
    let warm = resident.kib[2].1;
    let most = resident.kib.iter().map(|(_, kib)| *kib).max().unwrap();
    assert!(most < warm + 8 * 1024, "from {warm} to {most} KiB: {:?}", resident.kib);
}
