//! `rslad transfer`.

use super::support::{Place, json};

const SUITE: &str = "name = 'short'
about = 'a black-box table, shortened'
for = 'transfer'
[[column]]
name = 'pgd'
attack = 'pgd'
steps = 5
step_size = 'eps/4'
start = 'uniform'
clip_start = 'clip'
[[column]]
name = 'square'
attack = 'square'
queries = 20
restarts = 1
p_init = 0.8
schedule = 'fixed'
";

#[test]
fn points_of_every_source_meet_every_target() {
    let place = Place::new();
    place.model();
    place.train("other", &["--set", "schedule.epochs=2", "--seed", "5"]).ok();
    std::fs::write(place.at("short.toml"), SUITE).unwrap();
    let (a, b) = ("model/last.safetensors", "other/last.safetensors");
    let args = ["transfer", "--source", a, "--source", b, "--target", a, "--target", b, "--data", "digits"];
    let more = ["--suite", "short.toml", "--n", "30", "--eps", "0.15", "--out", "t"];
    let did = place.rslad(&[&args[..], &more].concat()).ok();
    assert!(did.out.contains("pgd, made on") && did.out.ends_with("t/transfer.json\n"), "{}", did.out);
    let matrix = json(&place.at("t/transfer.json"));
    let cells = |column: usize| matrix["columns"][column]["cells"].as_array().unwrap().clone();
    assert_eq!((cells(0).len(), cells(1).len()), (4, 2));
    assert!(cells(1).iter().all(|cell| cell["source"].is_null()));

    // On the diagonal it is the white-box attack: what falls there falls in an evaluation too.
    let suite = SUITE.replace("for = 'transfer'\n", "");
    std::fs::write(place.at("white.toml"), suite).unwrap();
    let args = ["eval", "--model", a, "--data", "digits", "--n", "30", "--eps", "0.15", "--out", "e"];
    place.rslad(&[&args[..], &["--suite", "white.toml"]].concat()).ok();
    let white = json(&place.at("e/result.json"))["columns"][0]["robust"].as_u64().unwrap();
    let diagonal = cells(0)[0]["robust"].as_u64().unwrap();
    // Images that are misclassified clean are attacked as well here, and some are misled into the label.
    assert!(diagonal >= white && diagonal <= white + 5, "{diagonal} and {white}");

    let refused = place.rslad(&[&args[..], &["--suite", "paper-blackbox"]].concat());
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("is for `rslad transfer`"), "{}", refused.err);
}
