//! How much of a run is written down.

use serde::Serialize;

/// Full evidence costs time (docs/chaos.md says how much): figures are taken with the light one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// General logs on every server, and clients that write to each server whatever happens
    #[default]
    Full,
    /// One client, and no general logs: for figures
    Light,
}
