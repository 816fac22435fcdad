//! People's own data and the whole of Fashion-MNIST: read as they are, refused with index and range.

use flate2::Compression;
use flate2::write::GzEncoder;
use rslad_data::{Dataset, Image, Split, UNLABELED, open};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use tempfile::TempDir;

/// A tensor: name, type, shape, bytes.
type Raw<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

fn file(tensors: &[Raw<'_>], classes: Option<&str>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    let metadata = classes.map(|classes| HashMap::from([("classes".to_owned(), classes.to_owned())]));
    safetensors::serialize(views, metadata).unwrap()
}

fn opened(bytes: &[u8]) -> Result<Dataset, String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mine.safetensors");
    fs::write(&path, bytes).unwrap();
    let data = open(&format!("tensors:{}", path.display()), Split::Test);
    data.map_err(|error| error.to_string().split_once("mine.safetensors: ").unwrap().1.to_owned())
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn u8_images(n: usize) -> Raw<'static> {
    let shape: &'static [usize] = if n == 2 { &[2, 1, 2, 3] } else { &[3, 1, 2, 3] };
    ("images", Dtype::U8, shape, (0..n * 6).map(|i| i as u8).collect())
}

#[test]
fn tensors_are_read_as_they_are() {
    let labels: Raw<'_> =
        ("labels", Dtype::I64, &[2], [4i64, 0].iter().flat_map(|l| l.to_le_bytes()).collect());
    let data = opened(&file(&[u8_images(2), labels.clone()], None)).unwrap();
    assert_eq!((data.name(), data.shape(), data.n_classes()), ("tensors", [1, 2, 3], 5));
    assert_eq!(data.labels(), [4, 0]);
    assert_eq!(data.image(1), Image::Levels { values: &[6, 7, 8, 9, 10, 11], full_scale: 255 });
    assert_eq!(opened(&file(&[u8_images(2), labels], Some("10"))).unwrap().n_classes(), 10);

    let values: Vec<f32> = (0..12).map(|i| i as f32 / 11.0).collect();
    let images: Raw<'_> = ("images", Dtype::F32, &[2, 1, 2, 3], floats(&values));
    let data = opened(&file(&[images, ("labels", Dtype::U8, &[2], vec![1, 0])], None)).unwrap();
    assert_eq!(data.image(1), Image::Floats(&values[6..]));
    let x = data.images_f32(&[0, 1]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(x, values);

    let unlabeled = opened(&file(&[u8_images(2)], Some("3"))).unwrap();
    assert_eq!((unlabeled.labels(), unlabeled.n_classes()), (&[UNLABELED; 2][..], 3));
}

#[test]
fn tensors_out_of_range_are_named_with_index_minimum_and_maximum() {
    let check = |tensors: &[Raw<'_>], classes: Option<&str>, expected: &str| {
        assert_eq!(opened(&file(tensors, classes)).unwrap_err(), expected);
    };
    let of = |values: [f32; 3]| [("images", Dtype::F32, &[3, 1, 1, 1][..], floats(&values))];
    check(
        &of([0.5, -0.25, 1.0]),
        None,
        "a value of -0.25 in image 1, expected [0,1]; all values are in [-0.25, 1]",
    );
    check(
        &of([0.5, 0.0, f32::NAN]),
        None,
        "a value of NaN in image 2, expected [0,1]; all values are in [0, 0.5]",
    );
    check(
        &of([0.0, 128.0, 255.0]),
        None,
        "a value of 128 in image 1, expected [0,1]; all values are in [0, 255]; divide by 255",
    );
    let with = |labels: Raw<'static>| [u8_images(2), labels];
    let i32s = |labels: [i32; 2]| labels.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<u8>>();
    check(
        &with(("labels", Dtype::I32, &[2], i32s([3, -1]))),
        None,
        "label -1 of image 1, expected 0 to 65535; all labels are in [-1, 3]",
    );
    check(
        &with(("labels", Dtype::I32, &[2], i32s([10, 3]))),
        Some("10"),
        "label 10 of image 0, expected 0 to 9; all labels are in [3, 10]",
    );
    check(
        &with(("labels", Dtype::U8, &[1], vec![0])),
        None,
        "`labels` is [1], expected [2] as there are 2 images",
    );
    check(
        &with(("labels", Dtype::F32, &[2], floats(&[0.0, 1.0]))),
        None,
        "`labels` is F32, expected whole numbers",
    );
    check(
        &with(("labels", Dtype::U8, &[2], vec![0, 1])),
        Some("many"),
        "`classes` is `many`, expected 1 to 65536",
    );
    check(&[("images", Dtype::U8, &[2, 6], vec![0; 12])], None, "`images` is [2, 6], expected [N, C, H, W]");
    check(
        &[("images", Dtype::F64, &[1, 1, 1, 1], vec![0; 8])],
        None,
        "`images` is F64, expected U8 (255 means 1) or F32 in [0,1]",
    );
    check(&[("x", Dtype::U8, &[1], vec![0])], None, "has [\"x\"], expected `images` and `labels`");
    check(&[("images", Dtype::U8, &[0, 1, 2, 2], vec![])], None, "no images, expected at least 1");
    assert!(opened(b"<html>").unwrap_err().starts_with("is no safetensors file"));
}

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let header = [0x800 + shape.len() as u32].into_iter().chain(shape.iter().copied());
    header.flat_map(u32::to_be_bytes).chain(values.iter().copied()).collect()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(vec![], Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn fashion(images: &[u8], labels: &[u8]) -> Result<Dataset, String> {
    let dir = TempDir::new().unwrap();
    let is_packed = |bytes: &[u8]| if bytes.starts_with(&[0x1f, 0x8b]) { ".gz" } else { "" };
    fs::write(dir.path().join(format!("t10k-images-idx3-ubyte{}", is_packed(images))), images).unwrap();
    fs::write(dir.path().join(format!("t10k-labels-idx1-ubyte{}", is_packed(labels))), labels).unwrap();
    let data = open(&format!("fashion-mnist:{}", dir.path().display()), Split::Test);
    data.map_err(|error| {
        error.to_string().rsplit_once("ubyte").map_or(String::new(), |(_, said)| said.to_owned())
    })
}

#[test]
fn idx_files_are_read_packed_and_not() {
    let (images, labels) = (idx(&[2, 2, 3], &(0..12).collect::<Vec<_>>()), idx(&[2], &[9, 0]));
    for (images, labels) in [(images.clone(), labels.clone()), (packed(&images), packed(&labels))] {
        let data = fashion(&images, &labels).unwrap();
        assert_eq!((data.name(), data.shape(), data.labels()), ("fashion-mnist", [1, 2, 3], &[9, 0][..]));
        assert_eq!(data.image(1), Image::Levels { values: &[6, 7, 8, 9, 10, 11], full_scale: 255 });
        assert_eq!(data.notes().len(), 2);
    }
}

#[test]
fn damaged_idx_files_are_refused() {
    let (images, labels) = (idx(&[2, 2, 3], &[7; 12]), idx(&[2], &[9, 0]));
    let check = |images: &[u8], labels: &[u8], expected: &str| {
        assert_eq!(fashion(images, labels).unwrap_err(), expected);
    };
    check(&images[..15], &labels, ": ends within its header (failed to fill whole buffer)");
    check(&images[..27], &labels, ": has 11 values, expected 12 as its header says [2, 2, 3]");
    check(
        &[images.clone(), vec![0]].concat(),
        &labels,
        ": has more values, expected 12 as its header says [2, 2, 3]",
    );
    check(&images, &images, ": begins with 0x00000803, expected 0x00000801 (IDX, bytes)");
    check(&images, &idx(&[3], &[0; 3]), " has images");
    check(&images, &idx(&[2], &[0, 10]), ": image 1 has a label of 10, expected 0 to 9");
    let huge = [u32::MAX; 3];
    let said = fashion(&idx(&huge, &[]), &labels).unwrap_err();
    assert!(said.contains("says it is [4294967295, 4294967295, 4294967295]"), "{said}");
    let cut = packed(&idx(&[2, 2, 3], &(0..12).collect::<Vec<_>>()));
    assert!(fashion(&cut[..cut.len() - 9], &labels).is_err());
}

#[cfg(feature = "pictures")]
fn picture(path: &std::path::Path, width: u32, height: u32, color: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let at = |x: u32, y: u32| if (x, y) == (width - 1, 0) { image::Rgb(color) } else { image::Rgb([0; 3]) };
    image::RgbImage::from_fn(width, height, at).save(path).unwrap();
}

#[cfg(feature = "pictures")]
#[test]
fn a_folder_of_pictures_is_a_class() {
    let dir = TempDir::new().unwrap();
    let spec = format!("folder:{}", dir.path().display());
    picture(&dir.path().join("dog/2.png"), 3, 2, [1, 2, 3]);
    picture(&dir.path().join("dog/1.webp"), 3, 2, [4, 5, 6]);
    picture(&dir.path().join("cat/9.png"), 3, 2, [7, 8, 9]);
    let data = open(&spec, Split::Train).unwrap();
    assert_eq!((data.shape(), data.labels()), ([3, 2, 3], &[0, 1, 1][..]));
    assert_eq!(data.class_names(), ["cat", "dog"]);
    // The colored pixel is at the right end of the first row.
    let values = [0, 0, 4, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 6, 0, 0, 0];
    assert_eq!(data.image(1), Image::Levels { values: &values, full_scale: 255 });

    let refused = |expected: &str| {
        let said = open(&spec, Split::Train).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    };
    picture(&dir.path().join("dog/3.png"), 2, 2, [0; 3]);
    refused("3.png: is [3, 2, 2] (channels, height, width), expected [3, 2, 3] as ");
    fs::write(dir.path().join("dog/3.png"), b"GIF89a").unwrap();
    refused("3.png: a picture that is neither PNG nor WebP");
    image::GrayImage::new(3, 2).save(dir.path().join("dog/3.png")).unwrap();
    refused("3.png: is [1, 2, 3] (channels, height, width)");
    image::RgbaImage::new(3, 2).save(dir.path().join("dog/3.png")).unwrap();
    refused("3.png: a picture with transparent pixels, expected none");
}

#[cfg(feature = "pictures")]
#[test]
fn a_folder_may_hold_both_splits_and_none_is_refused() {
    let dir = TempDir::new().unwrap();
    let spec = format!("folder:{}", dir.path().display());
    let said = open(&spec, Split::Test).unwrap_err().to_string();
    assert!(said.contains("has no folders, expected one for each class"), "{said}");
    picture(&dir.path().join("train/a/1.png"), 1, 1, [1; 3]);
    picture(&dir.path().join("test/a/1.png"), 1, 1, [2; 3]);
    picture(&dir.path().join("test/a/2.png"), 1, 1, [3; 3]);
    let len = |split| open(&spec, split).unwrap().len();
    assert_eq!((len(Split::Train), len(Split::Test)), (1, 2));
}
