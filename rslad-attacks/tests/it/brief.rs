//! The registered attacks, shortened where their usual settings take thousands of steps.

use rslad_attacks::Attack;
use rslad_attacks::attacks::{self, AttackEntry};

/// The attack with its usual keys, but few iterations.
pub(crate) fn brief(entry: &AttackEntry) -> Box<dyn Attack> {
    let iterations = if entry.name.starts_with("fab") { "iterations = 5" } else { "iterations = 10" };
    if entry.name == "auto_attack" {
        return standard();
    }
    let keys = entry.usual.replace("iterations = 100", iterations).replace("queries = 5000", "queries = 100");
    entry.build(&keys.parse().unwrap()).unwrap()
}

/// AutoAttack's standard version, shortened.
fn standard() -> Box<dyn Attack> {
    let stages = ["apgd_ce", "apgd_t", "fab_t", "square"].map(|name| {
        let usual = attacks::find(name).unwrap().usual;
        let few = if name == "fab_t" { "iterations = 3" } else { "iterations = 5" };
        let keys = usual.replace("iterations = 100", few).replace("queries = 5000", "queries = 30");
        format!("[[stages]]\nattack = \"{name}\"\n{keys}\n")
    });
    attacks::find("worst_case").unwrap().build(&stages.concat().parse().unwrap()).unwrap()
}
