//! What hard labels can and cannot change.

use crate::common::micro::{Log, inputs_of, micro, train_in};
use rslad_data::{Contents, Dataset, Image, Pixels, Split};
use rslad_distill::{Outcome, Recipe};
use tempfile::TempDir;

/// The digits, every label another one than the true one.
fn poisoned(data: &Dataset) -> Dataset {
    let wrong = |row: usize| (data.label(row) + 1 + (row % 9) as u32) % 10;
    let values = |row| match data.image(row) {
        Image::Levels { values, .. } => values.to_vec(),
        Image::Floats(_) => panic!("digits are stored as bytes"),
    };
    let contents = Contents {
        name: data.name().to_owned(),
        split: data.split(),
        pixels: Pixels::Levels { values: (0..data.len()).flat_map(values).collect(), full_scale: 16 },
        shape: data.shape(),
        labels: (0..data.len()).map(wrong).collect(),
        class_names: data.class_names().to_vec(),
    };
    let poisoned = Dataset::new(contents).unwrap();
    assert!(data.labels().iter().zip(poisoned.labels()).all(|(y, wrong)| y != wrong));
    poisoned
}

fn trained(recipe: &Recipe, images: &Dataset) -> (Log, Vec<u8>, TempDir) {
    let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
    assert_eq!(train_in(dir.path(), recipe, &inputs_of(recipe, images), &mut log), Outcome::Finished);
    let last = std::fs::read(dir.path().join("last.safetensors")).unwrap();
    (log, last, dir)
}

/// A robust student in miniature: all digits, a small ResNet.
const RESNET: [(&str, &str); 7] = [
    (
        "student",
        "{ arch = 'resnet18', blocks = '1', classes = 10, in_channels = 1, norm = 'none', width = 4 }",
    ),
    ("data.limit", "0"),
    ("data.batch", "128"),
    ("select.hold_out", "144"),
    ("schedule.epochs", "2"),
    ("schedule.warmup", "0.5"),
    ("schedule.drops", "[1]"),
];

#[test]
fn rslad_never_reads_a_label() {
    let digits = rslad_data::open("digits", Split::Train).unwrap();
    for view in ["frozen", "batch_statistics"] {
        let recipe = micro(&[&RESNET[..], &[("inner.view", view)]].concat());
        let (with_truth, weights, _dir) = trained(&recipe, &digits);
        let (with_lies, same_weights, _dir) = trained(&recipe, &poisoned(&digits));
        assert!(weights == same_weights, "{view}: the weights differ");
        assert_eq!(with_truth.steps, with_lies.steps, "{view}");
        assert_eq!(with_truth.epochs, with_lies.epochs, "{view}");
        // Choosing the best checkpoint does read labels, those of the held-out images: `eval` events and
        // `best.safetensors` may differ, and the accuracies must.
        assert_ne!(with_truth.evals, with_lies.evals, "{view}");
    }
}

#[test]
fn a_method_that_reads_labels_is_changed_by_wrong_ones() {
    let digits = rslad_data::open("digits", Split::Train).unwrap();
    let text = crate::common::micro::MICRO
        .replace("[teacher]\nfile = \"a teacher made by the test\"", "")
        .replace("name = \"rslad\"\nalpha = 0.8333333333333334\nkl_scale = 1.0", "name = \"sat\"");
    let recipe = Recipe::parse("sat", &text, &[("schedule.epochs".into(), "2".into())]).unwrap();
    let (with_truth, weights, _dir) = trained(&recipe, &digits);
    let (with_lies, other_weights, _dir) = trained(&recipe, &poisoned(&digits));
    assert!(weights != other_weights);
    assert_ne!(with_truth.steps, with_lies.steps);
}

#[test]
fn a_checkpoint_chosen_by_the_loss_of_rslad_is_chosen_without_labels() {
    let digits = rslad_data::open("digits", Split::Train).unwrap();
    let recipe = micro(&[("select.by", "loss"), ("select.every", "1")]);
    let (with_truth, _, dir) = trained(&recipe, &digits);
    let (with_lies, _, lying_dir) = trained(&recipe, &poisoned(&digits));
    let best = |dir: &TempDir| std::fs::read(dir.path().join("best.safetensors")).unwrap();
    assert!(best(&dir) == best(&lying_dir));
    let chosen = |log: &Log| log.evals.iter().map(|e| (e.loss.unwrap(), e.best)).collect::<Vec<_>>();
    assert_eq!(chosen(&with_truth), chosen(&with_lies));
    let lowest = chosen(&with_truth)
        .iter()
        .scan(f64::INFINITY, |low, (loss, _)| {
            let best = *loss < *low;
            *low = low.min(*loss);
            Some(best)
        })
        .collect::<Vec<_>>();
    assert_eq!(chosen(&with_truth).iter().map(|(_, best)| *best).collect::<Vec<_>>(), lowest);
    let (_, provenance) = rslad_models::Network::load(&dir.path().join("best.safetensors")).unwrap();
    assert_eq!(provenance["selection"], "best loss on validation");
}
