//! Every registered architecture learns from embedded images.

use crate::common::micro::{Log, MICRO, inputs, train_in};
use rslad_distill::{Outcome, Recipe};
use rslad_models::ARCHS;

/// The smallest options of an architecture, in place of its published ones.
fn tiny(arch: &str) -> &'static str {
    match arch {
        "resnet18" | "resnet34" | "resnet50" | "dm_preact_resnet18" => "width = 4, blocks = '1,1'",
        "mobilenet_v2" => "divisor = 8",
        "wrn" | "dm_wrn" => "depth = 10, width = 1",
        "tiny_cnn" => "width = 4",
        other => panic!("give the tests tiny options for `{other}`"),
    }
}

#[test]
fn the_loss_of_every_architecture_falls_on_embedded_digits() {
    let (data_and_student, rest) = MICRO.split_once("[teacher]").unwrap();
    let optim_and_on = rest.split_once("[optim]").unwrap().1;
    let natural = format!("{data_and_student}[method]\nname = \"natural\"\n\n[optim]{optim_and_on}");
    for arch in ARCHS {
        let shared = "classes = 10, in_channels = 1, norm = 'none'";
        let student = format!("{{ arch = '{}', {shared}, {} }}", arch.name, tiny(arch.name));
        let changes = [
            ("student", student.as_str()),
            ("data.limit", "1000"),
            ("data.batch", "64"),
            ("schedule.epochs", "6"),
        ];
        let changes: Vec<_> = changes.map(|(k, v)| (k.to_string(), v.to_string())).to_vec();
        let recipe = Recipe::parse("micro, natural", &natural, &changes).unwrap();
        let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
        assert_eq!(train_in(dir.path(), &recipe, &inputs(&recipe), &mut log), Outcome::Finished);
        let losses: Vec<f64> = log.epochs.iter().map(|e| e.loss).collect();
        assert!(losses[losses.len() - 1] < 0.97 * losses[0], "{}: {losses:?}", arch.name);
    }
}
