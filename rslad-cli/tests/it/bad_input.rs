//! What a new user gets wrong: the message names the thing, the value, the expectation and the fix; the
//! exit code is the documented one; and nothing is left behind.

use super::support::{Place, RECIPE};

/// Exit code and parts of the message for each command line; `MODEL` stands for a checkpoint.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

fn check(place: &Place, before: &[&str], cases: &[Case<'_>]) {
    let tree = place.tree();
    for (args, code, parts) in cases {
        let args: Vec<&str> = before.iter().chain(*args).copied().collect();
        let did = place.rslad(&args);
        assert_eq!(did.code, *code, "{args:?}: {did:#?}");
        assert_eq!(did.out, "", "{args:?}");
        for part in *parts {
            assert!(did.err.contains(part), "{args:?}: {part:?} is not in\n{}", did.err);
        }
        assert_eq!(did.err.matches("error: ").count(), 1, "{args:?}: {}", did.err);
        assert_eq!(place.tree(), tree, "{args:?} left something behind");
    }
}

/// A place with files that are not what they are taken for.
fn place() -> Place {
    let place = Place::new();
    let model = std::fs::read(place.at(place.model())).unwrap();
    std::fs::write(place.at("cut.safetensors"), &model[..1000]).unwrap();
    std::fs::write(place.at("page.pt"), "<!DOCTYPE html><html>").unwrap();
    std::fs::write(place.at("no.toml"), "not toml [").unwrap();
    std::fs::write(place.at("other.toml"), "a = 1").unwrap();
    let suite = "name = 'a'\nabout = 'b'\n[[column]]\nname = 'x'\nattack = 'pgd'\n";
    std::fs::write(place.at("suite.toml"), suite).unwrap();
    place
}

#[test]
fn commands() {
    let place = Place::new();
    check(
        &place,
        &[],
        &[
            (&["trian"], 2, &["'trian'", "'train'"]),
            (&["train"], 2, &["--recipe", "--out"]),
            (&["list"], 2, &["<WHAT>"]),
            (
                &["list", "archs", "--device", "gpu"],
                2,
                &["'gpu'", "--device", "expected cpu, cuda or cuda:N"],
            ),
            (&["list", "attack"], 2, &["'attack'", "attacks"]),
            (&["completions", "fishy"], 2, &["'fishy'", "fish"]),
            (&["quickstart", "--seed", "x"], 2, &["'x'", "--seed", "expected a whole number"]),
            (&["quickstart", "--set", "epochs"], 2, &["'epochs'", "expected KEY=VALUE"]),
            (&["weights", "inspect"], 2, &["<FILE>"]),
            (&["weights", "inspect", "x", "--image", "3"], 2, &["'3'", "such as 32x32"]),
            (&["weights", "inspect", "x"], 4, &["x: no such file, expected a checkpoint"]),
        ],
    );
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_gpu_in_a_build_that_has_none() {
    let words = [
        "device cuda:1: this build computes on the processor only",
        "`cargo xtask cuda build`",
        "--device cpu",
    ];
    let place = place();
    let train = ["train", "--recipe", RECIPE, "--out", "o", "--device", "cuda:1"];
    let eval = ["eval", "--model", place.model(), "--data", "digits", "--suite", "quick", "--out", "o"];
    let on = [&eval[..], &["--device", "cuda:1"]].concat();
    check(&place, &[], &[(&train, 2, &words), (&on, 2, &words)]);
}

#[test]
fn flags_of_train() {
    check(
        &place(),
        &["train", "--recipe", RECIPE, "--out", "o"],
        &[
            (&["--set", "width"], 2, &["'width'", "expected KEY=VALUE, such as schedule.epochs=20"]),
            (&["--set", "=3"], 2, &["'=3'", "expected KEY=VALUE"]),
            (&["--data", "cifar"], 3, &["`cifar`", "expected one of: `digits`", "did you mean `cifar10`?"]),
            (&["--data", "cifar10:nowhere"], 3, &["nowhere: cannot be read"]),
            (&["--data", "cifar100:."], 3, &["no cifar100 (train) here", "cifar-100-binary.tar.gz"]),
            (&["--data", "digits:x"], 3, &["`digits:x`", "write `digits`"]),
            (&["--teacher", "nowhere"], 4, &["nowhere: no such file", "digits-teacher"]),
            (&["--teacher", "."], 4, &[".: cannot be read", "expected a checkpoint of rslad"]),
            (&["--teacher", "third=x"], 2, &["--teacher third=x", "expected teacher=FILE"]),
            (&["--teacher", "cut.safetensors"], 4, &["`teacher.file`", "cut.safetensors", "damaged"]),
            (&["--teacher", "page.pt"], 4, &["page.pt", "is a web page, not a checkpoint"]),
            (
                &["--teacher", "second_teacher=model/last.safetensors"],
                2,
                &["`[second_teacher]`", "remove it"],
            ),
            (&["--seed", "-1"], 2, &["'-1'", "--seed", "a whole number from 0 to 2^63 - 1"]),
            (&["--seed", "9223372036854775808"], 2, &["--seed", "2^63 - 1"]),
        ],
    );
}

#[test]
fn keys_of_a_recipe() {
    let cases: [(&str, i32, &[&str]); 37] = [
        ("optim.lr=fast", 2, &["`optim.lr` is \"fast\"", "expected a number, such as 0.1"]),
        ("optim.lr=-1", 2, &["`optim.lr` is -1, expected above 0"]),
        ("optim.lr=nan", 2, &["`optim.lr` is NaN"]),
        ("optim.momentum=1", 2, &["`optim.momentum` is 1", "below 1"]),
        ("optim.weight_decay=-1", 2, &["`optim.weight_decay` is -1"]),
        ("optim.lr.x=1", 2, &["`optim.lr.x` cannot be set", "write lr=1"]),
        ("nope.lr=1", 2, &["`nope` is unknown", "`optim`"]),
        ("student.arch=resnet19", 2, &["unknown architecture `resnet19`", "resnet18"]),
        ("student.width=0", 2, &["`width` is 0", "expected 1..="]),
        ("student.classes=7", 2, &["student 7", "data 10", "set `student.classes`"]),
        ("student.in_channels=3", 2, &["`student.in_channels` is 3", "have 1"]),
        ("student.norm=imagenet", 2, &["`norm` is \"imagenet\""]),
        ("inner.eps=8", 2, &["`inner.eps` is 8", "write \"8/255\""]),
        ("inner.eps=0", 2, &["`inner.eps` is 0", "(0, 1]"]),
        ("inner.step_size=2", 2, &["`inner.step_size` is 2", "write \"2/255\""]),
        ("inner.steps=0", 2, &["`inner.steps` is 0", "expected 1"]),
        ("inner.start=unifrom", 2, &["`inner.start` is \"unifrom\"", "`uniform`"]),
        ("inner.view=train", 2, &["`inner.view` is \"train\"", "`batch_statistics`"]),
        ("method.name=rsald", 2, &["`method.name` is \"rsald\"", "rslad"]),
        ("method.alpha=2", 2, &["`method.alpha` is 2, expected 0 to 1"]),
        ("method.beta=2", 2, &["`method.beta` is unknown", "`alpha`"]),
        ("schedule.epochs=0", 2, &["`schedule.epochs` is 0, expected at least 1"]),
        ("schedule.epochs=1.5", 2, &["`schedule.epochs` is 1.5, expected a whole number"]),
        ("schedule.drops=3", 2, &["`schedule.drops` is 3, expected a list, such as"]),
        ("schedule.warmup=99", 2, &["`schedule.warmup` is 99, expected 0 to "]),
        ("data.set=imagenet", 3, &["unknown data set `imagenet`", "`digits`"]),
        ("data.limit=99999", 3, &["`data.limit`", "99999", "expected 1 to 1437"]),
        ("data.batch=1", 2, &["`data.batch` is 1, expected 2"]),
        ("data.batch=1292", 2, &["the last batch", "change `data.batch`"]),
        ("data.augment.flip=vertical", 2, &["`data.augment.flip` is \"vertical\"", "`horizontal`"]),
        ("data.augment.crop=999", 2, &["`data.augment.crop`", "999"]),
        ("select.hold_out=5000", 3, &["`select.hold_out`", "5000", "expected 1 to 1436"]),
        ("select.on=test", 2, &["`select.hold_out` is ", "expected 0 with"]),
        ("select.suite=nope", 2, &["`select.suite`", "unknown suite `nope`", "quick"]),
        ("select.every=0", 2, &["`select.every` is 0", "1 or more"]),
        ("teacher.file=nowhere", 4, &["nowhere: no such file", "digits-teacher"]),
        ("teacher.norm=0.5/0", 2, &["`teacher.norm`", "standard deviations must be above 0"]),
    ];
    let place = Place::new();
    for (set, code, parts) in cases {
        let args = ["--recipe", RECIPE, "--out", "o", "--set", set];
        check(&place, &["train"], &[(&args, code, parts)]);
    }
}

#[test]
fn files_of_recipes() {
    check(
        &place(),
        &["train", "--out", "o", "--recipe"],
        &[
            (&["nope"], 2, &["nope: neither a file nor an embedded recipe", "`rslad list recipes`"]),
            (&["digits/resnet18-rsald"], 2, &["did you mean digits/resnet18-rslad?"]),
            (&["."], 2, &[".: ", "expected a recipe in TOML"]),
            (&["no.toml"], 2, &["no.toml: not TOML", "line 1"]),
            (&["other.toml"], 2, &["other.toml: `a` is unknown", "remove or correct it"]),
            (&["model/last.safetensors"], 2, &["model/last.safetensors", "expected a recipe in TOML"]),
        ],
    );
}

#[test]
fn flags_of_eval() {
    check(
        &place(),
        &["eval", "--model", "model/last.safetensors", "--data", "digits", "--out", "o"],
        &[
            (&[], 2, &["--suite <NAME|FILE>|--attack <NAME>"]),
            (&["--suite", "nope"], 2, &["unknown suite `nope`", "quick, select", "TOML file"]),
            (&["--suite", "nowhere/a.toml"], 2, &["nowhere/a.toml", "expected a suite in TOML"]),
            (&["--suite", "."], 2, &[".: ", "expected a suite in TOML"]),
            (&["--suite", "no.toml"], 2, &["no.toml: ", "line 1", "`[[column]]`"]),
            (&["--suite", "suite.toml"], 2, &["suite.toml: column `x`", "`steps`", "steps = 20"]),
            (&["--attack", "pgd2"], 2, &["unknown attack `pgd2`", "fgsm, pgd, cw_inf"]),
            (&["--attack", "pgd", "--attack", "pgd"], 2, &["column `pgd` is asked for twice", "drop one"]),
            (&["--suite", "quick", "--attack", "fgsm"], 2, &["column `fgsm` is asked for twice"]),
            (&["--attack", "fgsm", "--eps", "8"], 2, &["radius is `8`", "write \"8/255\""]),
            (&["--attack", "fgsm", "--eps", "-1/255"], 2, &["radius is `-1/255`", "(0, 1]"]),
            (&["--attack", "fgsm", "--n", "0"], 2, &["'0'", "--n", "at least 1"]),
            (&["--attack", "fgsm", "--n", "-5"], 2, &["'-5'", "--n", "at least 1"]),
            (&["--attack", "fgsm", "--n", "361"], 3, &["361 images", "expected 1 to 360"]),
            (&["--attack", "fgsm", "--batch-size", "0"], 2, &["--batch-size", "at least 1"]),
            (&["--attack", "fgsm", "--seed", "x"], 2, &["--seed", "expected a whole number"]),
            (&["--attack", "fgsm", "--split", "valid"], 2, &["`valid`, expected `train` or `test`"]),
            (&["--attack", "fgsm", "--arch-set", "width=4"], 2, &["--arch <NAME>"]),
            (&["--attack", "fgsm", "--arch", "resnet"], 2, &["unknown architecture `resnet`", "resnet18"]),
            (
                &["--attack", "fgsm", "--arch", "resnet18"],
                4,
                &["`conv1.weight` is [4, 1, 3, 3], expected [64, 3"],
            ),
            (&["--attack", "fgsm", "--arch", "resnet18", "--arch-set", "with=4"], 2, &["`with`", "`width`"]),
        ],
    );
}

#[test]
fn files_of_weights() {
    let state = "model/state-00003-000000.safetensors";
    check(
        &place(),
        &["eval", "--data", "digits", "--attack", "fgsm", "--out", "o", "--model"],
        &[
            (&["nowhere"], 4, &["nowhere: no such file, expected a checkpoint"]),
            (&["."], 4, &[".: cannot be read"]),
            (&["cut.safetensors"], 4, &["cut.safetensors", "damaged", "wholly copied?"]),
            (&["page.pt"], 4, &["page.pt: is a web page, not a checkpoint"]),
            (&[state], 4, &[state, "take best.safetensors or last.safetensors beside it"]),
        ],
    );
}

#[test]
fn data_that_does_not_fit_the_model() {
    let place = Place::new();
    place.train("model", &["--set", "schedule.epochs=1"]).ok();
    let args = ["eval", "--model", "model/last.safetensors", "--attack", "fgsm", "--out", "o"];
    check(
        &place,
        &args,
        &[(&["--data", "cifar10"], 3, &["`cifar10` is not here", "run `rslad data fetch cifar10`"])],
    );
    let rgb = ["--arch", "tiny_cnn", "--data", "digits", "--model", "model/last.safetensors"];
    let args = ["eval", "--attack", "fgsm", "--out", "o"];
    check(&place, &args, &[(&rgb, 4, &["missing `conv2.weight`"])]);
}

#[test]
fn places_that_cannot_be_written_to() {
    let place = place();
    let evaluation = ["eval", "--model", "model/last.safetensors", "--data", "digits", "--attack", "fgsm"];
    let commands: [&[&str]; 3] = [&["train", "--recipe", RECIPE], &evaluation, &["quickstart"]];
    for command in commands {
        for out in ["no.toml", "no.toml/below", "/proc/rslad", "/proc/self"] {
            check(
                &place,
                command,
                &[(&["--out", out], 7, &[out, "cannot write there", "choose another --out"])],
            );
        }
        check(&place, command, &[(&["--out", ""], 2, &["--out"])]);
    }
}
