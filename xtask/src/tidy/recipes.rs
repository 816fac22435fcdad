//! Recipes that are composed of parts say what the parts say.

use super::Finding;
use super::tree::File;
use crate::recipes::{FOLDER, HEAD, composed};

use anyhow::Context;

/// Every composed recipe is there as its parts make it, and none that they no longer make.
pub(super) fn recipes_are_their_parts(files: &[File]) -> Vec<Finding> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    if !files.iter().any(|file| file.path.starts_with(&format!("{FOLDER}/parts/"))) {
        return vec![];
    }
    let part = |name: &str| {
        let path = format!("{FOLDER}/parts/{name}.toml");
        text(&path).map(str::to_string).with_context(|| format!("{path} is missing"))
    };
    let recipes = match composed(&part) {
        Ok(recipes) => recipes,
        Err(error) => return vec![Finding::of(FOLDER, format!("{error:#}"))],
    };
    compare(files, &recipes)
}

fn compare(files: &[File], recipes: &[(String, String)]) -> Vec<Finding> {
    let path = |name: &str| format!("{FOLDER}/{name}.toml");
    let is_there = |name: &str, text: &str| files.iter().any(|f| f.path == path(name) && f.text == text);
    let changed = recipes.iter().filter(|(name, text)| !is_there(name, text));
    let changed = changed
        .map(|(name, _)| Finding::of(&path(name), "differs from its parts; run `cargo xtask recipes`"));
    let known = |file: &File| recipes.iter().any(|(name, _)| file.path == path(name));
    let left = files.iter().filter(|file| file.text.starts_with(HEAD) && !known(file));
    changed
        .chain(left.map(|file| Finding::of(&file.path, "no recipe of the parts any more; remove it")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    #[test]
    fn changed_missing_and_left_over_recipes_are_found() {
        let recipe = |name: &str| (name.to_string(), format!("{HEAD}a = 1\n"));
        let recipes = [recipe("x/one"), recipe("x/two"), recipe("x/three")];
        let files = [
            file(&format!("{FOLDER}/x/one.toml"), &format!("{HEAD}a = 1\n")),
            file(&format!("{FOLDER}/x/two.toml"), &format!("{HEAD}a = 2\n")),
            file(&format!("{FOLDER}/x/four.toml"), &format!("{HEAD}a = 1\n")),
            file(&format!("{FOLDER}/x/own.toml"), "a = 1\n"),
        ];
        let found: Vec<String> = compare(&files, &recipes).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["two", "three", "four"].map(|name| format!("{FOLDER}/x/{name}.toml")));
    }
}
