//! AutoAttack, and ensembles of one's own.

use super::{AttackEntry, find};
use crate::attack::Stage;
use crate::error::Error;
use crate::worst_case::{Variant, WorstCase};
use serde::Deserialize;
use serde::de::Error as _;
use toml::Table;
use toml::de::Error as TomlError;

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "auto_attack",
    about: "AutoAttack: standard, plus or rand; what robust accuracy usually means",
    usual: "version = \"standard\"",
    build: |keys| Ok(Box::new(auto_attack(keys)?)),
};

pub(super) const WORST_CASE: AttackEntry = AttackEntry {
    name: "worst_case",
    about: "attacks of your choice, each on what the ones before left standing",
    usual: "\
[[stages]]
attack = \"apgd_ce\"
iterations = 100
restarts = 1
rho = 0.75
eot = 1

[[stages]]
attack = \"square\"
queries = 5000
restarts = 1
p_init = 0.8
schedule = \"fixed\"",
    build: |keys| Ok(Box::new(worst_case(keys)?)),
};

/// # Source
/// Croce and Hein 2020, section 5; the versions as the released code (fra31/auto-attack a392200) sets them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Version {
    /// The one of leaderboards.
    Standard,
    /// More restarts, and the untargeted attacks too.
    Plus,
    /// For randomized classifiers: gradients are averaged. Exempt from the promise that results do not
    /// depend on batches, since the classifier's are not.
    Rand,
}

/// An attack, and what differs from its usual keys.
type Choice = (&'static str, &'static str);

impl Version {
    fn stages(self) -> &'static [Choice] {
        match self {
            Self::Standard => &[("apgd_ce", ""), ("apgd_t", ""), ("fab_t", ""), ("square", "")],
            Self::Plus => &[
                ("apgd_ce", "restarts = 5"),
                ("apgd_dlr", "restarts = 5"),
                ("fab", "restarts = 5"),
                ("square", ""),
                ("apgd_t", ""),
                ("fab_t", ""),
            ],
            Self::Rand => &[("apgd_ce", "eot = 20"), ("apgd_dlr", "eot = 20")],
        }
    }
}

/// For models of at least so many classes: which attack takes the place of which, and how that is told.
type Substitution = (usize, &'static [(&'static str, &'static str)], Option<&'static str>);

