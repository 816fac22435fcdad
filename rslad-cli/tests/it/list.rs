//! `rslad list`, `rslad completions` and the help texts.

use super::support::Place;

fn lists(what: &str, parts: &[&str]) {
    let out = Place::new().rslad(&["list", what]).ok().out;
    for part in parts {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

#[test]
fn every_registry_is_listed() {
    lists(
        "archs",
        &["tiny_cnn", "width = 64", "11,173,962 parameters · 555 M multiply-accumulates", "wrn34-10"],
    );
    lists("attacks", &["fgsm", "cw_inf", "usual keys  steps = 20"]);
    lists("methods", &["rslad", "outer", "inner", "natural"]);
    lists("recipes", &["digits/resnet18-rslad", "digits/resnet18-teacher", "--print"]);
    lists("suites", &["quick", "fgsm, pgd20, cw_inf20", "select"]);
    lists("datasets", &["digits", "fashion-mnist"]);
}

#[test]
fn completions_are_scripts_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = Place::new().rslad(&["completions", shell]).ok().out;
        assert!(out.contains("quickstart") && out.contains("save-adversarial"), "{shell}");
    }
}

#[test]
fn help_teaches_within_a_hundred_columns() {
    let helps: [(&[&str], &[&str]); 6] = [
        (&[], &["Start with:", "Exit codes:", "75  interrupted, run again", "standard error"]),
        (&["quickstart"], &["adversarial.png", "Examples:", "[default: runs/quickstart]"]),
        (&["train"], &["last.safetensors", "Examples:", "the same\nbytes"]),
        (&["eval"], &["result.json", "Examples:", "all images in the\ndenominator"]),
        (&["weights", "inspect"], &["Examples:", "[default: 32x32]"]),
        (&["list"], &["Embedded suites"]),
    ];
    for (command, parts) in helps {
        let out = Place::new().rslad(&[command, &["--help"]].concat()).ok().out;
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(flat(&out).contains(&flat(part)), "{part} is not in\n{out}");
        }
        let wide = out.lines().find(|line| line.chars().count() > 100 && !line.starts_with("Usage"));
        assert_eq!(wide, None, "{command:?}");
    }
}
