//! `rslad transfer`.

use super::support::{MICRO, Place, json};

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

    place.rslad(&["report", "model", "other", "t", "--out", "r"]).ok();
    let shown = json(&place.at("r/report.json"))["transfers"].clone();
    assert_eq!(shown.as_array().unwrap().len(), 1, "Square is made on the targets: nothing to transfer");
    assert_eq!(
        (&shown[0]["column"], &shown[0]["n"], &shown[0]["eps"]),
        (&"pgd".into(), &30.into(), &"0.15".into())
    );
    for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let cell =
            cells(0).into_iter().find(|cell| cell["source"] == row && cell["target"] == column).unwrap();
        assert_eq!(shown[0]["accuracy"][row][column], cell["accuracy"], "{row} {column}");
    }
    assert_eq!(shown[0]["sources"], serde_json::json!(["model, last", "other, last"]));
    assert!(std::fs::read_to_string(place.at("r/report.html")).unwrap().contains("Transfer of pgd"));
    assert!(place.at("r/figures/transfer-0-pgd.svg").exists());
    std::fs::write(place.at("t/transfer.json"), "{\"column\": \"pgd\"}").unwrap();
    let did = place.rslad(&["report", "t", "--out", "r"]);
    assert!(did.code == 2 && did.err.contains("expected what `rslad transfer` writes"), "{did:?}");

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

#[test]
fn a_black_box_is_attacked_through_its_surrogate() {
    let place = Place::new();
    // Natural students, which learn in a second and fall to points of their own.
    let learned = ["schedule.epochs=6", "schedule.drops=[5]", "data.limit=960", "select.every=6"];
    let set: Vec<&str> = learned.iter().flat_map(|set| ["--set", *set]).collect();
    for (out, seed) in [("model", "0"), ("other", "5")] {
        let args = ["train", "--recipe", "digits/resnet18-natural", "--seed", seed, "--out", out];
        place.rslad(&[&args[..], &MICRO, &set].concat()).ok();
    }
    std::fs::write(place.at("short.toml"), SUITE).unwrap();
    let (a, b) = ("model/last.safetensors", "other/last.safetensors");
    let images = ["--data", "digits", "--n", "60", "--eps", "0.15", "--suite", "short.toml"];
    let eval = |out: &str, more: &[&str]| {
        place.rslad(&[&["eval", "--model", a, "--out", out][..], &images, more].concat())
    };
    eval("e", &["--source", b]).ok();
    let result = json(&place.at("e/result.json"));
    assert_eq!(result["source"]["path"], b);
    let names = |i: usize| (result["columns"][i]["name"].clone(), result["columns"][i]["attack"].clone());
    assert_eq!(
        [names(0), names(1)],
        [("pgd".into(), "pgd_transfer".into()), ("square".into(), "square".into())]
    );

    place.rslad(&[&["transfer", "--source", b, "--target", a, "--out", "t"][..], &images].concat()).ok();
    let matrix = json(&place.at("t/transfer.json"));
    for column in [0, 1] {
        let here = result["columns"][column]["robust"].as_u64().unwrap();
        let there = matrix["columns"][column]["cells"][0]["robust"].as_u64().unwrap();
        let unknown = 60 - result["clean"]["correct"].as_u64().unwrap();
        assert!(
            here <= there && there <= here + unknown,
            "{here}, {there}: misclassified clean count there only"
        );
    }
    let itself = eval("self", &["--source", a]).ok();
    assert!(itself.out.contains("pgd"), "{}", itself.out);
    let robust =
        |dir: &str| json(&place.at(dir).join("result.json"))["columns"][0]["robust"].as_u64().unwrap();
    assert!(2 * robust("self") < robust("e"), "points of its own are stronger than those of another");

    for part in ["1/2", "2/2"] {
        eval(&format!("part{}", &part[..1]), &["--source", b, "--shard", part]).ok();
    }
    place.rslad(&["eval", "merge", "part1", "part2", "--out", "merged"]).ok();
    let bytes = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(bytes("merged") == bytes("e"));
    assert_eq!(json(&place.at("merged/result.json"))["source"], result["source"]);

    let other = eval("e", &["--source", a]);
    assert!(other.code == 2 && other.err.contains("another surrogate"), "{other:?}");
    let white = place
        .rslad(&["eval", "--model", a, "--source", b, "--data", "digits", "--suite", "quick", "--out", "w"]);
    assert!(white.code == 2 && white.err.contains("expected one with `for = \"transfer\"`"), "{white:?}");
}
