//! To candle-datasets and back, and MNIST through its loaders.

use rslad_data::candle_datasets::{fashion_mnist, from_vision, mnist, to_vision};
use rslad_data::{Dataset, Image, Split, digits::digits, fashion_mnist as own};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn bytes(data: &Dataset, row: usize) -> Vec<u8> {
    match data.image(row) {
        Image::Levels { values, .. } => values.to_vec(),
        Image::Floats(_) => panic!("floats, expected bytes"),
    }
}

#[test]
fn there_and_back_again_is_the_same_data_set() {
    let (train, test) = (own::sample(Split::Train).unwrap(), own::sample(Split::Test).unwrap());
    let vision = to_vision(&train, &test).unwrap();
    assert_eq!(vision.train_images.dims(), [4000, 1, 28, 28]);
    assert_eq!((vision.test_labels.dims(), vision.labels), (&[2000][..], 10));
    for (split, whole) in [(Split::Train, &train), (Split::Test, &test)] {
        let back = from_vision("fashion-mnist", &vision, [1, 28, 28], split).unwrap();
        assert_eq!(back.sha256(), whole.sha256());
    }
}

#[test]
fn values_that_are_no_levels_stay_floats_and_bad_ones_are_refused() {
    let (train, test) = (digits(Split::Train).unwrap(), digits(Split::Test).unwrap());
    let mut vision = to_vision(&train, &test).unwrap(); // sixteenths
    let back = from_vision("digits", &vision, [1, 8, 8], Split::Test).unwrap();
    assert!(matches!(back.image(0), Image::Floats(_)));
    let x = |data: &Dataset| data.images_f32(&[7]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(x(&back), x(&test));
    vision.test_images = (&vision.test_images * 2.0).unwrap();
    let said = from_vision("digits", &vision, [1, 8, 8], Split::Test).unwrap_err().to_string();
    assert!(said.contains("expected [0,1]"), "{said}");
    let said = from_vision("digits", &vision, [1, 8, 9], Split::Train).unwrap_err().to_string();
    assert!(said.starts_with("data set `digits`: "), "{said}");
    let said = to_vision(&train, &own::sample(Split::Test).unwrap()).err().unwrap().to_string();
    assert!(said.contains("the test images are [1, 28, 28]"), "{said}");
}

#[test]
fn mnist_files_come_through_its_loader_the_right_way_round() {
    let dir = TempDir::new().unwrap();
    let pixel = |image: usize, row: usize, column: usize| (image * 37 + row * 3 + column * 5) as u8;
    for (stem, n) in [("train", 3usize), ("t10k", 2)] {
        let head = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let mut images = head(&[0x803, n as u32, 28, 28]);
        for image in 0..n {
            images.extend((0..784).map(|at| pixel(image, at / 28, at % 28)));
        }
        let labels = [head(&[0x801, n as u32]), (0..n).map(|i| (9 - i) as u8).collect()].concat();
        fs::write(dir.path().join(format!("{stem}-images-idx3-ubyte")), images).unwrap();
        fs::write(dir.path().join(format!("{stem}-labels-idx1-ubyte")), labels).unwrap();
    }
    type Load = fn(Option<&Path>, Split) -> rslad_data::Result<Dataset>;
    let loaders: [(Load, &str); 2] = [(mnist, "mnist"), (fashion_mnist, "fashion-mnist")];
    for (load, name) in loaders {
        let data = load(Some(dir.path()), Split::Test).unwrap();
        assert_eq!((data.name(), data.labels(), data.shape()), (name, &[9, 8][..], [1, 28, 28]));
        assert_eq!(bytes(&data, 1)[3 * 28 + 5], pixel(1, 3, 5));
        assert_eq!(load(Some(dir.path()), Split::Train).unwrap().len(), 3);
    }
    let ours = own::full(dir.path(), Split::Train).unwrap();
    assert_eq!(bytes(&mnist(Some(dir.path()), Split::Train).unwrap(), 2), bytes(&ours, 2));
    assert!(mnist(Some(&dir.path().join("nowhere")), Split::Test).is_err());
}
