//! All forms of CIFAR give the same data set, right side up.

use super::published::{Set, archive, label, pixel, write};
use rslad_data::{Dataset, Image, Split, open};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The names of the folders and archives, spelled out: not taken from the reader.
fn names(set: Set) -> [&'static str; 4] {
    match set {
        Set::Cifar10 => [
            "cifar-10-batches-bin",
            "cifar-10-batches-py",
            "cifar-10-binary.tar.gz",
            "cifar-10-python.tar.gz",
        ],
        Set::Cifar100 => {
            ["cifar-100-binary", "cifar-100-python", "cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"]
        }
    }
}

/// A way to put a data set into a directory.
type Route = (&'static str, fn(Set, &Path));

const ROUTES: &[Route] = &[
    ("unpacked binary files", |set, dir| write(dir, &set.files(".bin"))),
    ("unpacked binary archive", |set, dir| write(&dir.join(names(set)[0]), &set.files(".bin"))),
    ("binary archive", |set, dir| {
        fs::write(dir.join(names(set)[2]), archive(names(set)[0], &set.files(".bin"))).unwrap();
    }),
    ("unpacked pickles", |set, dir| write(dir, &set.files(""))),
    ("unpacked python archive", |set, dir| write(&dir.join(names(set)[1]), &set.files(""))),
    ("python archive", |set, dir| {
        fs::write(dir.join(names(set)[3]), archive(names(set)[1], &set.files(""))).unwrap();
    }),
    #[cfg(feature = "parquet")]
    ("parquet of PNG", |set, dir| parquet_files(set, dir, image::ImageFormat::Png)),
    #[cfg(feature = "parquet")]
    ("parquet of WebP", |set, dir| parquet_files(set, dir, image::ImageFormat::WebP)),
    #[cfg(feature = "parquet")]
    ("parquet as the hub keeps it", |set, dir| {
        let folder = dir.join(if set == Set::Cifar10 { "plain_text" } else { "cifar100" });
        fs::create_dir(&folder).unwrap();
        parquet_files(set, &folder, image::ImageFormat::Png);
    }),
];

#[cfg(feature = "parquet")]
fn parquet_files(set: Set, dir: &Path, format: image::ImageFormat) {
    use super::published::parquet;
    fs::write(dir.join("train-00000-of-00002.parquet"), parquet(set, 0..3, format)).unwrap();
    fs::write(dir.join("train-00001-of-00002.parquet"), parquet(set, 3..5, format)).unwrap();
    fs::write(dir.join("test-00000-of-00001.parquet"), parquet(set, 5..7, format)).unwrap();
}

fn load(set: Set, place: &Path, split: Split) -> Dataset {
    open(&format!("{}:{}", set.name(), place.display()), split).unwrap()
}

/// Every value and every label is where it belongs: channel, row, column, image.
fn check(set: Set, route: &str, data: &Dataset, first: usize) {
    assert_eq!((data.name(), data.shape(), data.n_classes()), (set.name(), [3, 32, 32], set.classes()));
    for image in 0..data.len() {
        assert_eq!(data.label(image), u32::from(label(first + image, set.classes())), "{set:?} from {route}");
        let Image::Levels { values, full_scale: 255 } = data.image(image) else { panic!("bytes") };
        for (at, &value) in values.iter().enumerate() {
            let (channel, row, column) = (at / 1024, at / 32 % 32, at % 32);
            let expected = pixel(first + image, channel, row, column);
            assert_eq!(value, expected, "{set:?} from {route}, image {image}, {channel} {row} {column}");
        }
    }
}

#[test]
fn every_form_gives_the_same_images_right_side_up() {
    for set in [Set::Cifar10, Set::Cifar100] {
        let mut hashes = vec![];
        for (route, put) in ROUTES {
            let dir = TempDir::new().unwrap();
            put(set, dir.path());
            let (train, test) = (load(set, dir.path(), Split::Train), load(set, dir.path(), Split::Test));
            assert_eq!((train.len(), test.len()), (5, 2), "{set:?} from {route}");
            check(set, route, &train, 0);
            check(set, route, &test, 5);
            hashes.push((train.sha256(), test.sha256()));
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "{set:?}");
    }
}

#[test]
fn pickles_that_numpy_wrote_are_read() {
    let files: [(Set, &str, &[u8]); 2] = [
        (Set::Cifar10, "test_batch", include_bytes!("../goldens/cifar10_test_batch.pickle")),
        (Set::Cifar100, "test", include_bytes!("../goldens/cifar100_test.pickle")),
    ];
    for (set, name, bytes) in files {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        let test = load(set, dir.path(), Split::Test);
        assert_eq!(test.len(), 3);
        check(set, "NumPy's pickle", &test, 0);
    }
}

#[test]
fn an_archive_can_be_named_itself() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mine.tgz");
    fs::write(&path, archive("anything", &Set::Cifar100.files(".bin"))).unwrap();
    check(Set::Cifar100, "an archive", &load(Set::Cifar100, &path, Split::Train), 0);
}

#[test]
fn unknown_files_and_counts_are_noted() {
    for ending in [".bin", ""] {
        let dir = TempDir::new().unwrap();
        write(dir.path(), &Set::Cifar10.files(ending));
        let path = |stem: &str| dir.path().join(format!("{stem}{ending}")).display().to_string();
        let train = (1..=5).map(|i| path(&format!("data_batch_{i}"))).collect::<Vec<_>>().join(", ");
        for (split, files, counts) in [
            (Split::Train, train, "train: 5 images, published are 50000"),
            (Split::Test, path("test_batch"), "test: 2 images, published are 10000"),
        ] {
            let notes = load(Set::Cifar10, dir.path(), split).notes().to_vec();
            let unknown = format!("{files}: not a published file of cifar10 by its hash");
            assert_eq!(notes, [unknown, format!("cifar10 {counts}")]);
        }
    }
}

#[test]
fn a_fine_class_in_two_superclasses_is_noted() {
    let dir = TempDir::new().unwrap();
    let (mut one, mut other) = (Set::Cifar100.record(0), Set::Cifar100.record(0));
    (one[0], other[0]) = (4, 5);
    fs::write(dir.path().join("test.bin"), [one, other].concat()).unwrap();
    let notes = load(Set::Cifar100, dir.path(), Split::Test).notes().to_vec();
    assert_eq!(notes[2], "class 3 (bear) is in two superclasses, published is one");
}
