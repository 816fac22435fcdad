//! What a run leaves in its directory.

use super::undisturbed;
use crate::common::micro::micro;

#[test]
fn metrics_are_the_events_line_by_line_and_end_with_the_state() {
    let whole = undisturbed(micro(&[]));
    let text = std::fs::read_to_string(whole.dir.path().join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let (plain, evaluated) =
        (["step", "step", "step", "epoch", "saved"], ["step", "step", "step", "epoch", "eval", "saved"]);
    assert_eq!(kinds, [&plain[..], &evaluated, &plain, &evaluated].concat());
    for (line, event) in lines.iter().filter(|line| line["event"] == "step").zip(&whole.log.steps) {
        let read = [&line["loss"], &line["grad_norm"], &line["lr"]].map(|v| v.as_f64().unwrap().to_bits());
        assert_eq!(read, [event.loss, event.grad_norm, event.lr].map(f64::to_bits), "read back to the bit");
    }
    assert_eq!(lines[21]["file"], "state-00005-000000.safetensors");
}

#[test]
fn weights_say_how_they_were_made() {
    let whole = undisturbed(micro(&[]));
    for (file, selection) in [("last", "last"), ("best", "best select on validation")] {
        let path = whole.dir.path().join(format!("{file}.safetensors"));
        let (network, provenance) = rslad_models::Network::load(&path).unwrap();
        assert_eq!(network.arch(), &whole.recipe.student);
        assert_eq!(provenance["recipe_sha256"], whole.recipe.hash());
        assert_eq!(provenance["selection"], selection);
        assert_eq!((&provenance["method"], &provenance["seed"]), (&"rslad".into(), &7.into()));
    }
}
