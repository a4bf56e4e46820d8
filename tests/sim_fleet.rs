//! The simulated servers by themselves.
#[path = "sim/fleet/mod.rs"]
mod fleet;
