//! Recipes: those in the binary are whole, and others are read, changed and named.

mod papers;
mod refused;

use crate::common::micro::MICRO;
use rslad_data::Split;
use rslad_distill::{Error, RECIPES, Recipe};

pub fn parse(text: &str, changes: &[(&str, &str)]) -> Result<Recipe, Error> {
    let changes: Vec<_> = changes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Recipe::parse("mine.toml", text, &changes)
}

/// Classes and image shape of a data set, also of one whose files are not here.
fn described(set: &str) -> (usize, [usize; 3], usize) {
    match set {
        "cifar10" => (10, [3, 32, 32], 50_000),
        "cifar100" => (100, [3, 32, 32], 50_000),
        embedded => {
            let train = rslad_data::open(embedded, Split::Train).unwrap();
            (train.n_classes(), train.shape(), train.len())
        }
    }
}

#[test]
fn every_embedded_recipe_is_whole() {
    for entry in RECIPES {
        let recipe = Recipe::load(entry.name, &[]).unwrap();
        let method = recipe.method().unwrap();
        assert_eq!(method.plan().is_adversarial(), recipe.inner.is_some(), "{}", entry.name);
        let name = recipe.method["name"].as_str().unwrap();
        assert!(entry.name.contains(name) || entry.name.contains("teacher"), "{}", entry.name);
        assert!(entry.name.contains(&recipe.student.arch), "{}", entry.name);
        assert!(entry.name.starts_with(&format!("{}/", recipe.data.set)), "{}", entry.name);

        let (classes, [channels, height, width], images) = described(&recipe.data.set);
        let graph = recipe.student.graph().unwrap();
        assert_eq!((graph.n_classes(), graph.in_channels()), (classes, channels), "{}", entry.name);
        graph.shapes(height, width).unwrap();
        let images = if recipe.data.limit > 0 { recipe.data.limit.min(images) } else { images };
        assert!(recipe.select.hold_out < images, "{}", entry.name);
    }
}

#[test]
fn every_registered_method_has_an_embedded_recipe() {
    let used = |name| {
        RECIPES
            .iter()
            .any(|entry| Recipe::load(entry.name, &[]).unwrap().method["name"].as_str() == Some(name))
    };
    for method in rslad_distill::METHODS {
        assert!(used(method.name), "no recipe uses {}", method.name);
    }
}

#[test]
fn what_is_written_beside_the_results_is_the_recipe() {
    for entry in RECIPES {
        let recipe = Recipe::load(entry.name, &[]).unwrap();
        let written = recipe.to_toml();
        let read = Recipe::parse("recipe.toml", &written, &[]).unwrap();
        assert_eq!(read, recipe, "{}", entry.name);
        assert_eq!((read.to_toml(), read.hash()), (written, recipe.hash()), "{}", entry.name);
    }
}

#[test]
fn the_hash_names_the_recipe_and_not_its_spelling() {
    let recipe = parse(MICRO, &[]).unwrap();
    let hash = |text: &str, changes: &[(&str, &str)]| parse(text, changes).unwrap().hash();
    assert_eq!(recipe.hash().len(), 64);
    assert_eq!(hash(&MICRO.replace("lr = 0.1", "lr = 1e-1 # as usual"), &[]), recipe.hash());
    assert_eq!(hash(MICRO, &[("inner.steps", "2")]), recipe.hash());
    for (key, value) in [
        ("seed", "1"),
        ("inner.steps", "6"),
        ("method.alpha", "0.5"),
        ("student.width", "9"),
        ("teacher.file", "x"),
    ] {
        assert_ne!(hash(MICRO, &[(key, value)]), recipe.hash(), "{key}");
    }
}

#[test]
fn changes_reach_every_part_of_a_recipe() {
    let recipe = parse(
        MICRO,
        &[
            ("seed", "3"),
            ("inner.eps", "8/255"),
            ("inner.step_size", "2/255"),
            ("inner.view", "batch_statistics"),
            ("schedule.drops", "[1, 2]"),
            ("data.augment.crop", "4"),
            ("data.augment", "{ crop = 2, flip = 'horizontal' }"),
            ("student.norm", "0.5/0.25"),
            ("optim.lr", "1"),
            ("about", "a sentence = with signs"),
        ],
    )
    .unwrap();
    let inner = recipe.inner.unwrap();
    assert_eq!((inner.eps.to_string(), inner.step_size.to_string()), ("8/255".into(), "2/255".into()));
    assert_eq!((recipe.seed, recipe.optim.lr, recipe.about.as_str()), (3, 1.0, "a sentence = with signs"));
    assert_eq!((recipe.schedule.drops, recipe.data.augment.crop), (vec![1, 2], 2));
    assert_eq!(recipe.student.options["norm"].as_str(), Some("0.5/0.25"));
}

#[test]
fn a_recipe_that_is_not_there_is_told_what_is() {
    let error = Recipe::load("digits/resnet18-rlsad", &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "digits/resnet18-rlsad: neither a file nor an embedded recipe, did you mean digits/resnet18-rslad? \
         `rslad list recipes` shows all of them"
    );
    let error = Recipe::load("mine.toml", &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "mine.toml: neither a file nor an embedded recipe; `rslad list recipes` shows all of them"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(Recipe::load(path, &[]).unwrap_err().to_string().starts_with(&format!("{path}: ")));
}

#[test]
fn a_recipe_is_read_from_a_file_under_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.toml");
    std::fs::write(&path, MICRO).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(Recipe::load(path, &[]).unwrap(), parse(MICRO, &[]).unwrap());
    let error = Recipe::load(path, &[("optim.lr".into(), "0".into())]).unwrap_err();
    assert_eq!(error.to_string(), format!("{path}: `optim.lr` is 0, expected above 0"));
}
