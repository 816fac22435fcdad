//! `rslad eval merge`, `rslad eval diff` and `--eps-sweep`.

use super::support::{Did, Place, json, tensor_bytes};

fn eval(place: &Place, out: &str, more: &[&str]) -> Did {
    let args = ["eval", "--model", "model/last.safetensors", "--data", "digits", "--out", out];
    place.rslad(&[&args[..], more].concat())
}

fn place() -> Place {
    let place = Place::new();
    place.model();
    place
}

/// Numbers that depend on time are left out.
fn timeless(mut result: serde_json::Value) -> serde_json::Value {
    for column in result["columns"].as_array_mut().unwrap() {
        column["seconds"] = 0.into();
    }
    result
}

#[test]
fn shards_put_together_are_the_whole() {
    let place = place();
    let asked = ["--suite", "quick", "--n", "50", "--save-adversarial"];
    eval(&place, "whole", &asked).ok();
    for part in ["1/3", "2/3", "3/3"] {
        eval(&place, &format!("part{}", &part[..1]), &[&asked[..], &["--shard", part]].concat()).ok();
    }
    let did = place.rslad(&["eval", "merge", "part3", "part1", "part2", "--out", "merged"]).ok();
    assert!(did.out.contains("n = 50") && did.out.ends_with("merged/result.json\n"), "{}", did.out);
    for file in ["per_example.safetensors", "suite.toml"] {
        let read = |dir: &str| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read("merged") == read("whole"), "{file}");
    }
    let [merged, whole] = ["merged", "whole"].map(|dir| timeless(json(&place.at(dir).join("result.json"))));
    for key in ["model", "data", "clean", "columns", "warnings", "eps", "seed", "schema", "version"] {
        assert_eq!(merged[key], whole[key], "{key}");
    }
    assert!(merged.get("shard").is_none());
    assert_eq!(json(&place.at("part2/result.json"))["shard"], serde_json::json!({ "index": 2, "of": 3 }));
}

