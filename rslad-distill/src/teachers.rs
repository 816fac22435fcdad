//! The published robust networks that people distil from, each pinned: where it was published, the hash of the
//! file, the architecture and normalization that it runs under, and the accuracy it then has.
//!
//! A teacher under the wrong normalization trains a student all the same, only a worse one. So what belongs
//! to a file is found by its hash, not by its name, and an evaluation compares what it measures with what
//! was published.

use rslad_models::ArchSpec;
use serde::Deserialize;
use std::sync::LazyLock;

/// A published network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Its name in recipes and on the command line.
    pub name: String,
    /// What the publisher calls the file.
    pub file: String,
    /// Where it was published.
    pub url: Vec<String>,
    /// The SHA-256 of the file in hex, where it is known.
    pub sha256: Option<String>,
    arch: String,
    options: toml::Table,
    /// The data set that it was trained for.
    pub data: String,
    /// Its accuracy without an attack on all test images, in `[0, 1]`.
    pub clean: f64,
    /// Who published it, and who measured it.
    pub source: String,
}

/// A file that is not the one that was pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not `{name}`: its SHA-256 is {found}, expected {expected}; download it again (a page in place of the \
     file, or a download that broke off, has another hash), from {url}"
)]
pub struct OtherFile {
    name: String,
    found: String,
    expected: String,
    url: String,
}

static TEACHERS: LazyLock<Vec<Teacher>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lock {
        teacher: Vec<Teacher>,
    }
    let lock: Lock = toml::from_str(include_str!("../recipes/teachers.lock")).expect("a test reads it");
    lock.teacher
});

/// All of them.
pub fn all() -> &'static [Teacher] {
    &TEACHERS
}

/// The teacher of this name.
pub fn by_name(name: &str) -> Option<&'static Teacher> {
    all().iter().find(|teacher| teacher.name == name)
}

/// The teacher whose file has this SHA-256, in hex.
pub fn by_sha256(sha256: &str) -> Option<&'static Teacher> {
    all().iter().find(|teacher| teacher.sha256.as_deref() == Some(sha256))
}

impl Teacher {
    /// Its architecture and options, the normalization among them.
    ///
    /// # Errors
    /// When the architecture has no such options.
    pub fn arch(&self) -> rslad_models::Result<ArchSpec> {
        ArchSpec::published(&self.arch, &self.options)
    }

    /// That a file of this SHA-256 is the published one, as far as that is known.
    ///
    /// # Errors
    /// When it is another.
    pub fn check(&self, sha256: &str) -> Result<(), OtherFile> {
        match &self.sha256 {
            Some(expected) if expected != sha256 => Err(OtherFile {
                name: self.name.clone(),
                found: sha256.into(),
                expected: expected.clone(),
                url: self.url.join(" or "),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_teacher_is_a_network_that_can_be_built() {
        for teacher in all() {
            let arch = teacher.arch().expect(&teacher.name);
            let graph = arch.graph().expect(&teacher.name);
            assert_eq!(
                graph.n_classes(),
                if teacher.data == "cifar100" { 100 } else { 10 },
                "{}",
                teacher.name
            );
            assert!(teacher.options.contains_key("norm"), "{}: the normalization is said", teacher.name);
            assert!((0.5..1.0).contains(&teacher.clean), "{}", teacher.name);
            let is_hash = |hash: &String| hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit());
            assert!(teacher.sha256.as_ref().is_none_or(is_hash), "{}", teacher.name);
            assert_eq!(by_name(&teacher.name).map(|t| &t.file), Some(&teacher.file), "the name is its own");
        }
    }

    #[test]
    fn recipes_name_teachers_that_are_pinned() {
        for entry in crate::RECIPES {
            let recipe = crate::Recipe::load(entry.name, &[]).unwrap();
            let named = recipe.teacher.filter(|teacher| !teacher.file.contains('/'));
            assert!(named.is_none_or(|teacher| by_name(&teacher.file).is_some()), "{}", entry.name);
        }
    }

    #[test]
    fn the_papers_teachers_are_known_by_their_hash() {
        for (name, parameters) in [("wrn34-10-trades", 46_160_474), ("wrn70-16-gowal2020", 266_888_756)] {
            let teacher = by_name(name).unwrap();
            let hash = teacher.sha256.as_deref().unwrap();
            assert_eq!(by_sha256(hash).map(|t| &t.name), Some(&teacher.name));
            assert_eq!(teacher.check(hash), Ok(()));
            assert_eq!(teacher.arch().unwrap().graph().unwrap().n_parameters(), parameters);
            let message = teacher.check(&"0".repeat(64)).unwrap_err().to_string();
            assert!(message.contains(&format!("is not `{name}`: its SHA-256 is 000")), "{message}");
            assert!(message.contains(hash) && message.contains("https://"), "{message}");
        }
    }
}
