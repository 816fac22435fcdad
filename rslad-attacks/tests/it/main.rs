//! The crate from outside: its contract over every attack, its properties, and the reference values of
//! the official codes.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod contract;
mod evaluate;
mod golden_attacks;
mod golden_losses;
mod goldens;
mod nets;
mod properties;