/// A directory as it was written before the answers under attack were kept.
fn without_predictions(place: &Place, from: &str, to: &str) {
    std::fs::create_dir(place.at(to)).unwrap();
    for file in ["result.json", "suite.toml"] {
        std::fs::copy(place.at(from).join(file), place.at(to).join(file)).unwrap();
    }
    let bytes = std::fs::read(place.at(from).join("per_example.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = all.iter().filter(|(name, _)| !name.ends_with("/prediction"));
    let kept = safetensors::serialize(kept, None).unwrap();
    std::fs::write(place.at(to).join("per_example.safetensors"), kept).unwrap();
}

#[test]
fn files_without_the_answers_under_attack_are_merged_compared_and_reported() {
    let place = place();
    for i in ["1", "2"] {
        let asked = ["--attack", "fgsm", "--n", "30", "--shard", &format!("{i}/2")];
        eval(&place, &format!("new{i}"), &asked).ok();
        without_predictions(&place, &format!("new{i}"), &format!("old{i}"));
    }
    for (name, parts, kept) in
        [("new", ["new1", "new2"], true), ("old", ["old1", "old2"], false), ("both", ["new1", "old2"], false)]
    {
        place.rslad(&["eval", "merge", parts[0], parts[1], "--out", name]).ok();
        let file = place.at(name).join("per_example.safetensors");
        assert_eq!(super::support::tensors(&file).contains_key("fgsm/prediction"), kept, "{name}");
        place.rslad(&["report", name, "--out", &format!("report-{name}")]).ok();
        let report = json(&place.at(&format!("report-{name}/report.json")));
        let confusion = &report["classes"][0]["confusion"];
        assert_eq!(confusion.is_array(), kept, "{name}");
        assert_eq!(
            place
                .at(&format!("report-{name}/figures/confusion-{}.svg", "resnet-18-model-last-safetensors"))
                .exists(),
            kept
        );
    }
    let same = place.rslad(&["eval", "diff", "new", "old"]).ok();
    assert!(same.out.contains("1.00e0") && !same.out.contains("is right on"), "{}", same.out);
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let place = place();
    let part = |out: &str, shard: &str, more: &[&str]| {
        let asked = ["--attack", "fgsm", "--n", "30", "--shard", shard];
        eval(&place, out, &[&asked[..], more].concat()).ok();
    };
    part("a", "1/3", &[]);
    part("b", "2/3", &[]);
    part("c", "3/3", &[]);
    part("other", "3/3", &["--eps", "0.1"]);
    part("seed", "1/3", &["--seed", "4"]);
    part("half", "2/2", &[]);
    eval(&place, "attack", &["--attack", "pgd", "--n", "30", "--shard", "3/3"]).ok();
    eval(&place, "whole", &["--attack", "fgsm", "--n", "30"]).ok();
    let refused = |dirs: &[&str], told: &[&str]| {
        let did = place.rslad(&[&["eval", "merge"], dirs, &["--out", "m"]].concat());
        assert_eq!(did.code, 2, "{did:?}");
        for told in told {
            assert!(did.err.contains(told), "{}", did.err);
        }
        assert!(!place.at("m").exists());
    };
    refused(&["a", "b"], &["parts are missing: 3/3"]);
    refused(&["a", "b", "b", "c"], &["b: is part 2/3, and so is b"]);
    refused(&["a", "b", "other"], &["other: is of another radius than"]);
    refused(&["seed", "b", "c"], &["seed: is of another seed than"]);
    refused(&["a", "b", "attack"], &["attack: is of other attacks than"]);
    refused(&["a", "half", "c"], &["half: is part 2/2, the others are parts of 3"]);
    refused(&["a", "b", "whole"], &["whole: is a whole evaluation"]);
    refused(&["a", "nowhere"], &["nowhere", "expected the directory of a finished `rslad eval`"]);
}

#[test]
fn a_difference_names_the_images_and_how_likely_it_is() {
    let place = place();
    eval(&place, "a", &["--attack", "fgsm", "--attack", "pgd", "--n", "60"]).ok();
    let best =
        ["eval", "--model", "model/best.safetensors", "--data", "digits", "--attack", "pgd", "--n", "60"];
    place.rslad(&[&best[..], &["--out", "b"]].concat()).ok();
    let did = place.rslad(&["eval", "diff", "a", "b", "--out", "diff.json"]).ok();
    assert!(
        did.out.contains("p (McNemar)") && did.out.contains("pgd") && !did.out.contains("fgsm"),
        "{}",
        did.out
    );
    let diff = json(&place.at("diff.json"));
    let flags = |dir: &str| tensor_bytes(&place.at(dir).join("per_example.safetensors"), "pgd/robust");
    let (a, b) = (flags("a"), flags("b"));
    let only = |a: &[u8], b: &[u8]| (0..60).filter(|&i| a[i] > b[i]).collect::<Vec<usize>>();
    let column = &diff["columns"][1];
    assert_eq!(column["only_first_right"], serde_json::json!(only(&a, &b)));
    assert_eq!(column["only_second_right"], serde_json::json!(only(&b, &a)));
    assert_eq!(column["only_first"], only(&a, &b).len());

    let same = place.rslad(&["eval", "diff", "a", "a"]).ok();
    assert!(same.out.contains("1.00e0") && !same.out.contains("is right on"), "{}", same.out);
    eval(&place, "c", &["--attack", "pgd", "--n", "59"]).ok();
    let did = place.rslad(&["eval", "diff", "a", "c"]);
    assert_eq!(did.code, 2);
    assert!(did.err.contains("c: is of other images than a"), "{}", did.err);
}

#[test]
fn a_sweep_is_an_evaluation_at_each_radius() {
    let place = place();
    let asked = ["--attack", "pgd", "--n", "40"];
    let did = eval(&place, "s", &[&asked[..], &["--eps-sweep", "0,0.1,8/255"]].concat()).ok();
    assert!(did.out.contains("eps 0.1") && did.out.ends_with("s/curve.json\n"), "{}", did.out);
    let curve = json(&place.at("s/curve.json"));
    let points = curve["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|p| p["eps"].as_str().unwrap()).collect::<Vec<_>>(), ["0", "0.1", "8/255"]);
    assert_eq!(points[0]["columns"]["pgd"]["accuracy"], points[0]["clean"]);
    eval(&place, "one", &[&asked[..], &["--eps", "0.1"]].concat()).ok();
    let read = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(read("s/eps-0.1") == read("one"));
    let did = eval(&place, "s", &[&asked[..], &["--eps-sweep", "0.1", "--eps", "0.1"]].concat());
    assert_eq!(did.code, 2);
}

#[test]
fn auto_attack_shows_its_funnel_and_whether_to_trust_it() {
    let place = place();
    let did = eval(&place, "e", &["--suite", "autoattack", "--n", "12"]).ok();
    assert!(did.out.contains("aa, standing after each attack: clean "), "{}", did.out);
    assert!(did.out.contains("checks passed"), "{}", did.out);
    let result = json(&place.at("e/result.json"));
    let funnel = result["columns"][0]["funnel"].as_array().unwrap();
    let names: Vec<&str> = funnel.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["clean", "apgd_ce", "apgd_t", "fab_t", "square"]);
    let left: Vec<u64> = funnel.iter().map(|stage| stage["robust"].as_u64().unwrap()).collect();
    assert!(left.is_sorted_by(|a, b| a >= b) && left[0] == result["clean"]["correct"].as_u64().unwrap());
    assert_eq!(left[4], result["columns"][0]["robust"].as_u64().unwrap());
    let tensor = |name: &str| tensor_bytes(&place.at("e/per_example.safetensors"), name);
    let says_the_label = tensor("aa/prediction")
        .chunks(4)
        .zip(tensor("label").chunks(4))
        .map(|(a, b)| a == b)
        .collect::<Vec<_>>();
    assert_eq!(says_the_label, tensor("aa/robust").iter().map(|&flag| flag == 1).collect::<Vec<_>>());
    let names: Vec<&str> =
        result["trust"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let model = ["the model's answers repeat", "the model's outputs are logits", "gradients are alive"];
    assert_eq!(names[..3], model);
}
