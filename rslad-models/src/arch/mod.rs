//! The architectures: each file is one paper's network, a function from options to a [`Graph`].
//!
//! To add one: its file, its `mod` line, and its entry in [`ARCHS`]. A preset is a name for an
//! architecture with some options fixed, such as `wrn34-10`; it works wherever an architecture's name
//! does and is replaced by what it stands for as soon as it is read.

mod mobilenet_v2;
pub mod options;
mod preact_resnet;
mod resnet;
pub mod shapes;
mod tiny_cnn;
mod wide_resnet;
mod wide_resnet_swish;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::params;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use shapes::Shapes;
use std::collections::HashMap;

/// A registered architecture.
#[derive(Debug)]
pub struct Arch {
    /// Its name in recipes and on the command line.
    pub name: &'static str,
    /// One line on what it is and where it comes from.
    pub about: &'static str,
    /// The options of the published network, as TOML: every key it has, each with its value there. The
    /// `stem_stride` of ResNets is 1 in all of them and left out.
    pub published: &'static str,
    /// The graph of these options.
    pub graph: fn(&toml::Table) -> std::result::Result<Graph, String>,
    /// What the shapes of its state dict tell about its options: all but normalization and strides. For a state
    /// dict of another architecture any answer will do: it is compared with the graph.
    pub options: fn(&Shapes<'_>) -> Option<toml::Table>,
}

/// All architectures.
pub static ARCHS: &[Arch] = &[
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    mobilenet_v2::MOBILENET_V2,
    wide_resnet::WRN,
    wide_resnet_swish::DM_WRN,
    preact_resnet::DM_PREACT_RESNET18,
    tiny_cnn::TINY_CNN,
];

/// A name for an architecture with some options fixed.
#[derive(Debug)]
pub struct Preset {
    /// The name, accepted wherever an architecture's is.
    pub name: &'static str,
    /// The architecture.
    pub arch: &'static str,
    /// The options that the name fixes, as TOML.
    pub options: &'static str,
}

/// All presets.
pub static PRESETS: &[Preset] = &[
    wide_resnet::WRN34_10,
    wide_resnet::WRN28_10,
    wide_resnet::WRN34_20,
    wide_resnet_swish::WRN70_16,
    wide_resnet_swish::WRN94_16,
];

/// An architecture with its options: what a checkpoint and a recipe say about a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ArchSpec {
    /// The registered name.
    pub arch: String,
    /// Every option of it.
    #[serde(flatten)]
    pub options: toml::Table,
}

/// A specification as it stands in a file, where the name may be a preset's.
#[derive(Deserialize)]
struct Written {
    arch: String,
    #[serde(flatten)]
    options: toml::Table,
}

impl TryFrom<Written> for ArchSpec {
    type Error = Error;

    fn try_from(Written { arch, options }: Written) -> Result<Self> {
        Self { arch, options }.expand()
    }
}

impl ArchSpec {
    /// The name of an architecture or preset with options, in TOML.
    ///
    /// # Errors
    /// When `options` is not TOML, or sets what the preset's name fixes.
    pub fn parse(arch: &str, options: &str) -> Result<Self> {
        let options =
            options.parse().map_err(|e| Error::ArchOption { arch: arch.into(), message: format!("{e}") })?;
        Self { arch: arch.into(), options }.expand()
    }

    /// The published network of this name with some options changed.
    ///
    /// # Errors
    /// When the name is not registered, or an option is changed that a preset's name fixes.
    pub fn published(arch: &str, changes: &toml::Table) -> Result<Self> {
        let changed = Self { arch: arch.into(), options: changes.clone() }.expand()?;
        let mut spec = Self::parse(&changed.arch, find(&changed.arch)?.published)?;
        spec.options.extend(changed.options);
        Ok(spec)
    }

    /// The architecture whose state dict has these names and shapes. Normalization and strides leave no
    /// trace in them: they are the published ones of the architecture.
    pub fn recognize(tensors: &HashMap<String, Tensor>) -> Option<Self> {
        let shapes = Shapes::of(tensors);
        let fits =
            |spec: &Self| spec.graph().is_ok_and(|graph| params::check_fit(graph.entries(), tensors).is_ok());
        let found = |arch: &Arch| Self::published(arch.name, &(arch.options)(&shapes)?).ok().filter(fits);
        // ResNet-18 and 34 differ in their options alone: the closer one is meant.
        let distance = |spec: &Self| {
            let published =
                Self::published(&spec.arch, &toml::Table::new()).map(|p| p.options).unwrap_or_default();
            spec.options.iter().filter(|(key, value)| published.get(*key) != Some(value)).count()
        };
        ARCHS.iter().filter_map(found).min_by_key(distance)
    }

    /// The graph.
    ///
    /// # Errors
    /// When the name is not registered, or an option is missing, unknown or outside its domain.
    pub fn graph(&self) -> Result<Graph> {
        let spec = self.clone().expand()?; // the fields are public: the name may still be a preset's
        let arch = find(&spec.arch)?;
        (arch.graph)(&spec.options).map_err(|message| Error::ArchOption {
            arch: self.arch.clone(),
            message: format!(
                "{message}; its options, with the published values: {}",
                arch.published.trim().replace('\n', ", ")
            ),
        })
    }

