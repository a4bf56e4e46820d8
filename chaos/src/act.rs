//! What a run plays: a scenario, or a case of the kill matrix.

use crate::{
    kill_matrix::Case,
    record::Outcome,
    scenario::Scenario,
    stage::{Stage, Terms},
    topology::Shape,
};
use anyhow::Result;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A named scenario.
    Scenario(Scenario),
    /// A case of the kill matrix.
    Kill(Case),
}

impl Act {
    /// The record's `scenario`.
    pub fn name(self) -> String {
        match self {
            Act::Scenario(scenario) => scenario.name(),
            Act::Kill(_) => "kill-matrix".into(),
        }
    }

    /// The record's `variant`.
    pub fn variant(self, seed: u64, run: u64) -> String {
        match self {
            Act::Scenario(scenario) => scenario.variant(seed, run),
            Act::Kill(case) => case.to_string(),
        }
    }

    /// How a run may end.
    pub fn demand(self) -> &'static [Outcome] {
        match self {
            Act::Scenario(scenario) => scenario.demand(),
            Act::Kill(_) => &[Outcome::Recovered],
        }
    }

    /// What a run may do to the clients.
    pub fn terms(self) -> Terms {
        match self {
            Act::Scenario(scenario) => scenario.terms(),
            Act::Kill(_) => Terms::default(),
        }
    }

    /// Whether packets must be dropped, or a file system mounted.
    pub fn needs_namespaces(self) -> bool {
        match self {
            Act::Scenario(scenario) => scenario.needs_namespaces(),
            Act::Kill(case) => case.needs_namespaces(),
        }
    }

    /// Whether the binary must have pause points.
    pub fn needs_pause_points(self) -> bool {
        match self {
            Act::Scenario(scenario) => scenario.needs_pause_points(),
            Act::Kill(_) => true,
        }
    }

    /// Whether nodes have clocks and syncs of their own.
    pub fn needs_dials(self) -> bool {
        matches!(self, Act::Scenario(scenario) if scenario.needs_dials())
    }

    /// Where the nodes pause, as they know it.
    pub fn pause_point(self, variant: &str) -> String {
        match self {
            Act::Scenario(scenario) => scenario.pause_point(variant),
            Act::Kill(case) => case.point(),
        }
    }

    /// The topology it plays on, from what the command line asks for.
    pub fn shape(self, asked: &Shape, variant: &str) -> Shape {
        match self {
            Act::Scenario(scenario) => scenario.shape(asked, variant),
            Act::Kill(case) => case.shape(asked),
        }
    }

    /// Plays it.
    pub async fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Act::Scenario(scenario) => scenario.play(stage).await,
            Act::Kill(case) => case.play(stage).await,
        }
    }
}
