//! The crate from outside: its contract over every attack, its properties, and the reference values of
//! the official codes.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod apgd;
mod brief;
mod contract;
mod evaluate;
mod fab_steps;
mod golden_apgd;
mod golden_attacks;
mod golden_auto_attack;
mod golden_fab;
mod golden_losses;
mod golden_square;
mod goldens;
mod nets;
mod properties;
mod worst_case;