    /// This specification with a preset's name replaced by what it stands for.
    fn expand(self) -> Result<Self> {
        let Some(preset) = PRESETS.iter().find(|p| p.name == self.arch) else { return Ok(self) };
        let mut options: toml::Table = preset.options.parse().expect("presets are TOML");
        if let Some(key) = self.options.keys().find(|key| options.contains_key(*key)) {
            let message = format!(
                "this name fixes `{key}`; leave the option out, or write `{}` and choose all of its options",
                preset.arch
            );
            return Err(Error::ArchOption { arch: self.arch, message });
        }
        options.extend(self.options);
        Ok(Self { arch: preset.arch.into(), options })
    }
}

/// The registered architecture of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Arch> {
    let known = || ARCHS.iter().map(|a| a.name).chain(PRESETS.iter().map(|p| p.name));
    ARCHS.iter().find(|a| a.name == name).ok_or_else(|| Error::UnknownArch {
        name: name.into(),
        known: known().collect::<Vec<_>>().join(", "),
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
    fn a_preset_stands_for_its_architecture_everywhere() {
        for preset in PRESETS {
            assert!(ARCHS.iter().all(|a| a.name != preset.name), "{} is taken", preset.name);
            let published = ArchSpec::published(preset.name, &toml::Table::new()).unwrap();
            let rest = published.options.clone().into_iter().filter(|(key, _)| !preset.options.contains(key));
            let rest = rest.collect::<toml::Table>().to_string();
            let parsed = ArchSpec::parse(preset.name, &rest).unwrap();
            let in_a_file: ArchSpec = toml::from_str(&format!("arch = '{}'\n{rest}", preset.name)).unwrap();
            let by_hand = ArchSpec { arch: preset.name.into(), options: rest.parse().unwrap() };
            assert_eq!(published.arch, preset.arch);
            assert_eq!((&parsed, &in_a_file), (&published, &published));
            assert_eq!(by_hand.graph().unwrap(), published.graph().unwrap());
        }
        let error = ArchSpec::parse("wrn34-10", "width = 2").unwrap_err().to_string();
        assert!(error.contains("`wrn34-10`: this name fixes `width`; leave the option out"), "{error}");
    }

    #[test]
    fn every_architecture_is_recognized_by_its_state_dict() {
        let small = [
            ("resnet18", "width = 3\nclasses = 7"),
            ("resnet18", "width = 2\nblocks = '1,2'\nin_channels = 1"),
            ("resnet34", "width = 2"),
            ("resnet50", "width = 2\nclasses = 100"),
            ("mobilenet_v2", "divisor = 8"),
            ("wrn", "depth = 16\nwidth = 1\nclasses = 100"),
            ("dm_wrn", "depth = 10\nwidth = 2"),
            ("dm_preact_resnet18", "width = 2\nblocks = '1,1,1'"),
            ("tiny_cnn", "width = 2"),
        ];
        assert!(ARCHS.iter().all(|arch| small.iter().any(|(name, _)| *name == arch.name)));
        for (arch, changes) in small {
            let spec = ArchSpec::published(arch, &changes.parse().unwrap()).unwrap();
            let zeros = |e: &crate::graph::Entry| {
                let zeros =
                    Tensor::zeros(e.shape.as_slice(), candle_core::DType::F32, &candle_core::Device::Cpu);
                (e.name.clone(), zeros.unwrap())
            };
            let mut tensors: HashMap<String, Tensor> =
                spec.graph().unwrap().entries().iter().map(zeros).collect();
            assert_eq!(ArchSpec::recognize(&tensors), Some(spec), "{arch} {changes}");
            tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
            assert!(ArchSpec::recognize(&tensors).is_some(), "{arch}: counters may be absent");
            tensors.remove(tensors.keys().next().cloned().unwrap().as_str());
            assert_eq!(ArchSpec::recognize(&tensors), None, "{arch}: a name is missing");
        }
        assert_eq!(ArchSpec::recognize(&HashMap::new()), None);
    }

    #[test]
    fn wrong_options_are_named() {
        let check_of = |arch: &str, changes: &str, expected: &str| {
            let changes: toml::Table = changes.parse().unwrap();
            let error = ArchSpec::published(arch, &changes).unwrap().graph().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let check = |changes: &str, expected: &str| check_of("resnet18", changes, expected);
        check("with = 8", "unknown field `with`");
        check("width = 0", "`width` is 0, expected 1..=4096");
        check("classes = 1", "`classes` is 1, expected 2..=100000");
        check("blocks = '2,x'", "`blocks` is \"2,x\", expected block counts such as \"2,2,2,2\"");
        check("norm = 'imagenet'", "`norm` is \"imagenet\"");
        check("norm = '0.5/0'", "standard deviations must be above 0");
        check("norm = '0.5,0.5/1,1'", "`norm` has 2 channels, expected 3");
        check_of("wrn", "depth = 35", "`depth` is 35, expected 6 n + 4");
        check_of("dm_wrn", "width = 0", "`width` is 0, expected 1..=256");
        check_of("mobilenet_v2", "divisor = 3", "`divisor` is 3, expected 1, 2, 4 or 8");
        check_of("dm_preact_resnet18", "blocks = ''", "`blocks` is \"\"");
        let missing = ArchSpec::parse("tiny_cnn", "width = 8").unwrap().graph().unwrap_err().to_string();
        assert!(missing.contains("missing field"), "{missing}");
        let unknown = ArchSpec::parse("resnet19", "").unwrap().graph().unwrap_err().to_string();
        assert!(
            unknown.contains("unknown architecture `resnet19`, expected one of: resnet18, "),
            "{unknown}"
        );
    }
}
