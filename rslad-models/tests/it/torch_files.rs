//! State dicts that PyTorch wrote, in each format: the tensors to the bit, the logits of the network, and what
//! was stripped and ignored on the way.

use crate::common::{Goldens, relative_error, values};
use candle_core::{DType, Tensor};
use rslad_models::checkpoint::{Fault, Format, Remark, StateDict, torch};
use rslad_models::{ArchSpec, Classifier, Network};
use std::io::{Cursor, Read, Write};

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(crate::common::path(&format!("torch/{file}"))).unwrap()
}

fn read(file: &str) -> StateDict {
    torch::read(&bytes(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"))
}

fn expected() -> Goldens {
    Goldens::read("torch/expected.safetensors")
}

fn tiny_cnn(norm: &str) -> ArchSpec {
    ArchSpec::published("tiny_cnn", &format!("width = 2\nnorm = '{norm}'").parse().unwrap()).unwrap()
}

/// The logits of the state dict in a file are those of PyTorch, computed in double precision.
fn check(file: &str, logits: &str, norm: &str) -> StateDict {
    let state = read(file);
    let network = Network::with_state_dict(&tiny_cnn(norm), &state.tensors).unwrap();
    let network = network.in_double_precision().unwrap();
    let x = expected().tensor("x").to_dtype(DType::F64).unwrap();
    let ours = network.freeze().unwrap().logits(&x).unwrap();
    let error = relative_error(&values(&ours), &expected().values(logits));
    assert!(error < 1e-6, "{file}: logits are off by {error:e} of the largest");
    state
}

#[test]
fn a_plain_state_dict_gives_pytorchs_logits_in_each_format() {
    for (file, format) in [
        ("plain.pt", Format::TorchZip),
        ("plain-legacy.pt", Format::TorchLegacy),
        ("plain.tar", Format::TorchTar),
    ] {
        let state = check(file, "plain", "none");
        assert_eq!(state.format, format, "{file}");
        assert_eq!((&state.norm, state.remarks.len()), (&None, 0), "{file}: {:?}", state.remarks);
        assert_eq!(values(&state.tensors["bn1.num_batches_tracked"]), [3.0], "{file}");
    }
}

/// PyTorch on a big-endian machine writes storages as they lie in memory, and says so in `byteorder`.
#[test]
fn a_zip_of_a_big_endian_machine_holds_the_same_tensors() {
    let little = bytes("plain.pt");
    let mut archive = zip::ZipArchive::new(Cursor::new(&little[..])).unwrap();
    let turned = |order: &[u8], archive: &mut zip::ZipArchive<Cursor<&[u8]>>| {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let name = entry.name().unwrap().to_string();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            if name.contains("/data/") {
                let size = if data == 3u64.to_le_bytes() { 8 } else { 4 }; // the counters are at 3; the rest is f32
                data.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            } else if name.ends_with("/byteorder") {
                data = order.to_vec();
            }
            writer.start_file(name, stored).unwrap();
            writer.write_all(&data).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let big = torch::read(&turned(b"big", &mut archive)).unwrap();
    let plain = read("plain.pt");
    assert_eq!(big.tensors.len(), plain.tensors.len());
    for (name, tensor) in &plain.tensors {
        assert_eq!(values(tensor), values(&big.tensors[name]), "{name}");
    }
    let fault = torch::read(&turned(b"middle", &mut archive)).unwrap_err();
    assert_eq!(fault, Fault::Damaged("`byteorder` is neither little nor big".into()));
}

#[test]
fn a_training_checkpoint_is_unwrapped_and_says_so() {
    for file in ["training.pt", "training-legacy.pt"] {
        let state = check(file, "trained", "none");
        let beside =
            ["epoch", "optimizer", "args", "best_acc", "losses", "device"].map(String::from).to_vec();
        let told = [
            Remark::Unwrapped { name: "net".into(), beside },
            Remark::Stripped { prefix: "module.".into(), n: 20 },
        ];
        assert_eq!(state.remarks, told, "{file}");
        let told: Vec<String> = state.remarks.iter().map(Remark::to_string).collect();
        let first = "took the state dict under `net`, ignored beside it: `epoch`, `optimizer`, `args`, `best_acc`, \
                     `losses`, `device`";
        assert_eq!(told, [first, "stripped `module.` from 20 names"], "{file}");
    }
}

#[test]
fn the_unused_block_of_trades_and_absent_counters_are_passed_over() {
    for file in ["trades.pt", "trades-legacy.pt"] {
        let state = check(file, "trained", "none");
        assert_eq!(state.remarks, [Remark::Dead { n: 3 }, Remark::NoCounters], "{file}");
    }
}

#[test]
fn a_normalization_in_the_state_dict_becomes_the_option() {
    for file in ["normalized.pt", "normalized-legacy.pt"] {
        let norm = "0.4914,0.4822,0.4465/0.2023,0.1994,0.201";
        let state = check(file, "normalized", norm);
        assert_eq!(state.norm.as_deref(), Some(norm));
        let names = vec!["mu".into(), "sigma".into()];
        assert_eq!(
            state.remarks[1..],
            [Remark::Stripped { prefix: "module.model.".into(), n: 20 }, Remark::Normalization { names },]
        );
    }
}

#[test]
fn parameters_and_half_precision_are_read() {
    for file in ["parameters.pt", "parameters-legacy.pt"] {
        check(file, "trained", "none");
    }
    for file in ["half.pt", "half-legacy.pt"] {
        check(file, "half", "none");
    }
}

#[test]
fn every_kind_of_tensor_has_pytorchs_values_to_the_bit() {
    let expected = expected();
    for file in ["odd.pt", "odd-legacy.pt"] {
        let state = read(file);
        assert_eq!(state.tensors.len(), 20, "{file}");
        for (name, ours) in &state.tensors {
            let truth = expected.tensor(&format!("odd.{name}"));
            assert_eq!(ours.dims(), truth.dims(), "{file}: {name}");
            let is_integer = |t: &Tensor| t.dtype() == DType::I64;
            assert_eq!(is_integer(ours), is_integer(truth), "{file}: {name} is {:?}", ours.dtype());
            assert_eq!(values(ours), values(truth), "{file}: {name}");
        }
        assert_eq!(state.tensors["third"].dtype(), DType::F64, "a double keeps its precision");
    }
}

#[test]
fn a_whole_model_is_refused_with_what_to_do() {
    for file in ["module.pt", "module-legacy.pt"] {
        let fault = torch::read(&bytes(file)).unwrap_err();
        assert!(matches!(&fault, Fault::Refused(name) if name == "__main__.TinyCnn"), "{file}: {fault:?}");
        assert!(fault.to_string().contains("save `model.state_dict()` in PyTorch"), "{fault}");
    }
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for file in ["plain.pt", "plain-legacy.pt", "plain.tar", "training.pt"] {
        let whole = bytes(file);
        let end_of_tar = if file.ends_with("tar") { 4096 } else { 0 }; // blocks of zeros end it, more than needed
        for end in (0..whole.len() - end_of_tar).step_by(97).chain([whole.len() - end_of_tar - 1]) {
            assert!(torch::read(&whole[..end]).is_err(), "{file} cut at {end}");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_numbers_alone() {
    for file in ["plain.pt", "plain-legacy.pt", "plain.tar"] {
        let whole = bytes(file);
        let names = |state: &StateDict| {
            let mut names: Vec<String> = state.tensors.keys().cloned().collect();
            names.sort();
            names
        };
        let before = names(&read(file));
        for bit in (0..8 * whole.len()).step_by(211) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(state) = torch::read(&flipped) {
                assert_eq!(names(&state).len(), before.len(), "{file}, bit {bit}");
            }
        }
    }
}
