//! How the state of walks is written down and read back: the same calls do both, so they cannot differ.

use crate::attack::State;
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Named fields of the lanes, one lane after another. A field is as long in every lane.
pub(crate) struct Tape {
    reading: bool,
    floats: BTreeMap<&'static str, Field<f32>>,
    words: BTreeMap<&'static str, Field<u64>>,
    /// What is read from.
    saved: Option<State>,
    failed: Option<Error>,
}

#[derive(Default)]
struct Field<T> {
    values: Vec<T>,
    read: usize,
}

impl Tape {
    pub(crate) fn writing() -> Self {
        Self { reading: false, floats: BTreeMap::new(), words: BTreeMap::new(), saved: None, failed: None }
    }

    pub(crate) fn reading(state: &State, lanes: usize) -> Result<Self> {
        let rows = |t: &Tensor| t.rank() == 0 || t.dims()[0] == lanes;
        match state.tensors.values().all(rows) {
            true => Ok(Self { reading: true, saved: Some(state.clone()), ..Self::writing() }),
            false => Err(Error::Search(format!(
                "the saved search has parts of different sizes, expected {lanes} lanes in each"
            ))),
        }
    }

    /// Numbers whose bits matter; of the same length whenever they are written or read.
    pub(crate) fn floats(&mut self, name: &'static str, values: &mut [f32]) {
        let read = |state: &State| Ok(state.tensor(name)?.flatten_all()?.to_vec1::<f32>()?);
        Self::pass(&mut self.floats, &self.saved, &mut self.failed, self.reading, name, values, read);
    }

    /// Counters and classes.
    pub(crate) fn words(&mut self, name: &'static str, values: &mut [u64]) {
        let read = |state: &State| state.list(name);
        Self::pass(&mut self.words, &self.saved, &mut self.failed, self.reading, name, values, read);
    }

    pub(crate) fn float(&mut self, name: &'static str, value: &mut f32) {
        self.floats(name, std::slice::from_mut(value));
    }

    pub(crate) fn count(&mut self, name: &'static str, value: &mut usize) {
        let mut word = *value as u64;
        self.words(name, std::slice::from_mut(&mut word));
        *value = word as usize;
    }

    pub(crate) fn flag(&mut self, name: &'static str, value: &mut bool) {
        let mut word = u64::from(*value);
        self.words(name, std::slice::from_mut(&mut word));
        *value = word != 0;
    }

    fn pass<T: Copy>(
        fields: &mut BTreeMap<&'static str, Field<T>>,
        saved: &Option<State>,
        failed: &mut Option<Error>,
        reading: bool,
        name: &'static str,
        values: &mut [T],
        read: impl Fn(&State) -> Result<Vec<T>>,
    ) {
        if let (None, Some(state)) = (fields.get(name), saved) {
            match read(state) {
                Ok(values) => {
                    fields.insert(name, Field { values, read: 0 });
                }
                Err(error) => *failed = Some(error),
            }
        }
        let field = fields.entry(name).or_insert_with(|| Field { values: Vec::new(), read: 0 });
        if !reading {
            field.values.extend_from_slice(values);
            return;
        }
        match field.values.get(field.read..field.read + values.len()) {
            Some(read) => values.copy_from_slice(read),
            None => *failed = Some(State::lacks(name)),
        }
        field.read += values.len();
    }

    /// Whether everything was there, and nothing is left.
    pub(crate) fn check(self) -> Result<()> {
        let floats = self.floats.iter().map(|(name, f)| (*name, f.values.len(), f.read));
        let words = self.words.iter().map(|(name, f)| (*name, f.values.len(), f.read));
        let uneven = floats.chain(words).find(|(_, length, read)| length != read);
        match (self.failed, uneven) {
            (Some(error), _) => Err(error),
            (None, Some((name, ..))) => Err(Error::Search(format!(
                "the saved search has parts of different sizes in `{name}`, expected what this attack has saved"
            ))),
            (None, None) => Ok(()),
        }
    }

    /// Adds what was written to a state of so many lanes.
    pub(crate) fn write(self, lanes: usize, state: &mut State) -> Result<()> {
        for (name, Field { values, .. }) in self.floats {
            let shape = (lanes, values.len() / lanes);
            state.tensors.insert(name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        for (name, Field { values, .. }) in self.words {
            state.json[name] = values.into();
        }
        Ok(())
    }
}
