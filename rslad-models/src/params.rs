//! The tensors of a network in state-dict order: parameters, running statistics, counters.
//!
//! Weight decay and the optimizer are handed `parameters()` and cannot see a buffer.

use crate::error::{Error, Result};
use crate::graph::{Entry, Graph, Kind};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;

/// The tensors of a network, in the order of its graph's entries.
#[derive(Debug)]
pub struct ParamStore {
    entries: Vec<Entry>,
    vars: Vec<Var>,
}

impl ParamStore {
    /// Zeros for every entry of a graph; `float` is the type of all but the counters.
    pub(crate) fn zeros(graph: &Graph, float: DType, device: &Device) -> Result<Self> {
        let dtype = |kind| if kind == Kind::Counter { DType::I64 } else { float };
        let zeros = |e: &Entry| Var::zeros(e.shape.as_slice(), dtype(e.kind), device);
        let vars = graph.entries().iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { entries: graph.entries().to_vec(), vars })
    }

    /// What the tensors are.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The trained tensors with their names, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Var)> {
        let named = self.entries.iter().zip(&self.vars);
        named.filter(|(e, _)| e.kind == Kind::Parameter).map(|(e, v)| (e.name.as_str(), v))
    }

    /// The running statistics and counters with their names, in order.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Var)> {
        let named = self.entries.iter().zip(&self.vars);
        named.filter(|(e, _)| e.kind != Kind::Parameter).map(|(e, v)| (e.name.as_str(), v))
    }

    /// The tensor at a place of `entries`.
    pub(crate) fn var(&self, i: usize) -> &Var {
        &self.vars[i]
    }

    /// All tensors in order, without a way back to them. They share their memory: training goes on in it.
    pub(crate) fn present(&self) -> Vec<Tensor> {
        self.vars.iter().map(Var::as_detached_tensor).collect()
    }

    /// All tensors in order, as autograd follows them.
    pub(crate) fn tracked(&self) -> Vec<Tensor> {
        self.vars.iter().map(|var| var.as_tensor().clone()).collect()
    }

    /// The same tensors of another type or in another place.
    ///
    /// # Errors
    /// When a copy fails.
    pub(crate) fn copied(&self, graph: &Graph, float: DType, device: &Device) -> Result<Self> {
        let copy = Self::zeros(graph, float, device)?;
        copy.load_state_dict(&self.state_dict()?.into_iter().collect())?;
        Ok(copy)
    }

    /// Copies of all tensors under their names: later training does not change them.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn state_dict(&self) -> Result<Vec<(String, Tensor)>> {
        let copy = |(e, v): (&Entry, &Var)| Ok((e.name.clone(), v.as_detached_tensor().copy()?));
        self.entries.iter().zip(&self.vars).map(copy).collect()
    }

    /// Overwrites all tensors. `num_batches_tracked` may be absent (files older than PyTorch 0.4.1) and
    /// is then 0; any other missing, unexpected or misshapen entry is an error that lists them, and
    /// nothing is changed.
    ///
    /// # Errors
    /// When the names or shapes differ from the network's.
    pub fn load_state_dict(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        check_fit(&self.entries, tensors)?;
        for (entry, var) in self.entries.iter().zip(&self.vars) {
            match tensors.get(&entry.name) {
                Some(t) => var.set(&t.to_dtype(var.dtype())?.to_device(var.device())?.copy()?)?,
                None => var.set(&var.zeros_like()?)?,
            }
        }
        Ok(())
    }
}

/// That a state dict has these entries, before anything is allocated for them.
///
/// # Errors
/// As [`ParamStore::load_state_dict`].
pub(crate) fn check_fit(entries: &[Entry], tensors: &HashMap<String, Tensor>) -> Result<()> {
    let problems = mismatches(entries, tensors);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Other(format!("state dict does not fit the network: {}", problems.join("; "))))
}

fn mismatches(entries: &[Entry], tensors: &HashMap<String, Tensor>) -> Vec<String> {
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    for e in entries {
        match tensors.get(&e.name) {
            None if e.kind == Kind::Counter => {}
            None => missing.push(format!("missing `{}`", e.name)),
            Some(t) if t.dims() != e.shape => {
                misshapen.push(format!("`{}` is {:?}, expected {:?}", e.name, t.dims(), e.shape));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::HashSet<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    let unexpected = tensors.keys().filter(|k| !known.contains(k.as_str()));
    let mut unexpected: Vec<String> = unexpected.map(|k| format!("unexpected `{k}`")).collect();
    unexpected.sort();
    [missing, misshapen, unexpected].into_iter().flat_map(cut_short).collect()
}

/// Some of each kind of problem: enough to see what they have in common.
fn cut_short(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(12);
    problems.truncate(12);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    problems
}
