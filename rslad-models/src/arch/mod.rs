//! The architectures: each file is one paper's network, a function from options to a [`Graph`].
//!
//! To add one: its file, its `mod` line, and its entry in [`ARCHS`].

pub mod options;
mod resnet;
mod tiny_cnn;

use crate::error::{Error, Result};
use crate::graph::Graph;
use serde::{Deserialize, Serialize};

/// A registered architecture.
#[derive(Debug)]
pub struct Arch {
    /// Its name in recipes and on the command line.
    pub name: &'static str,
    /// One line on what it is and where it comes from.
    pub about: &'static str,
    /// The options of the published network, as TOML: every key it has, each with its value there.
    pub published: &'static str,
    /// The graph of these options.
    pub graph: fn(&toml::Table) -> std::result::Result<Graph, String>,
}

/// All architectures.
pub static ARCHS: &[Arch] = &[resnet::RESNET18, tiny_cnn::TINY_CNN];

/// An architecture with its options: what a checkpoint and a recipe say about a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchSpec {
    /// The registered name.
    pub arch: String,
    /// Every option of it.
    #[serde(flatten)]
    pub options: toml::Table,
}

impl ArchSpec {
    /// A name with options, in TOML.
    ///
    /// # Errors
    /// When `options` is not TOML.
    pub fn parse(arch: &str, options: &str) -> Result<Self> {
        let options =
            options.parse().map_err(|e| Error::ArchOption { arch: arch.into(), message: format!("{e}") })?;
        Ok(Self { arch: arch.into(), options })
    }

    /// The published network of this name with some options changed.
    ///
    /// # Errors
    /// When the name is not registered.
    pub fn published(arch: &str, changes: &toml::Table) -> Result<Self> {
        let mut spec = Self::parse(arch, find(arch)?.published)?;
        spec.options.extend(changes.clone());
        Ok(spec)
    }

    /// The graph.
    ///
    /// # Errors
    /// When the name is not registered, or an option is missing, unknown or outside its domain.
    pub fn graph(&self) -> Result<Graph> {
        let arch = find(&self.arch)?;
        (arch.graph)(&self.options).map_err(|message| Error::ArchOption {
            arch: self.arch.clone(),
            message: format!(
                "{message}; its options, with the published values: {}",
                arch.published.trim().replace('\n', ", ")
            ),
        })
    }
}

/// The registered architecture of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Arch> {
    ARCHS.iter().find(|a| a.name == name).ok_or_else(|| Error::UnknownArch {
        name: name.into(),
        known: ARCHS.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_builds_as_published() {
        for arch in ARCHS {
            let graph = ArchSpec::published(arch.name, &toml::Table::new()).and_then(|s| s.graph());
            assert_eq!(graph.expect(arch.name).n_classes(), 10, "{}", arch.name);
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let check = |changes: &str, expected: &str| {
            let changes: toml::Table = changes.parse().unwrap();
            let error = ArchSpec::published("resnet18", &changes).unwrap().graph().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("with = 8", "unknown field `with`");
        check("width = 0", "`width` is 0, expected 1..=4096");
        check("classes = 1", "`classes` is 1, expected 2..=100000");
        check("blocks = '2,x'", "`blocks` is \"2,x\", expected block counts such as \"2,2,2,2\"");
        check("norm = 'imagenet'", "`norm` is \"imagenet\"");
        check("norm = '0.5/0'", "standard deviations must be above 0");
        check("norm = '0.5,0.5/1,1'", "`norm` has 2 channels, expected 3");
        let missing = ArchSpec::parse("tiny_cnn", "width = 8").unwrap().graph().unwrap_err().to_string();
        assert!(missing.contains("missing field"), "{missing}");
        let unknown = ArchSpec::parse("resnet19", "").unwrap().graph().unwrap_err().to_string();
        assert!(unknown.contains("unknown architecture `resnet19`"), "{unknown}");
    }
}
