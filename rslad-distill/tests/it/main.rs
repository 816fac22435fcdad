//! One binary, so that the tests link once and share the processor. What needs a process of its own is
//! beside this folder.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod architectures;
mod averages;
mod awp;
mod common;
mod contract;
mod label_slots;
mod labels;
mod later_methods;
mod losses_match_released_codes;
mod micro_batches;
mod not_finite;
mod recipes;
mod resume;
mod same_bits;
mod soft_labels;
mod together;
mod training_matches_released_codes;
