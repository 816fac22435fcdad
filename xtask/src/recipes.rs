//! `cargo xtask recipes`: writes the recipes of rslad-distill/recipes from the parts beside them.
//!
//! A recipe is complete, so that whoever reads one sees every value with its source; a value that many
//! recipes share is written once, in a part. `cargo xtask tidy` compares the two.

mod rows;

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Where recipes and parts lie.
pub(crate) const FOLDER: &str = "rslad-distill/recipes";

/// The first line of a written recipe.
pub(crate) const HEAD: &str = "# Written by `cargo xtask recipes`; change the parts.\n";

/// What a recipe is made of: its sentence, and its parts with words in braces to fill in.
struct Recipe {
    name: String,
    about: String,
    parts: Vec<String>,
    words: Vec<(&'static str, String)>,
}

/// Writes every recipe that differs from its parts.
///
/// # Errors
/// When a part is missing or leaves a brace open, or a file cannot be written.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let folder = root.join(FOLDER);
    let part = |name: &str| {
        let path = folder.join("parts").join(format!("{name}.toml"));
        fs::read_to_string(&path).with_context(|| format!("no part {}", path.display()))
    };
    let (mut written, all) = (0, composed(&part)?);
    for (name, text) in &all {
        let path = folder.join(format!("{name}.toml"));
        if fs::read_to_string(&path).is_ok_and(|found| found == *text) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
        written += 1;
    }
    println!("recipes: {} composed, {written} of them written", all.len());
    Ok(())
}

/// The name and text of every composed recipe; `part` reads a part by its name.
///
/// # Errors
/// When a part is missing or leaves a brace open.
pub(crate) fn composed(
    part: &dyn Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<(String, String)>> {
    rows::all().iter().map(|recipe| Ok((recipe.name.clone(), recipe.text(part)?))).collect()
}

impl Recipe {
    fn text(&self, part: &dyn Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<String> {
        let mut text = format!(
            "{HEAD}about = \"{}\" # the name: ../parts and docs/recipes.md\n\
             seed = 0 # RSLAD's scripts: torch.manual_seed(0)\n",
            self.about
        );
        for name in &self.parts {
            text += "\n";
            text += &part(name)?;
        }
        for (word, value) in &self.words {
            text = text.replace(&format!("{{{word}}}"), value);
        }
        match text.lines().find(|line| line.contains('{') && !line.contains("{ ")) {
            Some(line) => bail!("{}: nothing fills the brace in: {line}", self.name),
            None => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(parts: &[&str], words: &[(&'static str, &str)]) -> Recipe {
        Recipe {
            name: "a/b".into(),
            about: "an example".into(),
            parts: parts.iter().map(|p| (*p).to_string()).collect(),
            words: words.iter().map(|(w, v)| (*w, (*v).to_string())).collect(),
        }
    }

    #[test]
    fn parts_follow_each_other_with_their_words_filled_in() {
        let part = |name: &str| Ok(format!("[{name}]\nn = {{n}} # of {{n}}\n"));
        let text = recipe(&["x", "y"], &[("n", "3")]).text(&part).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("about = \"an example\""));
        assert!(text.ends_with("\n\n[x]\nn = 3 # of 3\n\n[y]\nn = 3 # of 3\n"), "{text}");
    }

    #[test]
    fn a_brace_that_nothing_fills_is_told() {
        let part = |_: &str| Ok("n = {m}\n".to_string());
        let error = recipe(&["x"], &[("n", "3")]).text(&part).unwrap_err().to_string();
        assert_eq!(error, "a/b: nothing fills the brace in: n = {m}");
    }

    #[test]
    fn no_two_recipes_have_one_name() {
        let mut names: Vec<String> = rows::all().into_iter().map(|r| r.name).collect();
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