/// The ratio of logits compares three or four of them: with fewer classes another loss takes its place.
const SUBSTITUTES: [Substitution; 3] = [
    (4, &[], None),
    (3, &[("apgd_t", "apgd_dlr")], Some("apgd_dlr takes the place of apgd_t, whose loss compares 4 classes")),
    (
        2,
        &[("apgd_t", "apgd_margin"), ("apgd_dlr", "apgd_margin")],
        Some("apgd_margin takes the place of apgd_t and apgd_dlr, whose losses compare 3 or 4 classes"),
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AutoAttackKeys {
    version: Version,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorstCaseKeys {
    stages: Vec<Table>,
}

fn auto_attack(keys: Table) -> Result<WorstCase, TomlError> {
    let AutoAttackKeys { version } = keys.try_into()?;
    let variant = |&(least, substitutes, adapted): &Substitution| {
        let mut stages: Vec<Stage> = Vec::new();
        for &(name, changes) in version.stages() {
            let substitute = substitutes.iter().find(|(from, _)| *from == name);
            let name = substitute.map_or(name, |(_, to)| to);
            if stages.iter().all(|stage| stage.name != name) {
                stages.push(stage(name, changes)?);
            }
        }
        Ok(Variant { least, stages, adapted })
    };
    let variants = SUBSTITUTES.iter().map(variant).collect::<Result<_, TomlError>>()?;
    Ok(WorstCase::new(ENTRY.name, variants))
}

/// A registered attack with its usual keys, but these.
fn stage(name: &str, changes: &str) -> Result<Stage, TomlError> {
    let entry = find(name).map_err(TomlError::custom)?;
    let mut keys: Table = entry.usual.parse()?;
    keys.extend(changes.parse::<Table>()?);
    let attack = entry.build(&keys).map_err(TomlError::custom)?;
    Ok(Stage { name: name.to_owned(), attack })
}

fn worst_case(keys: Table) -> Result<WorstCase, TomlError> {
    let WorstCaseKeys { stages: tables } = keys.try_into()?;
    let mut stages: Vec<Stage> = Vec::new();
    for (i, mut keys) in tables.into_iter().enumerate() {
        let place = |e: Error| TomlError::custom(format!("stage {}: {e}", i + 1));
        let name = match keys.remove("attack") {
            Some(toml::Value::String(name)) => name,
            _ => return Err(TomlError::custom(format!("stage {} has no `attack`, expected a name", i + 1))),
        };
        let attack = find(&name).and_then(|entry| entry.build(&keys)).map_err(place)?;
        if attack.stages(usize::MAX).is_some() {
            let message =
                format!("stage {}: `{name}` is an ensemble itself, expected a single attack", i + 1);
            return Err(TomlError::custom(message));
        }
        let again = stages.iter().filter(|stage| stage.attack.name() == name).count();
        let name = if again == 0 { name } else { format!("{name}_{}", again + 1) };
        stages.push(Stage { name, attack });
    }
    match stages.is_empty() {
        true => Err(TomlError::custom("`stages` is empty, expected an attack at least")),
        false => Ok(WorstCase::new(WORST_CASE.name, vec![Variant { least: 2, stages, adapted: None }])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::Attack;

    fn names(attack: &dyn Attack, n_classes: usize) -> Vec<String> {
        attack.stages(n_classes).unwrap().iter().map(|stage| stage.name.clone()).collect()
    }

    fn version(name: &str) -> WorstCase {
        auto_attack(format!("version = \"{name}\"").parse().unwrap()).unwrap()
    }

    #[test]
    fn versions_are_the_released_ones() {
        let order = ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"];
        assert_eq!(names(&version("standard"), 10), ["apgd_ce", "apgd_t", "fab_t", "square"]);
        assert_eq!(names(&version("plus"), 100), order);
        assert_eq!(names(&version("rand"), 10), ["apgd_ce", "apgd_dlr"]);
        assert!(version("standard").adapted(10).is_none());
    }

    #[test]
    fn few_classes_are_adapted_to_and_named() {
        let check = |name: &str, n_classes: usize, expected: &[&str], told: &str| {
            let attack = version(name);
            assert_eq!(names(&attack, n_classes), expected);
            let adapted = attack.adapted(n_classes).unwrap();
            assert!(adapted.contains(told), "{adapted}");
        };
        let five = "apgd_t takes all 4 wrong classes as targets, fewer than 9";
        check("standard", 5, &["apgd_ce", "apgd_t", "fab_t", "square"], five);
        check(
            "standard",
            3,
            &["apgd_ce", "apgd_dlr", "fab_t", "square"],
            "auto_attack for 3 classes: apgd_dlr",
        );
        check("plus", 3, &["apgd_ce", "apgd_dlr", "fab", "square", "fab_t"], "takes the place of apgd_t");
        check("standard", 2, &["apgd_ce", "apgd_margin", "fab_t", "square"], "auto_attack for 2 classes");
        check("rand", 2, &["apgd_ce", "apgd_margin"], "apgd_margin");
        assert!(version("standard").stages(1).is_none());
    }

    #[test]
    fn lists_of_ones_own_are_read_with_errors_that_name_the_stage() {
        let read = |text: &str| worst_case(text.parse().unwrap()).map_err(|e| e.to_string());
        let twice = format!("{0}\n{0}", "[[stages]]\nattack = 'fgsm'");
        assert_eq!(names(&read(&twice).unwrap(), 2), ["fgsm", "fgsm_2"]);
        let refused = |text: &str, part: &str| {
            let message = read(text).map(|_| ()).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        refused("stages = []", "`stages` is empty");
        refused("[[stages]]\nsteps = 3", "stage 1 has no `attack`");
        refused("[[stages]]\nattack = 'fgms'", "stage 1: unknown attack `fgms`");
        refused("[[stages]]\nattack = 'fgsm'\nsteps = 3", "stage 1: unknown field `steps`");
        refused("[[stages]]\nattack = 'auto_attack'\nversion = 'rand'", "is an ensemble itself");
        refused("stage = []", "unknown field `stage`");
    }
}
