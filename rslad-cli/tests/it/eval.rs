//! `rslad eval`: its files by name, key, type and shape, and that answers are kept.

use super::support::{Place, json, keys, tensor_bytes, tensors};
use std::collections::BTreeMap;

fn eval(place: &Place, out: &str, more: &[&str]) -> super::support::Did {
    let args = ["eval", "--model", "model/last.safetensors", "--data", "digits", "--out", out];
    place.rslad(&[&args[..], more].concat())
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn an_evaluation_writes_what_is_documented() {
    let place = Place::new();
    place.model();
    let did =
        eval(&place, "e", &["--suite", "quick", "--n", "40", "--save-adversarial", "--batch-size", "16"])
            .ok();
    assert!(did.out.contains("cw_inf20") && did.out.ends_with("e/result.json\n"), "{}", did.out);
    assert!(did.err.contains("eps 0.15 (as the checkpoint was selected)"), "{}", did.err);
    let written: Vec<String> = place.tree().into_iter().filter(|f| f.starts_with("e/")).collect();
    assert_eq!(written, ["e/", "e/per_example.safetensors", "e/result.json", "e/suite.toml"]);

    let result = json(&place.at("e/result.json"));
    let top = ["clean", "columns", "cost", "data", "eps", "model", "schema", "seed", "trust", "version"];
    assert_eq!(keys(&result), [&top[..], &["warnings"]].concat());
    assert_eq!(keys(&result["cost"]), ["macs", "ms_per_image", "parameters", "threads"]);
    assert!(result["cost"]["ms_per_image"].as_f64().unwrap() > 0.0);
    assert_eq!(keys(&result["model"]), ["arch", "path", "sha256"]);
    assert_eq!(keys(&result["data"]), ["n", "name", "sha256", "split"]);
    assert_eq!(keys(&result["clean"]), ["accuracy", "ci95", "correct", "n", "non_finite"]);
    let column = keys(&result["columns"][0]);
    let first = ["accuracy", "attack", "ci95", "eight_bit", "funnel", "max_linf", "n", "name"];
    assert_eq!(column, [&first[..], &["non_finite", "robust", "seconds"]].concat());
    assert_eq!(keys(&result["columns"][0]["eight_bit"]), ["fallen", "still"]);
    let names: Vec<&str> =
        result["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fgsm", "pgd20", "cw_inf20"]);
    assert_eq!((&result["data"]["n"], &result["eps"]), (&40.into(), &"0.15".into()));

    let told = |dtype: &str, shape: &[usize]| (dtype.to_string(), shape.to_vec());
    let mut expected = BTreeMap::new();
    for name in ["index", "label", "clean_prediction"] {
        expected.insert(name.to_string(), told("U32", &[40]));
    }
    expected.insert("clean_correct".to_string(), told("U8", &[40]));
    for name in names {
        expected.insert(format!("{name}/robust"), told("U8", &[40]));
        expected.insert(format!("{name}/prediction"), told("U32", &[40]));
        expected.insert(format!("{name}/linf"), told("F32", &[40]));
        expected.insert(format!("{name}/x_adv"), told("F32", &[40, 1, 8, 8]));
    }
    assert_eq!(tensors(&place.at("e/per_example.safetensors")), expected);
}

#[test]
fn the_numbers_are_those_of_the_flags_of_each_image() {
    let place = Place::new();
    place.model();
    eval(&place, "e", &["--attack", "fgsm", "--n", "50"]).ok();
    let (result, file) = (json(&place.at("e/result.json")), place.at("e/per_example.safetensors"));
    let robust = tensor_bytes(&file, "fgsm/robust").iter().filter(|flag| **flag == 1).count();
    let (label, predicted) = (tensor_bytes(&file, "label"), tensor_bytes(&file, "clean_prediction"));
    let correct = label.chunks(4).zip(predicted.chunks(4)).filter(|(a, b)| a == b).count();
    assert_eq!(result["clean"]["correct"], correct);
    assert_eq!(result["columns"][0]["robust"], robust);
    let answer = tensor_bytes(&file, "fgsm/prediction");
    for (i, flag) in tensor_bytes(&file, "fgsm/robust").into_iter().enumerate() {
        let [label, clean, answer] = [&label, &predicted, &answer].map(|all| &all[4 * i..4 * i + 4]);
        assert_eq!(flag == 1, answer == label, "image {i}: what fell says something else");
        assert!(clean == label || answer == clean, "image {i} was not attacked");
    }
    assert!(f32s(&tensor_bytes(&file, "fgsm/linf")).iter().all(|&d| d <= 0.15));
    assert!(!tensors(&file).contains_key("fgsm/x_adv"), "only where it is asked for");
}

#[test]
fn batches_do_not_change_a_bit() {
    let place = Place::new();
    place.model();
    for (out, batch) in [("a", "7"), ("b", "40")] {
        let more = ["--suite", "select", "--n", "40", "--save-adversarial", "--batch-size", batch];
        eval(&place, out, &more).ok();
    }
    let read = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(read("a") == read("b"));
}

