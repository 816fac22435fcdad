//! Damaged files and wrong labels: an error that names the file and the record, never a panic.

use super::published::{Set, write};
use rslad_data::{Split, open};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What is said of a place, without the path that it begins with.
pub fn message(set: Set, place: &Path, split: Split) -> String {
    let error = open(&format!("{}:{}", set.name(), place.display()), split).unwrap_err().to_string();
    let parent = place.display().to_string();
    error.strip_prefix(&parent).map(str::to_owned).unwrap_or(error)
}

/// The message for a test file with these bytes.
fn of_file(set: Set, name: &str, bytes: &[u8]) -> String {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    message(set, dir.path(), Split::Test)
}

#[test]
fn a_record_that_is_cut_short_is_named() {
    let whole = Set::Cifar10.records(0..3);
    for (len, expected) in [(3073 + 1, "record 1 has 1 bytes"), (3 * 3073 - 1, "record 2 has 3072 bytes")] {
        let said = of_file(Set::Cifar10, "test_batch.bin", &whole[..len]);
        assert_eq!(said, format!("/test_batch.bin: {expected}, expected 3073; wholly copied?"));
    }
    let said = of_file(Set::Cifar100, "test.bin", &Set::Cifar100.record(0)[..1]);
    assert_eq!(said, "/test.bin: record 0 has 1 bytes, expected 3074; wholly copied?");
    assert_eq!(
        of_file(Set::Cifar10, "test_batch.bin", b""),
        "data set `cifar10`: no images, expected at least 1"
    );
}

#[test]
fn a_label_out_of_range_is_named_by_record() {
    let mut records = Set::Cifar10.records(0..3);
    records[2 * 3073] = 10;
    let said = of_file(Set::Cifar10, "test_batch.bin", &records);
    assert_eq!(said, "/test_batch.bin: record 2 has a label of 10, expected 0 to 9");
    let mut record = Set::Cifar100.record(0);
    record[1] = 100;
    let said = of_file(Set::Cifar100, "test.bin", &record);
    assert_eq!(said, "/test.bin: record 0 has a label of 100, expected 0 to 99");
    (record[0], record[1]) = (20, 99);
    let said = of_file(Set::Cifar100, "test.bin", &record);
    assert_eq!(said, "/test.bin: record 0 has a coarse label of 20, expected 0 to 19");
}

#[test]
fn missing_files_are_named_with_what_would_do() {
    let dir = TempDir::new().unwrap();
    let said = message(Set::Cifar10, dir.path(), Split::Train);
    for part in [
        "no cifar10 (train) here, expected cifar-10-binary.tar.gz, cifar-10-python.tar.gz, data_batch_1.bin",
        "train-*.parquet",
        "`rslad data fetch cifar10 --dir ",
    ] {
        assert!(said.contains(part), "{said}");
    }
    write(dir.path(), &Set::Cifar10.files(".bin"));
    fs::remove_file(dir.path().join("data_batch_4.bin")).unwrap();
    let said = message(Set::Cifar10, dir.path(), Split::Train);
    assert_eq!(said, "/data_batch_4.bin: no such file, expected beside data_batch_1.bin");
    let said = message(Set::Cifar10, &dir.path().join("nowhere"), Split::Train);
    assert!(said.starts_with(": cannot be read (No such file"), "{said}");
    let said = message(Set::Cifar10, &dir.path().join("data_batch_1.bin"), Split::Train);
    assert_eq!(said, ": neither a .tar.gz nor a parquet file, expected an archive or a folder");
}

