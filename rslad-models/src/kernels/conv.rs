//! Convolutions as sums over taps: forward, back to the input, and the gradient of the weights.
//!
//! All three are the same walk. A [`Sweep`] lists the pixels written and, for each, where its sum
//! begins to read; every tap reads at one fixed distance from there. The way back through a stride is
//! one sweep for each phase of the input grid, so it multiplies by no zeros.

mod direct;
mod pack;
mod sweep;
mod weight_gradient;
mod winograd;

pub(crate) use direct::direct;
pub(crate) use pack::{Panels, panel_widths};
pub(crate) use sweep::{Sweep, phases};
pub(crate) use weight_gradient::{WeightSums, weight_gradient};
pub(crate) use winograd::{Tiles, tile_border, transformed, winograd};