#[test]
fn a_radius_of_zero_is_clean_accuracy() {
    let place = Place::new();
    place.model();
    eval(&place, "e", &["--suite", "quick", "--eps", "0", "--n", "60"]).ok();
    let result = json(&place.at("e/result.json"));
    for column in result["columns"].as_array().unwrap() {
        assert_eq!((&column["robust"], &column["max_linf"]), (&result["clean"]["correct"], &0.0.into()));
    }
    let again = eval(&place, "e", &["--suite", "quick", "--eps", "0/255", "--n", "60"]).ok();
    assert!(again.err.contains("already done"), "{}", again.err);
}

#[test]
fn an_answered_question_is_not_asked_again_and_another_is_refused() {
    let place = Place::new();
    place.model();
    let asked = ["--attack", "fgsm", "--n", "30"];
    let first = eval(&place, "e", &asked).ok();
    let again = eval(&place, "e", &asked).ok();
    assert!(again.err.contains("already done"), "{}", again.err);
    assert_eq!(again.out, first.out);

    let before = std::fs::read(place.at("e/result.json")).unwrap();
    let others: [(&[&str], &str); 5] = [
        (&["--attack", "fgsm", "--n", "31"], "other data"),
        (&["--attack", "fgsm", "--n", "30", "--eps", "0.1"], "another radius"),
        (&["--attack", "fgsm", "--n", "30", "--seed", "1"], "another seed"),
        (&["--attack", "pgd", "--n", "30"], "other attacks"),
        (&["--attack", "fgsm", "--n", "30", "--model", "model/best.safetensors"], "another model"),
    ];
    for (more, difference) in others {
        let mut args = vec!["eval", "--data", "digits", "--out", "e"];
        if !more.contains(&"--model") {
            args.extend(["--model", "model/last.safetensors"]);
        }
        let did = place.rslad(&[&args[..], more].concat());
        assert_eq!(did.code, 2, "{did:?}");
        assert!(did.err.contains(difference) && did.err.contains("choose another --out"), "{}", did.err);
    }
    assert_eq!(std::fs::read(place.at("e/result.json")).unwrap(), before);

    eval(&place, "e", &[&asked[..], &["--save-adversarial"]].concat()).ok();
    assert!(tensors(&place.at("e/per_example.safetensors")).contains_key("fgsm/x_adv"));
}

#[test]
fn the_suite_of_a_result_asks_the_same_question() {
    let place = Place::new();
    place.model();
    eval(&place, "a", &["--suite", "select", "--attack", "fgsm", "--n", "20"]).ok();
    eval(&place, "b", &["--suite", "a/suite.toml", "--n", "20"]).ok();
    let read = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(read("a") == read("b"));
}

#[test]
fn a_model_of_other_data_is_evaluated_with_a_warning() {
    let place = Place::new();
    place.model();
    let args = [
        "eval",
        "--model",
        "model/last.safetensors",
        "--data",
        "fashion-mnist",
        "--n",
        "5",
        "--attack",
        "fgsm",
    ];
    let did = place.rslad(&[&args[..], &["--out", "e", "--quiet"]].concat()).ok();
    let warning = "the model was trained on `digits` and meets `fashion-mnist` here; expected the same data";
    assert_eq!(did.err, format!("warning: {warning}\n"));
    assert_eq!(json(&place.at("e/result.json"))["warnings"][0], warning);
}

#[test]
fn weights_without_their_architecture_are_read_with_flags() {
    let place = Place::new();
    place.model();
    let arch = ["--arch", "resnet18", "--arch-set", "width=4", "--arch-set", "blocks=1,1,1", "--arch-set"];
    let more = [&arch[..], &["in_channels=1", "--attack", "fgsm", "--n", "20", "--eps", "0.15"]].concat();
    eval(&place, "a", &more).ok();
    eval(&place, "b", &["--attack", "fgsm", "--n", "20"]).ok();
    let read = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(read("a") == read("b"));
}

#[cfg(unix)]
#[test]
fn a_full_disk_does_not_cost_the_numbers() {
    let place = Place::new();
    place.model();
    let before = place.tree();
    let args =
        ["eval", "--model", "model/last.safetensors", "--data", "digits", "--attack", "fgsm", "--out", "e"];
    let did = place.rslad_on_a_full_disk(20, &[&args[..], &["--save-adversarial"]].concat());
    assert_eq!(did.code, 7, "{did:?}");
    assert!(did.out.contains("accuracy, %") && did.err.contains("cannot write"), "{did:?}");
    // What was decided is kept, and with space again the same command goes on from it.
    let kept = ["e/", "e/journal.jsonl", "e/journal.points"];
    assert_eq!(place.tree(), [&kept.map(String::from)[..], &before].concat());
    let again = place.rslad(&[&args[..], &["--save-adversarial"]].concat()).ok();
    assert!(again.err.contains("continues") && again.out.starts_with(&did.out), "{again:?}");
}
