//! Forwards that remember against forwards that do not.

use super::*;
use crate::arch::ArchSpec;
use crate::classifier::Memory;
use crate::randomness::Stream;

/// A search: images that change a little at every question, keep the change or not, come and go.
struct Asking {
    draws: Stream,
    shape: [usize; 3],
    lanes: Vec<(u64, Vec<f32>)>,
    next: u64,
}

impl Asking {
    fn new(seed: u64, shape: [usize; 3], lanes: usize) -> Self {
        let draws = Key::new(seed, Purpose::named("asking")).stream(0);
        let mut asking = Self { draws, shape, lanes: Vec::new(), next: 0 };
        (0..lanes).for_each(|_| asking.enter());
        asking
    }

    fn below(&mut self, n: usize) -> usize {
        self.draws.below(n as u32) as usize
    }

    fn enter(&mut self) {
        let image = (0..self.shape.iter().product()).map(|_| self.draws.unit()).collect();
        self.lanes.push((self.next, image));
        self.next += 1;
    }

    /// An image with another rectangle on it.
    fn changed(&mut self, image: &[f32]) -> Vec<f32> {
        let ([c, h, w], mut image) = (self.shape, image.to_vec());
        let side = [0, 1, 1, 2, 3, 3, 5, h.max(w)][self.below(8)];
        let (rows, columns) = (side.min(h), side.min(w));
        let (top, left) = (self.below(h - rows + 1), self.below(w - columns + 1));
        for place in (0..c).flat_map(|c| (top..top + rows).map(move |y| (c * h + y) * w + left)) {
            image[place..place + columns].fill_with(|| self.draws.unit());
        }
        image
    }

    /// Asks both ways, and goes on.
    fn compare(&mut self, f: &Frozen, memory: &mut Memory) {
        let lanes = self.lanes.clone();
        let asked: Vec<Vec<f32>> = lanes.iter().map(|(_, image)| self.changed(image)).collect();
        let ids: Vec<u64> = lanes.iter().map(|(id, _)| *id).collect();
        let [c, h, w] = self.shape;
        let x = Tensor::from_vec(asked.concat(), (asked.len(), c, h, w), &Device::Cpu).unwrap();
        let again = f.logits_again(&ids, &x, memory).unwrap();
        assert_eq!(bits(&again), bits(&f.logits(&x).unwrap()));
        for (i, asked) in asked.into_iter().enumerate() {
            if self.below(3) == 0 {
                self.lanes[i].1 = asked;
            }
        }
        match self.below(8) {
            0 if self.lanes.len() > 1 => drop(self.lanes.remove(0)),
            1 => self.enter(),
            2 => self.lanes.reverse(),
            3 if self.lanes.len() > 3 => self.lanes.truncate(1),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn what_is_remembered_changes_no_bit(case in case(), sides in (8..=20usize, 8..=20usize), lanes in 1..=5usize) {
        let [_, channels, ..] = case.images;
        let case = Case { images: [1, channels, sides.0, sides.1], ..case };
        for (executor, threads) in isas().map(|isa| (Executor::Plan(isa), 2)).chain([(Executor::Reference, 1)]) {
            let frozen = Frozen::with_engine(&case.network(), engine(executor, threads)).unwrap();
            let mut memory = Memory::default();
            let mut asking = Asking::new(case.seed, [channels, sides.0, sides.1], lanes);
            (0..12).for_each(|_| asking.compare(&frozen, &mut memory));
        }
    }
}

#[test]
fn what_is_remembered_of_known_architectures_changes_no_bit() {
    let common = "classes = 10\nin_channels = 3\nnorm = 'cifar10'\n";
    for (arch, options) in [
        ("tiny_cnn", "width = 16"),
        ("resnet18", "width = 8\nblocks = '2,2,2,2'"),
        ("resnet18", "width = 16\nblocks = '1,1,1'"),
        ("mobilenet_v2", "divisor = 4"),
    ] {
        let spec = ArchSpec::parse(arch, &format!("{common}{options}")).unwrap();
        let network = Network::new(&spec, 1).unwrap();
        let frozen = Frozen::with_engine(&network, engine(Executor::Plan(Isa::best()), 2)).unwrap();
        let mut memory = Memory::default();
        let mut asking = Asking::new(7, [3, 32, 32], 20);
        (0..24).for_each(|_| asking.compare(&frozen, &mut memory));
        assert!(memory.0.is_some(), "{arch} remembers");
    }
}

#[test]
fn what_is_remembered_of_other_weights_is_forgotten() {
    let parts = vec![Part::Conv { out: 9, kernel: 3, stride: 1, pad: [1; 4] }, Part::Norm, Part::Relu];
    let case = Case { parts, normalized: None, images: [2, 3, 12, 12], classes: 4, seed: 1 };
    let (old, new) = (case.network(), Case { seed: 2, ..case.clone() }.network());
    let mut frozen = Frozen::with_engine(&old, engine(Executor::Plan(Isa::best()), 1)).unwrap();
    let mut memory = Memory::default();
    let mut asking = Asking::new(3, [3, 12, 12], 2);
    asking.compare(&frozen, &mut memory);
    old.params().load_state_dict(&new.params().state_dict().unwrap().into_iter().collect()).unwrap();
    frozen.refresh(&old).unwrap();
    asking.compare(&frozen, &mut memory);
    let other = Frozen::with_engine(&case.network(), engine(Executor::Plan(Isa::best()), 1)).unwrap();
    asking.compare(&other, &mut memory);
    let small = Asking::new(3, [3, 9, 9], 2);
    asking = small;
    asking.compare(&other, &mut memory); // images of another size
    let twice = drawn(&[2, 3, 9, 9], 1, "images").abs().unwrap();
    let again = other.logits_again(&[5, 5], &twice, &mut memory).unwrap();
    assert_eq!(bits(&again), bits(&other.logits(&twice).unwrap()));
}
