//! Weight files: what is wrong with one is said, with the file's name, and nothing is half loaded.

use crate::common::{scrambled, values};
use candle_core::{DType, Device, Tensor};
use rslad_models::checkpoint::{self, Provenance};
use rslad_models::randomness::{Key, Purpose};
use rslad_models::{ArchSpec, Error, Network};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn network(width: usize) -> Network {
    let options = format!("width = {width}").parse().unwrap();
    scrambled(&ArchSpec::published("tiny_cnn", &options).unwrap(), 1000)
}

/// A good checkpoint in a directory that lives as long as the returned guard.
fn saved() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("student.safetensors");
    network(2).save(&path, &Provenance::new()).unwrap();
    (directory, path)
}

/// Loading `path` fails with a message that names the file and holds every one of `parts`.
fn assert_refused(path: &Path, parts: &[&str]) {
    let message = Network::load(path).unwrap_err().to_string();
    assert!(message.contains("student.safetensors"), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in: {message}"));
}

/// Rewrites a checkpoint with other tensors and other metadata.
fn rewrite(path: &Path, tensors: &HashMap<String, Tensor>, metadata: Option<&str>) {
    let header = metadata.map(|text| HashMap::from([("rslad".to_string(), text.to_string())]));
    std::fs::write(path, safetensors::serialize(tensors, header).unwrap()).unwrap();
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let (_guard, path) = saved();
    let bytes = std::fs::read(&path).unwrap();
    for end in [7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert_refused(&path, &["damaged", "wholly copied"]);
    }
    std::fs::write(&path, "").unwrap();
    assert_refused(&path, &["is empty", "fetch it again"]);
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let (_guard, path) = saved();
    let kinds: [(&[u8], &str); 3] = [
        (b"<!DOCTYPE html><html>quota exceeded</html>", "is a web page, not a checkpoint"),
        (b"PK\x03\x04 a zip", "is a state dict (PyTorch, zip format (1.6 and later))"),
        (&[0xff; 64], "is not a weight file"),
    ];
    for (bytes, part) in kinds {
        std::fs::write(&path, bytes).unwrap();
        assert_refused(&path, &[part]);
    }
}

#[test]
fn a_file_that_is_missing_says_so() {
    let error = Network::load(Path::new("nowhere/student.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("nowhere/student.safetensors"), "{error}");
}

#[test]
fn a_newer_format_asks_for_a_newer_build() {
    let (_guard, path) = saved();
    let tensors = checkpoint::read_tensors(&path).unwrap();
    rewrite(&path, &tensors, Some(r#"{"format": 3, "what": "is new"}"#));
    assert_refused(&path, &["has format 3, this build reads up to 2", "use a newer rslad"]);
}

#[test]
fn metadata_that_is_missing_or_damaged_is_named() {
    let (_guard, path) = saved();
    let tensors = checkpoint::read_tensors(&path).unwrap();
    rewrite(&path, &tensors, None);
    assert_refused(&path, &["no `rslad` metadata", "--arch NAME"]);
    for damaged in ["not json", "{}", r#"{"format": 1}"#, r#"{"format": "1"}"#] {
        rewrite(&path, &tensors, Some(damaged));
        assert_refused(&path, &["damaged metadata"]);
    }
    rewrite(&path, &tensors, Some(r#"{"format": 1, "model": {"arch": "resnet19"}, "provenance": {}}"#));
    assert_refused(&path, &["unknown architecture `resnet19`"]);
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let (_guard, path) = saved();
    let metadata = metadata_of(&path).replace("\"format\":2", "\"format\":1").replace("seal", "unsealed");
    let mut tensors = checkpoint::read_tensors(&path).unwrap();
    tensors.remove("conv2.weight");
    tensors.insert("extra.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    tensors.insert("bn1.weight".into(), Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap());
    rewrite(&path, &tensors, Some(&metadata));
    assert_refused(
        &path,
        &["missing `conv2.weight`", "unexpected `extra.bias`", "`bn1.weight` is [5], expected [2]"],
    );
}

fn metadata_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["rslad"].clone()
}

#[test]
fn a_long_list_of_problems_is_cut_short() {
    let network = network(2);
    let message = network.params().load_state_dict(&HashMap::new()).unwrap_err().to_string();
    assert!(message.contains("missing `conv1.weight`") && message.contains("and 5 more"), "{message}");
}

#[test]
fn a_state_dict_that_does_not_fit_changes_nothing() {
    let (network, other) = (network(2), network(3));
    let state = |network: &Network| {
        let state = network.params().state_dict().unwrap().into_iter();
        state.map(|(name, t)| (name, values(&t))).collect::<Vec<_>>()
    };
    let before = state(&network);
    let theirs = other.params().state_dict().unwrap().into_iter().collect();
    network.params().load_state_dict(&theirs).unwrap_err();
    assert_eq!(state(&network), before);
}

#[test]
fn counters_may_be_absent_and_are_then_zero() {
    let trained = network(2);
    trained.training().forward(&crate::common::images(1, 2, 8)).unwrap();
    let mut state: HashMap<String, Tensor> = trained.params().state_dict().unwrap().into_iter().collect();
    assert_eq!(values(&state["bn1.num_batches_tracked"]), [1.0]);
    state.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let arch = trained.arch();
    for network in [Network::with_state_dict(arch, &state).unwrap(), trained] {
        network.params().load_state_dict(&state).unwrap();
        let state: HashMap<String, Tensor> = network.params().state_dict().unwrap().into_iter().collect();
        assert_eq!(values(&state["bn1.num_batches_tracked"]), [0.0]);
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let (_guard, path) = saved();
    let again = path.with_file_name("again.safetensors");
    network(2).save(&again, &Provenance::new()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(again).unwrap());
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let (guard, path) = saved();
    let before = std::fs::read(&path).unwrap();
    let below_a_file = path.join("student.safetensors");
    let error = network(2).save(&below_a_file, &Provenance::new()).unwrap_err().to_string();
    assert!(error.contains("cannot write"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(guard.path()).unwrap().count(), 1, "no partial file stays behind");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (_guard, path) = saved();
    let bytes = std::fs::read(&path).unwrap();
    let mut draws = Key::new(0, Purpose::named("damage")).stream(0);
    let mut below = |n: usize| draws.below(n as u32) as usize;
    let refused = |bytes: &[u8]| Network::from_bytes(bytes, &path).is_err();
    assert!(!refused(&bytes));
    for _ in 0..2_000 {
        let (byte, bit) = (below(bytes.len()), below(8));
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        assert!(refused(&damaged), "bit {bit} of byte {byte}");
    }
    for _ in 0..200 {
        let end = below(bytes.len());
        assert!(refused(&bytes[..end]), "cut at {end}");
    }
}

#[test]
fn a_damaged_weight_is_noticed_where_only_tensors_are_read() {
    let (_guard, path) = saved();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = checkpoint::read_tensors(&path).unwrap_err().to_string();
    assert!(error.contains("student.safetensors: is damaged"), "{error}");
}