#[test]
fn pickles_of_other_things_are_refused_and_nothing_of_them_runs() {
    let whole = Set::Cifar10.pickle(0..2);
    let swap = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    // 2^54 images of 3072 bytes are 3 * 2^64 bytes: none of them, to a careless product.
    let at = whole.windows(3).position(|window| window == b"M\x02\x00").unwrap();
    let many = [&whole[..at], b"\x8a\x08\0\0\0\0\0\0\x40\0", &whole[at + 3..]].concat();
    let check = |bytes: &[u8], expected: &str| {
        let said = of_file(Set::Cifar10, "test_batch", bytes);
        assert!(said.starts_with("/test_batch: ") && said.contains(expected), "{said}");
    };
    check(b"\x80\x02cos\nsystem\nU\x04true\x85R.", "names os.system, expected NumPy's array; it was not run");
    check(b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "names posix.system");
    check(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", "names torch._utils._rebuild_tensor_v2");
    check(&whole[..whole.len() - 3], "ends within its pickle");
    check(&whole[..3000], "ends within its pickle");
    check(b"\x80\x02T\xff\xff\xff\xff", "a string of 4294967295 bytes, expected at most 268435456");
    check(b"\x80\x02B\xff\xff\xff\x0f", "ends within its pickle");
    check(&swap("u1", "f4"), "an array of other numbers, expected bytes (u1)");
    check(&swap("U\x06labels", "U\x06labelz"), "has no `labels`, expected a file of cifar10");
    check(&swap("U\x06labels", "U\x04data"), "has `data` twice, expected once");
    check(&swap("K\x03K\x00", "K\x03K\x0a"), "image 1 has a label of 10, expected 0 to 9");
    check(&swap("K\x03K\x00", "K\x03N"), "`labels` is no list of 2 whole numbers");
    check(&swap("](", "]N"), "it appends to");
    check(&many, "`data` has 6144 bytes, expected 18014398509481984 images of 3072");
    check(&swap("M\x00\x0c", "M\x01\x0c"), "`data` is [2, 3073], expected [n, 3072]");
    check(b"\x80\x02K\x01.", "holds an integer, expected a dictionary with `data`");
    check(b"\x80\x02}q\x00U\x01ah\x00s.", "has no `data`");
    check(b"\x80\x02}U\x04data]s.", "`data` is no array that NumPy wrote");
    check(b"\x80\x02)\x85\x85\x85.", "holds a tuple");
    check(b"\x80\x02h\x05.", "reads memo place 5, which is empty");
    check(b"\x80\x02.", "takes more from the stack than lies there");
    check(b"\x80\x02(0.", "takes more from the stack");
    check(b"<html>", "0x3c at byte 0 of its pickle is not an operation");
}

#[test]
fn a_million_of_anything_ends_quickly() {
    let clock = std::time::Instant::now();
    let many = |op: &[u8]| [b"\x80\x02".to_vec(), op.repeat(1_100_000)].concat();
    for op in [&b"("[..], b"N", b"]", b"}q\x00", b")\x85", b"\x85", b"cnumpy\ndtype\n"] {
        let op = if op == b"\x85" { [b"N".to_vec(), op.repeat(1_100_000)].concat() } else { many(op) };
        let said = of_file(Set::Cifar10, "test_batch", &op);
        assert!(said.contains("expected at most"), "{said}");
    }
    assert!(clock.elapsed().as_secs() < 10, "{:?}", clock.elapsed());
}

#[cfg(feature = "parquet")]
#[test]
fn damaged_parquet_files_are_refused_by_row() {
    use super::published::{parquet, parquet_of, picture};
    use image::ImageFormat::Png;
    let name = "test-00000-of-00001.parquet";
    let check = |set: Set, bytes: &[u8], expected: &str| {
        let said = of_file(set, name, bytes);
        assert!(said.contains(expected), "{said}");
    };
    let pictures = |n: usize| (0..n).map(|i| picture(i, Png)).collect::<Vec<_>>();
    let whole = parquet(Set::Cifar10, 0..3, Png);
    check(Set::Cifar10, &whole[..whole.len() - 1], "is damaged or no parquet file");
    check(Set::Cifar10, b"", "is damaged or no parquet file");
    check(Set::Cifar100, &whole, "has columns img.bytes, img.path, label, expected `fine_label`");
    let labels = |labels: &[i64]| parquet_of(pictures(labels.len()), &[("label", labels.to_vec())]);
    check(Set::Cifar10, &labels(&[1, 2, 10]), "row 2 has a label of 10, expected 0 to 9");
    check(Set::Cifar10, &labels(&[1, -1]), "row 1 has a label of -1, expected 0 to 9");
    let other = |second: Vec<u8>| parquet_of(vec![picture(0, Png), second], &[("label", vec![0, 1])]);
    check(Set::Cifar10, &other(b"GIF89a".to_vec()), "row 1: a picture that is neither PNG nor WebP");
    check(Set::Cifar10, &other(picture(0, Png)[..60].to_vec()), "row 1: a damaged picture");
    let mut large = std::io::Cursor::new(vec![]);
    image::RgbImage::new(32, 33).write_to(&mut large, Png).unwrap();
    check(Set::Cifar10, &other(large.into_inner()), "row 1: a picture of 32x33 pixels, expected 32x32");
}
