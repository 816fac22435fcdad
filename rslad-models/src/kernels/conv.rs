//! Convolutions as sums over taps: forward, back to the input, and the gradient of the weights.
//!
//! All three are the same walk. A [`Sweep`] says which pixels are written and, for each, where its sum
//! begins to read; every tap reads at one fixed distance from there. The way back through a stride is
//! one sweep for each phase of the input grid, so it multiplies by no zeros.

mod direct;
mod pack;
mod rows;
mod sweep;
mod transforms;
mod weight_gradient;
mod weight_sums;
mod winograd;
mod winograd_gradient;

pub(crate) use direct::direct;
pub(crate) use pack::Panels;
pub(crate) use sweep::{Sweep, phases};
pub(crate) use weight_gradient::weight_gradient;
pub(crate) use weight_sums::{Share, WeightSums};
pub(crate) use winograd::{Tiles, Turn, tile_border, winograd};
pub(crate) use winograd_gradient::{tile_gradient, tile_parts};
