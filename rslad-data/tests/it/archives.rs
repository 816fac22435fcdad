//! Archives that nobody vouches for: errors within limits, and nothing is ever written.

use super::damaged::message;
use super::published::{Set, archive};
use flate2::Compression;
use flate2::write::GzEncoder;
use rslad_data::Split;
use std::fs;
use std::io::Write;
use tar::EntryType;
use tempfile::TempDir;

fn said(bytes: &[u8]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cifar-10-binary.tar.gz");
    fs::write(&path, bytes).unwrap();
    let said = message(Set::Cifar10, dir.path(), Split::Test);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
    said.strip_prefix("/cifar-10-binary.tar.gz").unwrap_or(&said).to_owned()
}

/// A `.tar.gz` whose names are written as they are: the builder of `tar` would refuse them.
fn raw(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut out = GzEncoder::new(vec![], Compression::best());
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        out.write_all(bytes).unwrap();
        out.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap()
}

#[test]
fn entries_that_point_outside_and_links_are_refused() {
    let of = |name, kind| said(&raw(&[(name, kind, b"")]));
    for name in ["../test_batch.bin", "/etc/test_batch.bin", "a/../../test_batch.bin"] {
        assert_eq!(of(name, EntryType::Regular), format!(": entry `{name}` points out of the archive"));
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
        let expected = format!(": entry `a` is a {kind:?}, expected files and directories");
        assert_eq!(of("a", kind), expected);
    }
}

#[test]
fn an_archive_that_blows_up_is_a_trap() {
    let zeros = vec![0; 64 << 20];
    let told = said(&raw(&[("a", EntryType::Regular, &zeros)]));
    assert!(told.contains("unpack to more than") && told.contains("a trap"), "{told}");
    let many: Vec<_> = (0..65).map(|_| ("a", EntryType::Regular, &b""[..])).collect();
    assert_eq!(said(&raw(&many)), ": has more than 64 entries");
}

#[test]
fn damage_and_omissions_are_told() {
    let files = Set::Cifar10.files(".bin");
    let whole = archive("cifar-10-batches-bin", &files);
    for len in [1, 10, whole.len() / 2, whole.len() - 1] {
        let told = said(&whole[..len]);
        assert!(told.contains("is damaged or cut short") || told.contains("cannot be read"), "{len}: {told}");
    }
    let told = said(b"<!DOCTYPE html>");
    assert!(told.contains("is damaged or cut short (invalid gzip header)"), "{told}");
    let told = said(&archive("a", &files[..5]));
    assert_eq!(told, ": holds no test_batch.bin and no test_batch, expected an archive of cifar10");
    let twice = [files.clone(), files.clone()].concat();
    assert_eq!(said(&archive("a", &twice)), "/a/test_batch.bin: comes twice in the archive, expected once");
    let mut cut = files;
    cut[5].1.pop();
    let told = said(&archive("a", &cut));
    assert_eq!(told, "/a/test_batch.bin: record 1 has 3072 bytes, expected 3073; wholly copied?");
}
