//! The recipes that the binary carries, from `recipes/<data set>/<student>-<method>.toml`.

/// An embedded recipe.
#[derive(Clone, Copy, Debug)]
pub struct RecipeEntry {
    /// Its name: the file's path without the extension.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! recipe {
    ($name:literal) => {
        RecipeEntry { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }
    };
}

/// All embedded recipes.
pub const RECIPES: &[RecipeEntry] = &[
    recipe!("digits/resnet18-teacher"),
    recipe!("digits/resnet18-natural"),
    recipe!("digits/resnet18-sat"),
    recipe!("digits/resnet18-trades"),
    recipe!("digits/resnet18-mart"),
    recipe!("digits/resnet18-ard"),
    recipe!("digits/resnet18-iad"),
    recipe!("digits/resnet18-iad2"),
    recipe!("digits/resnet18-rslad"),
    recipe!("digits/resnet18-label_slots"),
    recipe!("digits/resnet18-adaad"),
    recipe!("digits/resnet18-igdm"),
];
