//! What a model costs: counted off its architecture, and timed as it answers.

use candle_core::Tensor;
use rslad_attacks::Result;
use rslad_models::{ArchSpec, Classifier};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The size of a model and how long it takes for an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) parameters: u64,
    /// Multiply-accumulates for an image.
    pub(crate) macs: u64,
    /// The wall-clock time of a forward pass, in eval mode, by the images of its batch.
    pub(crate) ms_per_image: f64,
    /// How many threads computed.
    pub(crate) threads: usize,
}

/// How many images an attempt may pass through: about a second of one core at most.
const BUDGET: u64 = 20_000_000_000;
/// The fastest of so many counts: another process can only make it slower.
const ATTEMPTS: usize = 3;

impl Cost {
    /// How many images are worth a measurement.
    pub(crate) fn images(arch: &ArchSpec, [_, h, w]: [usize; 3]) -> Result<usize> {
        Ok((BUDGET / arch.graph()?.macs(h, w)?.max(1)).clamp(1, 64) as usize)
    }

    /// Of a model that is asked about images `[N, C, H, W]`.
    pub(crate) fn measure(f: &dyn Classifier, arch: &ArchSpec, x: &Tensor) -> Result<Self> {
        let (n, _, h, w) = x.dims4()?;
        let graph = arch.graph()?;
        let mut seconds = f64::INFINITY;
        for _ in 0..ATTEMPTS {
            let clock = Instant::now();
            f.logits(x)?;
            seconds = seconds.min(clock.elapsed().as_secs_f64());
        }
        Ok(Self {
            parameters: graph.n_parameters() as u64,
            macs: graph.macs(h, w)?,
            ms_per_image: 1e3 * seconds / n as f64,
            threads: rslad_models::Engine::from_environment().map_or(1, |engine| engine.threads.get()),
        })
    }
}
