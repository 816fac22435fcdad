//! The recipes of the paper's tables: all of them there, each value with its source, and the choices
//! that the names promise.

use rslad_distill::recipe::SelectOn;
use rslad_distill::{RECIPES, Recipe};
use std::path::Path;

fn load(name: &str) -> Recipe {
    Recipe::load(name, &[]).unwrap()
}

fn number(recipe: &Recipe, key: &str) -> f64 {
    recipe.method[key].as_float().unwrap()
}

#[test]
fn every_recipe_file_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut files = Vec::new();
    for set in ["digits", "fashion-mnist", "cifar10", "cifar100"] {
        for entry in std::fs::read_dir(folder.join(set)).unwrap() {
            let path = entry.unwrap().path();
            files.push(format!("{set}/{}", path.file_stem().unwrap().to_str().unwrap()));
        }
    }
    let mut embedded: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
    files.sort();
    embedded.sort_unstable();
    assert_eq!(files, embedded);
}

#[test]
fn every_row_of_the_papers_tables_has_its_recipes() {
    for set in ["cifar10", "cifar100"] {
        for student in ["resnet18", "mobilenet_v2"] {
            let recipe = |row: &str| load(&format!("{set}/{student}-{row}"));
            let rslad = recipe("rslad-released").schedule;
            assert_eq!((rslad.epochs, rslad.drops.as_slice()), (300, &[215, 260, 285][..]));
            for row in ["natural", "sat-300", "trades-300", "ard-paper-300", "ard-released-300"] {
                assert_eq!(recipe(row).schedule, rslad, "{row}");
            }
            for row in ["iad-paper-300", "iad-released-300", "rslad-paper", "rslad-released-on-test"] {
                assert_eq!(recipe(row).schedule, rslad, "{row}");
            }
            let own = [("sat", 205), ("trades", 76), ("ard-paper", 200), ("iad-paper", 200)];
            for (row, epochs) in own {
                assert_eq!(recipe(&format!("{row}-own")).schedule.epochs, epochs, "{row}");
            }
        }
        for row in ["wrn-natural", "wrn-sat", "wrn-trades", "resnet50-sat"] {
            assert!(load(&format!("{set}/{row}")).teacher.is_none(), "{row}");
        }
    }
    let wide = [("student.depth".into(), "28".into()), ("student.width".into(), "5".into())];
    assert_eq!(
        Recipe::load("cifar10/wrn-trades", &wide).unwrap().student.options["depth"].as_integer(),
        Some(28)
    );
}

#[test]
fn paper_and_released_differ_where_formula_and_code_do() {
    for (set, classes) in [("cifar10", 10.0), ("cifar100", 100.0)] {
        let recipe = |row: &str| load(&format!("{set}/resnet18-{row}"));
        let scale = |row: &str| number(&recipe(row), "kl_scale");
        assert_eq!((scale("rslad-paper"), scale("rslad-released")), (1.0, 0.1));
        assert_eq!((scale("ard-paper-own"), scale("ard-released-own")), (1.0, 1.0 / classes));
        let drops = |row: &str| recipe(row).schedule.drops;
        assert_eq!((drops("ard-paper-own"), drops("ard-released-own")), (vec![100, 150], vec![100]));
        assert_eq!((drops("iad-paper-own"), drops("iad-released-own")), (vec![100, 150], vec![100]));
        let weighting = |row: &str| recipe(row).method["weighting"].as_str().unwrap().to_string();
        assert_eq!(
            (weighting("iad-paper-300").as_str(), weighting("iad-released-300").as_str()),
            ("paper", "released")
        );
        assert_eq!(recipe("rslad-released").select.on, SelectOn::Validation);
        let on_test = recipe("rslad-released-on-test").select;
        assert_eq!(
            (on_test.on, on_test.hold_out, on_test.suite.as_str()),
            (SelectOn::Test, 0, "select-released")
        );
    }
}

#[test]
fn a_budget_leaves_no_divergence_scaled_down_and_says_why() {
    let budget = RECIPES.iter().filter(|r| r.name.ends_with("-minutes") || r.name.ends_with("-hours"));
    let mut with_kl = 0;
    for entry in budget {
        let recipe = load(entry.name);
        assert!(recipe.schedule.epochs <= 120 && recipe.student.options["width"].as_integer() <= Some(16));
        if let Some(scale) = recipe.method.get("kl_scale") {
            assert_eq!(scale.as_float(), Some(1.0), "{}", entry.name);
            assert!(entry.text.contains("budget") || entry.name.contains("iad"), "{} says why", entry.name);
            with_kl += 1;
        }
    }
    assert_eq!(with_kl, 2 * 2 * 3, "ard, iad and rslad, of two data sets and two budgets");
}

#[test]
fn every_value_of_the_paper_has_its_source_beside_it() {
    for entry in RECIPES.iter().filter(|r| r.name.starts_with("cifar")) {
        for line in entry.text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
            let source = line.split_once(" # ").map(|(_, source)| source.trim());
            assert!(source.is_some_and(|s| s.len() > 5), "{}: no source in: {line}", entry.name);
        }
    }
}

#[test]
fn an_ablation_is_a_list_of_recipes() {
    let ablation: Vec<Recipe> = RECIPES
        .iter()
        .filter(|r| r.name.starts_with("cifar10/resnet18-label_slots-"))
        .map(|r| load(r.name))
        .collect();
    assert_eq!(ablation.len(), 10);
    let mut keys: Vec<String> = ablation.iter().map(|r| r.method.to_string()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 10, "they differ in the labels and alpha");
    let [first, others @ ..] = ablation.as_slice() else { panic!("no ablation") };
    for other in others {
        assert_eq!(
            (&other.optim, &other.schedule, &other.inner),
            (&first.optim, &first.schedule, &first.inner)
        );
    }
}
