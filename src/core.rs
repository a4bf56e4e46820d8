//! Decisions as pure functions over values: no I/O, no clock, no randomness, no async.

pub mod agreement;
pub mod analysis;
pub mod plan;
pub mod recovery;
pub mod replicated;
#[cfg(test)]
pub mod samples;
