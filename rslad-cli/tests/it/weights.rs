//! `rslad weights inspect`.

use super::support::Place;

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
