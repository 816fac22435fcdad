//! Images a second of the loader with CIFAR's augmentation, on the thread that asks and made ahead.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rslad_data::{Augment, Contents, Dataset, Flip, Loader, Pixels, Split};
use std::hint::black_box;

const N: usize = 10_000;
const AUGMENT: Augment = Augment { crop: 4, flip: Flip::Horizontal };

fn images() -> Dataset {
    let contents = Contents {
        name: "bench".to_owned(),
        split: Split::Train,
        pixels: Pixels::Levels {
            values: (0..N * 3072).map(|i| ((i * 31) >> 3) as u8).collect(),
            full_scale: 255,
        },
        shape: [3, 32, 32],
        labels: (0..N).map(|i| (i % 10) as u32).collect(),
        class_names: (0..10).map(|class| class.to_string()).collect(),
    };
    Dataset::new(contents).expect("consistent contents")
}

fn epochs(c: &mut Criterion) {
    let data = images();
    let loader = Loader::new(&data, 128, AUGMENT, 0).expect("a batch size");
    let mut group = c.benchmark_group("cifar");
    group.throughput(Throughput::Elements(N as u64)).sample_size(20);
    group.bench_function("crop and flip", |b| {
        b.iter(|| loader.epoch(black_box(1)).for_each(|batch| drop(black_box(batch))))
    });
    group.bench_function("crop and flip, made ahead", |b| {
        b.iter(|| loader.epoch(black_box(1)).prefetched(2).for_each(|batch| drop(black_box(batch))))
    });
    group.finish();
}

criterion_group!(benches, epochs);
criterion_main!(benches);
