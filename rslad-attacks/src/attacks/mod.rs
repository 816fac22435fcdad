//! The attacks, one file each, and their registry.
//!
//! To add an attack: its file here with a config struct, docs and tests, the `mod` line, and its `ENTRY`
//! in [`ATTACKS`]. The contract suite, the suites' files, the command line and its help read the
//! registry.

mod apgd_ce;
mod apgd_dlr;
mod apgd_margin;
mod apgd_t;
mod auto_attack;
mod cw_inf;
mod fab;
mod fab_t;
mod fgsm;
mod pgd;
pub(crate) mod square;

pub use apgd_ce::ApgdCe;
pub use apgd_dlr::ApgdDlr;
pub(crate) use apgd_dlr::PURPOSE as APGD_DLR_PURPOSE;
pub use apgd_margin::ApgdMargin;
pub use apgd_t::ApgdT;
pub use cw_inf::CwInf;
pub use fab::Fab;
pub use fab_t::FabT;
pub use fgsm::Fgsm;
pub use pgd::Pgd;
pub use square::{Schedule, Square};

pub use crate::apgd::AdaptiveAscent;
use crate::ascent::Start;
use crate::attack::Attack;
use crate::error::{Error, Result};
pub use crate::fab::BoundarySearch;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Every attack, in the order in which lists show them.
pub const ATTACKS: &[AttackEntry] = &[
    fgsm::ENTRY,
    pgd::ENTRY,
    cw_inf::ENTRY,
    apgd_ce::ENTRY,
    apgd_dlr::ENTRY,
    apgd_margin::ENTRY,
    apgd_t::ENTRY,
    fab::ENTRY,
    fab_t::ENTRY,
    square::ENTRY,
    auto_attack::ENTRY,
    auto_attack::WORST_CASE,
];

/// A line of the registry.
#[derive(Debug)]
pub struct AttackEntry {
    /// The name in suites and on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its keys as evaluations usually set them, in TOML: an example to copy from, and what runs where a
    /// name alone is given.
    pub usual: &'static str,
    build: fn(toml::Table) -> std::result::Result<Box<dyn Attack>, toml::de::Error>,
}

impl AttackEntry {
    /// The attack with these keys.
    ///
    /// # Errors
    /// When a key is missing, unknown or has a value outside its domain.
    pub fn build(&self, keys: &toml::Table) -> Result<Box<dyn Attack>> {
        (self.build)(keys.clone()).map_err(|e| self.explain(&e))
    }

    /// The attack as evaluations usually set it.
    pub fn usually(&self) -> Box<dyn Attack> {
        let keys = self.usual.parse().expect("the registry holds TOML");
        self.build(&keys).expect("the registry's keys are those of the attack")
    }

    fn explain(&self, error: &toml::de::Error) -> Error {
        let wrong = error.to_string().trim().replace('\n', " ");
        let usual = self.usual.trim().replace('\n', ", ");
        let expected =
            if usual.is_empty() { "has no keys".to_owned() } else { format!("takes, for example, {usual}") };
        Error::Config(format!("{wrong}; the attack `{}` {expected}", self.name))
    }
}

/// The registered attack of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static AttackEntry> {
    ATTACKS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known = ATTACKS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        Error::UnknownAttack { name: name.to_owned(), known }
    })
}

/// Reads an attack's config struct: how each `ENTRY` is built.
fn configured<A: Attack + DeserializeOwned + 'static>(
    keys: toml::Table,
) -> std::result::Result<Box<dyn Attack>, toml::de::Error> {
    keys.try_into::<A>().map(|attack| Box::new(attack) as Box<dyn Attack>)
}

/// Reads the keys of a targeted attack: how many targets, and how it searches toward each.
fn targeted<T: DeserializeOwned>(
    mut keys: toml::Table,
) -> std::result::Result<(NonZeroUsize, T), toml::de::Error> {
    let targets = keys.remove("targets").ok_or_else(|| toml::de::Error::missing_field("targets"))?;
    let targets = targets.try_into().map_err(|e| toml::de::Error::custom(format!("{e} in `targets`")))?;
    Ok((targets, keys.try_into()?))
}

/// How a targeted attack is adapted to a model with fewer wrong classes than targets.
fn fewer_targets(targets: usize, n_classes: usize) -> Option<String> {
    let wrong = n_classes.saturating_sub(1);
    (wrong < targets).then(|| format!("takes all {wrong} wrong classes as targets, fewer than {targets}"))
}

/// Where an evaluation attack starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartRule {
    /// At the image.
    Natural,
    /// Uniformly in the ball.
    Uniform,
}

impl From<StartRule> for Start {
    fn from(rule: StartRule) -> Self {
        match rule {
            StartRule::Natural => Self::Natural,
            StartRule::Uniform => Self::Uniform,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_usual_keys_build_the_attack() {
        for (i, entry) in ATTACKS.iter().enumerate() {
            assert_eq!(entry.usually().name(), entry.name);
            assert!(ATTACKS[..i].iter().all(|other| other.name != entry.name), "{}", entry.name);
            assert!(!entry.about.is_empty());
        }
    }

    #[test]
    fn wrong_keys_are_errors_that_name_key_expectation_and_attack() {
        let build = |text: &str| {
            find("pgd").unwrap().build(&text.parse().unwrap()).map(|_| ()).unwrap_err().to_string()
        };
        let usual = find("pgd").unwrap().usual;
        let check = |text: &str, parts: &[&str]| {
            let message = build(text);
            for part in parts.iter().chain(&["the attack `pgd` takes, for example, steps = 20, "]) {
                assert!(message.contains(part), "{message}");
            }
        };
        check("steps = 5", &["missing field `step_size`"]);
        check(&usual.replace("steps = 20", "steps = 0"), &["expected a nonzero", "in `steps`"]);
        check(
            &usual.replace("step_size = \"2/255\"", "step_size = 2"),
            &["step size is `2`", "write \"2/255\"", "in `step_size`"],
        );
        check(&usual.replace("\"uniform\"", "\"unifrom\""), &["unknown variant `unifrom`", "`natural`"]);
        check(&format!("{usual}\nalpha = 1"), &["unknown field `alpha`", "`clip_start`"]);
        assert!(find("pgd2").unwrap_err().to_string().contains("expected one of: fgsm, pgd, cw_inf"));
    }
}
