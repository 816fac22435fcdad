//! The methods: one file each. To add one: its file, its `mod` line, and its entry in [`METHODS`].

mod adaad;
mod ard;
mod iad;
mod iad2;
mod igdm;
mod label_slots;
mod mart;
mod natural;
mod rslad;
mod sat;
mod trades;

use crate::error::Result;
use crate::keys;
use crate::method::{Forwards, Inner, Method, Over};
use rslad_attacks::objectives::{CrossEntropy, KlTo};
use serde::de::DeserializeOwned;

/// A registered method.
#[derive(Debug)]
pub struct MethodEntry {
    /// Its name in recipes and on the command line.
    pub name: &'static str,
    /// One line on what it is and where it comes from.
    pub about: &'static str,
    /// Its outer loss, as in Table 1 of the RSLAD paper.
    pub outer: &'static str,
    /// What its inner maximization ascends, as there.
    pub inner: &'static str,
    /// The keys of `[method]` beside `name`.
    pub keys: &'static str,
    /// The method of these keys.
    pub build: fn(&toml::Table) -> std::result::Result<Box<dyn Method>, String>,
}

/// All methods: those of the paper's tables in their order, then its ablation and what came after.
pub static METHODS: &[MethodEntry] = &[
    natural::ENTRY,
    sat::ENTRY,
    trades::ENTRY,
    mart::ENTRY,
    ard::ENTRY,
    iad::ENTRY,
    iad2::ENTRY,
    rslad::ENTRY,
    label_slots::ENTRY,
    adaad::ENTRY,
    igdm::ENTRY,
];

/// The method that a `[method]` table names, configured by its other keys.
///
/// # Errors
/// When the name is missing or not registered, or a key is missing, unknown or outside its domain: names
/// key, value and expectation.
pub fn build(table: &toml::Table) -> std::result::Result<Box<dyn Method>, String> {
    let mut keys = table.clone();
    let known = || METHODS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
    let Some(name) = keys.remove("name") else {
        return Err(format!("`method.name` is missing, expected one of: {}", known()));
    };
    let Some(entry) = METHODS.iter().find(|m| name.as_str() == Some(m.name)) else {
        return Err(format!("`method.name` is {name}, expected one of: {}", known()));
    };
    (entry.build)(&keys).map_err(|e| format!("{e}; the keys of {}: {}", entry.name, entry.keys))
}

/// The configuration of a method from its keys.
fn read<T: DeserializeOwned>(keys: &toml::Table) -> std::result::Result<T, String> {
    keys::read(keys, "method")
}

/// An error unless `value` is in `low..=high`.
fn within(key: &str, value: f64, low: f64, high: f64) -> std::result::Result<f64, String> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(format!("`method.{key}` is {value}, expected {low} to {high}"))
}

/// The attack of the methods that ascend the cross-entropy of the labels.
fn ascend_cross_entropy(f: &Forwards) -> Result<Inner<'_>> {
    Ok(Inner::Ascend { over: Over::Student, objective: Box::new(CrossEntropy::new(f.labels()?)?) })
}

/// The attack of the methods that ascend KL(target || S(x')), from the logits of a forward.
fn ascend_kl<'a>(f: &'a Forwards, target: &str) -> Result<Inner<'a>> {
    Ok(Inner::Ascend { over: Over::Student, objective: Box::new(KlTo::new(f.logits(target)?)?) })
}
