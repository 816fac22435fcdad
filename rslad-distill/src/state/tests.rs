//! A state is found whole, or another is found in its place, or it is refused.

use super::*;
use crate::recipe::Recipe;
use candle_core::Device;
use rslad_models::ArchSpec;
use rslad_models::randomness::{Key, Purpose};
use tempfile::TempDir;

/// A state of the first format, saved after epoch 1 of a run of 80 digits in batches of 32.
const FORMAT_1: &[u8] = include_bytes!("../../tests/goldens/state_format_1.safetensors");

fn student() -> Network {
    let options = "classes = 10\nin_channels = 1\nnorm = 'none'\nwidth = 2";
    Network::new(&ArchSpec::parse("tiny_cnn", options).unwrap(), 7).unwrap()
}

fn open(path: &Path) -> RunDir {
    RunDir::open(path, &Recipe::load("digits/resnet18-natural", &[]).unwrap()).unwrap()
}

/// A directory with two states, and the positions of both.
fn saved() -> (TempDir, RunDir, [Position; 2]) {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path());
    let positions = [1, 2].map(|epoch| Position { epoch, ..Position::start(1) });
    for position in &positions {
        save(&dir, &student(), &Sgd::new(0.9, 0.0), &Averages::new(None), &mut position.clone()).unwrap();
    }
    (place, dir, positions)
}

/// The state to go on from, restored.
fn resume(
    dir: &RunDir,
    student: &Network,
    sgd: Sgd,
    averages: Averages,
) -> Result<Option<(Position, Sgd, Averages)>> {
    let found = newest(dir)?;
    found.map(|(name, bytes)| restore(&dir.file(&name), &bytes, student, sgd, averages)).transpose()
}

fn found(dir: &RunDir) -> Result<Option<Position>> {
    let position = |found: Option<(Position, Sgd, Averages)>| {
        found.map(|(position, ..)| Position { seal: seal::OPEN.into(), ..position })
    };
    resume(dir, &student(), Sgd::new(0.9, 0.0), Averages::new(None)).map(position)
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_state_is_noticed_and_the_one_before_is_found() {
    let (_place, dir, [previous, latest]) = saved();
    let path = dir.file(&file_name(&latest));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(found(&dir).unwrap(), Some(latest));
    let mut draws = Key::new(0, Purpose::named("damage")).stream(0);
    let mut below = |n: usize| draws.below(n as u32) as usize;
    let check = |what: String, damaged: &[u8]| {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(found(&dir).unwrap().as_ref(), Some(&previous), "{what}");
    };
    for _ in 0..2_000 {
        let (byte, bit) = (below(bytes.len()), below(8));
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        check(format!("bit {bit} of byte {byte}"), &damaged);
    }
    for _ in 0..200 {
        let end = below(bytes.len());
        check(format!("cut at {end}"), &bytes[..end]);
    }
}

#[test]
fn whatever_happens_to_the_pointer_a_whole_state_is_found() {
    let (_place, dir, [previous, latest]) = saved();
    let path = dir.file("LATEST.json");
    let text = std::fs::read(&path).unwrap();
    let check = |what: String| {
        let position = found(&dir).unwrap();
        assert!(
            position == Some(latest.clone()) || position == Some(previous.clone()),
            "{what}: {position:?}"
        );
    };
    for byte in 0..text.len() {
        for bit in 0..8 {
            let mut damaged = text.clone();
            damaged[byte] ^= 1 << bit;
            std::fs::write(&path, damaged).unwrap();
            check(format!("bit {bit} of byte {byte}"));
        }
        std::fs::write(&path, &text[..byte]).unwrap();
        check(format!("cut at {byte}"));
    }
    std::fs::remove_file(&path).unwrap();
    check("removed".into());
}

#[test]
fn the_present_state_and_the_one_before_are_kept() {
    let (_place, dir, positions) = saved();
    let third = Position { epoch: 2, steps_done: 5, ..Position::start(1) };
    save(&dir, &student(), &Sgd::new(0.9, 0.0), &Averages::new(None), &mut third.clone()).unwrap();
    assert_eq!(states(&dir).unwrap(), [file_name(&positions[1]), file_name(&third)]);
    // The newest is lost, and the run went on from an older one.
    let again = Position { epoch: 2, steps_done: 1, ..Position::start(1) };
    save(&dir, &student(), &Sgd::new(0.9, 0.0), &Averages::new(None), &mut again.clone()).unwrap();
    assert_eq!(states(&dir).unwrap(), [file_name(&positions[1]), file_name(&again)]);
}

#[test]
fn states_of_the_first_format_still_load() {
    let place = tempfile::tempdir().unwrap();
    let (dir, student) = (open(place.path()), student());
    std::fs::write(dir.file("state-00002-000000.safetensors"), FORMAT_1).unwrap();
    let latest = Latest { file: "state-00002-000000.safetensors".into(), sha256: hex(FORMAT_1) };
    std::fs::write(dir.file("LATEST.json"), serde_json::to_string(&latest).unwrap()).unwrap();

    let (position, sgd, _) =
        resume(&dir, &student, Sgd::new(0.9, 2e-4), Averages::new(None)).unwrap().unwrap();
    assert_eq!((position.format, position.epoch, position.steps_done, position.metrics), (1, 2, 0, 821));
    assert_eq!(position.best, Some(Best { epoch: 1, clean: 0.1, robust: 0.1, loss: None }));
    let file = candle_core::safetensors::load_buffer(FORMAT_1, &Device::Cpu).unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for ((name, w), v) in student.parameters().zip(sgd.velocity()) {
        assert_eq!(values(w), values(&file[&format!("model.{name}")]), "{name}");
        assert_eq!(values(v), values(&file[&format!("optim.{name}")]), "{name}");
    }
    assert!(values(&student.params().state_dict().unwrap()[0].1).iter().any(|w| *w != 0.0));
}
