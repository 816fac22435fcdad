//! What the names and shapes of a state dict tell about its architecture.

use candle_core::Tensor;
use std::collections::HashMap;

/// The shapes of a state dict by name, as architectures ask about them to find their options.
#[derive(Debug)]
pub struct Shapes<'a>(&'a HashMap<String, Tensor>);

impl<'a> Shapes<'a> {
    /// The shapes of these tensors.
    pub fn of(tensors: &'a HashMap<String, Tensor>) -> Self {
        Self(tensors)
    }

    /// A side of a tensor, counted from 0.
    pub(crate) fn side(&self, name: &str, place: usize) -> Option<usize> {
        self.0.get(name)?.dims().get(place).copied()
    }

    /// How many modules are numbered from 0 on under `prefix`, such as `layer1.`.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let is_there = |i: &usize| {
            let module = format!("{prefix}{i}.");
            self.0.keys().any(|name| name.starts_with(&module))
        };
        (0..1000).take_while(is_there).count()
    }

    /// Block counts of the stages, which `prefix` names by their number, as the option `blocks` is written.
    pub(crate) fn blocks(&self, prefix: impl Fn(usize) -> String) -> String {
        let counts = (0..8).map(|stage| self.count(&prefix(stage))).take_while(|&n| n > 0);
        counts.map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    }
}

/// Options of whole numbers as a table.
pub(crate) fn options<const N: usize>(numbers: [(&str, usize); N]) -> Option<toml::Table> {
    let entry = |(key, n): (&str, usize)| Some((key.to_string(), toml::Value::Integer(n.try_into().ok()?)));
    numbers.into_iter().map(entry).collect()
}
