//! `rslad weights`, and weights of others wherever a model is asked for.

use super::support::{Did, Place, json};
use std::path::{Path, PathBuf};

/// A file that PyTorch wrote.
fn torch(file: &str) -> String {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rslad-models/tests/goldens/torch");
    goldens.join(file).to_str().unwrap().to_string()
}

fn embedded_teacher() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/digits-teacher.safetensors")
}

#[track_caller]
fn assert_told(text: &str, parts: &[&str]) {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(flat(text).contains(&flat(part)), "{part:?} is not in\n{text}");
    }
}

#[track_caller]
fn assert_refused(did: &Did, code: i32, parts: &[&str]) {
    assert_eq!(did.code, code, "{did:#?}");
    assert_told(&did.err, parts);
}

#[test]
fn a_checkpoint_tells_network_making_costs_and_layers() {
    let place = Place::new();
    let model = place.model();
    let out =
        place.rslad(&["weights", "inspect", model, "model/best.safetensors", "--image", "8x8"]).ok().out;
    for part in [
        "model/last.safetensors\n",
        "model/best.safetensors\n",
        "network   resnet18 (blocks = \"1,1,1\", classes = 10, in_channels = 1, norm = \"none\", width = 4)",
        "method rslad",
        "data digits",
        "5,142 parameters",
        "for one image of 8x8",
        "layer2.0.shortcut.0",
        "8x4x1x1",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let total = out.lines().find(|line| line.starts_with("all ")).unwrap();
    assert_eq!(total.split_whitespace().collect::<Vec<_>>(), ["all", "5,142", "168", "49,568"]);
}

#[test]
fn a_file_that_does_not_say_its_architecture_is_shown_with_flags() {
    let place = Place::new();
    let model = place.model();
    let arch = ["--arch", "resnet18", "--arch-set", "width=4", "--arch-set", "blocks=1,1,1", "--arch-set"];
    let args = [&["weights", "inspect", model][..], &arch, &["in_channels=1"]].concat();
    assert!(place.rslad(&args).ok().out.contains("made by   the file does not say"));
}

#[test]
fn what_pytorch_saved_is_recognized_and_shown() {
    let place = Place::new();
    let files = ["plain.pt", "training-legacy.pt", "plain.tar", "normalized.pt"].map(torch);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let did = place.rslad(&[&["weights", "inspect"][..], &files].concat()).ok();
    let plain = "network tiny_cnn (classes = 10, in_channels = 3, norm = \"none\", width = 2)";
    let normalized = "norm = \"0.4914,0.4822,0.4465/0.2023,0.1994,0.201\"";
    assert_told(
        &did.out,
        &[
            "file PyTorch, zip format (1.6 and later), ",
            "file PyTorch, legacy format (before 1.6), ",
            "file PyTorch, tar format (before 0.1.10), ",
            plain,
            "recognized from names and shapes",
            "read took the state dict under `net`, ignored beside it: `epoch`, `optimizer`, `args`",
            "read stripped `module.` from 20 names",
            "read the normalization in `mu`, `sigma`",
            normalized,
        ],
    );
}

#[test]
fn a_converted_state_dict_needs_no_flag_and_gives_the_same_answers() {
    let place = Place::new();
    let gray = torch("gray-legacy.pt");
    let flags = ["--arch", "tiny_cnn", "--arch-set", "width=2", "--arch-set", "in_channels=1"];
    let eval = |model: &str, more: &[&str], out: &str| {
        let args =
            ["eval", "--model", model, "--data", "digits", "--attack", "fgsm", "--n", "20", "--out", out];
        place.rslad(&[&args[..], more].concat())
    };
    let unsaid = eval(&gray, &[], "none");
    let seems = "its names and shapes are those of `tiny_cnn` (classes = 10, in_channels = 1, width = 2)";
    assert_refused(&unsaid, 4, &["does not say its architecture", seems, "rslad weights convert"]);
    eval(&gray, &flags, "foreign").ok();

    let did = place.rslad(&["weights", "convert", &gray, "--out", "ours/gray.safetensors"]).ok();
    assert_eq!(did.out, "ours/gray.safetensors\n");
    assert_told(&did.err, &["tiny_cnn", "recognized from names and shapes"]);
    eval("ours/gray.safetensors", &[], "ours-eval").ok();
    let answers = |dir: &str| std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap();
    assert!(answers("foreign") == answers("ours-eval"));
    let told = place.rslad(&["weights", "inspect", "ours/gray.safetensors"]).ok().out;
    assert_told(
        &told,
        &["file checkpoint of rslad", "source gray-legacy.pt", "source_format PyTorch, legacy format"],
    );

    let again = place.rslad(&["weights", "convert", &gray, "--out", "ours/gray.safetensors"]);
    assert_refused(&again, 2, &["ours/gray.safetensors: is there already"]);
    let both = [torch("plain.pt"), torch("half.pt")];
    let did = place
        .rslad(&["weights", "convert", &both[0], &both[1], "--arch-set", "norm=cifar10", "--out", "all"])
        .ok();
    assert_eq!(did.out, "all/plain.safetensors\nall/half.safetensors\n");
    assert_told(
        &place.rslad(&["weights", "inspect", "all/half.safetensors"]).ok().out,
        &["norm = \"cifar10\""],
    );
}

#[test]
fn weights_that_cannot_be_used_are_explained() {
    let place = Place::new();
    let (normalized, module, plain) = (torch("normalized.pt"), torch("module.pt"), torch("plain.pt"));
    std::fs::write(place.at("cut.pt"), &std::fs::read(&plain).unwrap()[..4000]).unwrap();
    let inspect = |args: &[&str]| place.rslad(&[&["weights", "inspect"][..], args].concat());
    let cifar10 = ["--arch", "tiny_cnn", "--arch-set", "width=2", "--arch-set", "norm=cifar10"];
    let held = "holds the normalization 0.4914,0.4822,0.4465/0.2023,0.1994,0.201, and `norm` is \"cifar10\"";
    assert_refused(
        &inspect(&[&[normalized.as_str()][..], &cifar10].concat()),
        4,
        &[held, "leave `norm` out"],
    );
    assert_refused(&inspect(&[&module]), 4, &["names `__main__.TinyCnn`", "save `model.state_dict()`"]);
    assert_refused(
        &inspect(&["cut.pt"]),
        4,
        &["cut.pt: ends within its zip archive", "a download that broke off?"],
    );
    let wrong = inspect(&[&plain, "--arch", "resnet18"]);
    assert_refused(
        &wrong,
        4,
        &["seems to be of `tiny_cnn`", "missing `layer1.0.conv1.weight`", "unexpected `conv2.weight`"],
    );
    let two = place.rslad(&["weights", "convert", &plain, &module, "--out", "a.safetensors"]);
    assert_refused(&two, 2, &["--out is one file for 2, expected a directory"]);
}

#[test]
fn a_pinned_teacher_is_its_hash() {
    let place = Place::new();
    let rslad = |args: &[&str]| -> Did {
        place.command(args).env("RSLAD_CACHE", place.at("cache")).output().unwrap().into()
    };
    let train = ["train", "--recipe", "digits/resnet18-rslad", "--out", "o", "--teacher", "wrn34-10-trades"];
    let hash = "2ede52bd042bbdf40a0c27e8008034afd9cbb0b256b9077a255e555d25f957f4";
    let fetch =
        ["model_cifar_wrn.pt: no such file; fetch model_cifar_wrn.pt", hash, "https://drive.google.com/"];
    assert_refused(&rslad(&train), 4, &fetch);
    let folder = place.at("cache/weights/wrn34-10-trades");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(torch("plain.pt"), folder.join("model_cifar_wrn.pt")).unwrap();
    let other = ["is not `wrn34-10-trades`: its SHA-256 is ", hash, "download it again"];
    assert_refused(&rslad(&train), 4, &other);
    assert_refused(&rslad(&["weights", "inspect", "wrn34-10-trades"]), 4, &other);
    let by_path = rslad(&["weights", "inspect", "cache/weights/wrn34-10-trades/model_cifar_wrn.pt"]).ok();
    assert_told(&by_path.out, &["named as `wrn34-10-trades` was published, and is another file", "tiny_cnn"]);
    let list = rslad(&["list", "teachers"]).ok().out;
    assert_told(&list, &["wrn34-10-trades 84.92 % clean on cifar10", hash, "wrn70-16-gowal2020"]);
}

#[test]
fn a_published_network_under_the_wrong_normalization_is_warned_of() {
    let place = Place::new();
    std::fs::copy(embedded_teacher(), place.at("teacher.safetensors")).unwrap();
    let eval = |more: &[&str], out: &str| {
        let args =
            ["eval", "--model", "teacher.safetensors", "--data", "digits", "--attack", "fgsm", "--out", out];
        place.rslad(&[&args[..], more].concat()).ok();
        json(&place.at(out).join("result.json"))["warnings"].to_string()
    };
    assert!(!eval(&[], "right").contains("as published"));
    let options = ["width=16", "blocks=1,1,1", "in_channels=1", "norm=0.9/0.1"];
    let flags: Vec<&str> = options.iter().flat_map(|option| ["--arch-set", option]).collect();
    let warnings = eval(&[&["--arch", "resnet18"][..], &flags].concat(), "wrong");
    assert_told(&warnings, &["expected 98.9 % as published for `digits-teacher`", "another normalization"]);
}
