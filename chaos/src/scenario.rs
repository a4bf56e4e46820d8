//! The scenarios: what each does, what it needs, and how it must end.

mod frozen;
mod nothing;
mod of_nodes;
mod of_operators;
mod of_primaries;
mod sent;
mod steps;

pub use steps::{STEPS, needs_semi_sync};

use crate::{
    record::Outcome,
    server::options::Settings,
    stage::{Stage, Terms},
    topology::Shape,
};
use anyhow::Result;
use clap::ValueEnum;
use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// A named story with a fault in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// SIGKILL of the primary
    KillPrimary,
    /// SIGSTOP of the primary, SIGCONT after it was replaced
    FreezePrimary,
    /// SIGSTOP of the primary while nobody may be promoted, SIGCONT: it is open again, whatever fence landed
    FrozenUndo,
    /// The same, but then somebody may: the failover that is being undone stands in nobody's way
    FrozenSupersede,
    /// SIGSTOP of the primary for 1.0 s: nothing may be proposed or changed
    ShortFreeze,
    /// SHUTDOWN of the primary
    ShutdownPrimary,
    /// All packets of the primary dropped silently, healed after it was replaced
    PartitionPrimary,
    /// SIGKILL of the primary and of the leading node in the same instant
    KillLeaderAndPrimary,
    /// SIGKILL of the node that recovers, before or after a step drawn from the seed
    KillLeaderMidRecovery,
    /// An operator's planned change of the primary, under load
    Switchover,
    /// One node cannot reach the healthy primary: nothing may happen
    OneObserverBlind,
    /// No node reaches the idle, healthy primary, and its replicas have a long heartbeat: a witness clears it
    WitnessClears,
    /// The primary dies while a majority of the nodes is down: nothing may happen
    Minority,
    /// A killed primary is restarted, writable, after it was replaced
    OldPrimaryReturns,
    /// The new primary dies within the block window: refused until acknowledged
    Flap,
    /// All nodes are killed and restarted; then the primary dies
    RestartAllNodes,
    /// A node loses its data directory: it may not vote under its old id
    WipedNode,
    /// SIGKILL of a semi-sync primary: no acknowledged write is lost, the returned one acknowledges none
    SemiSyncKill,
    /// SIGKILL of the primary, with exactly the documented grants
    DocumentedGrants,
}

impl Scenario {
    /// The name on the command line and in records.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no scenario is hidden").get_name().to_string()
    }

    /// One line about it.
    pub fn about(self) -> String {
        self.to_possible_value().and_then(|v| v.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// How a run must end.
    pub fn demand(self) -> Outcome {
        match self {
            Scenario::ShortFreeze
            | Scenario::OneObserverBlind
            | Scenario::WitnessClears
            | Scenario::Minority => Outcome::Nothing,
            Scenario::Flap => Outcome::Refused,
            Scenario::FrozenUndo => Outcome::Cancelled,
            _ => Outcome::Recovered,
        }
    }

    /// What a run may do to the clients.
    pub fn terms(self) -> Terms {
        Terms {
            lossless: self == Scenario::Switchover,
            // The old primary lives on out of reach, or comes back writable.
            may_overlap: matches!(
                self,
                Scenario::FreezePrimary
                    | Scenario::FrozenSupersede
                    | Scenario::PartitionPrimary
                    | Scenario::OldPrimaryReturns
                    | Scenario::SemiSyncKill
            ),
        }
    }

    /// Whether packets must be dropped.
    pub fn needs_partitions(self) -> bool {
        matches!(self, Scenario::PartitionPrimary | Scenario::OneObserverBlind | Scenario::WitnessClears)
    }

    /// Whether the binary must have pause points.
    pub fn needs_pause_points(self) -> bool {
        self == Scenario::KillLeaderMidRecovery
    }

    /// What this run varies, by name; drawn so that a batch covers everything.
    pub fn variant(self, seed: u64, run: u64) -> String {
        match self {
            Scenario::KillLeaderMidRecovery => {
                // One shuffled deck of steps: each occurs once in every fourteen runs, on alternating sides.
                let mut steps = STEPS;
                steps.shuffle(&mut StdRng::seed_from_u64(seed));
                let index = (run - 1) as usize;
                // The other side in each further round.
                let is_before = (index + index / STEPS.len() + seed as usize).is_multiple_of(2);
                format!("{}:{}", steps[index % STEPS.len()], if is_before { "before" } else { "after" })
            }
            Scenario::OneObserverBlind => {
                let all = ["leader", "leader, receivers stopped", "follower", "follower, receivers stopped"];
                all[(run - 1) as usize % all.len()].to_string()
            }
            _ => String::new(),
        }
    }

    /// The topology it plays on, from what the command line asks for.
    pub fn shape(self, asked: &Shape, variant: &str) -> Shape {
        let mut shape = asked.clone();
        let wants_semi_sync = self == Scenario::SemiSyncKill || needs_semi_sync(variant);
        let semi_sync = shape.settings.semi_sync.or(wants_semi_sync.then_some(1));
        let general_log = shape.settings.general_log || self.demand() == Outcome::Nothing;
        if self == Scenario::WitnessClears {
            shape.heartbeat = Duration::from_secs(60);
        }
        shape.settings = Settings { semi_sync, general_log, ..shape.settings };
        shape
    }

    /// Plays it.
    pub async fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Scenario::KillPrimary | Scenario::DocumentedGrants => of_primaries::kill(stage).await,
            Scenario::FreezePrimary => of_primaries::freeze(stage).await,
            Scenario::FrozenUndo => frozen::undo(stage).await,
            Scenario::FrozenSupersede => frozen::supersede(stage).await,
            Scenario::ShutdownPrimary => of_primaries::shutdown(stage).await,
            Scenario::PartitionPrimary => of_primaries::partition(stage).await,
            Scenario::OldPrimaryReturns | Scenario::SemiSyncKill => {
                of_primaries::kill_and_return(stage).await
            }
            Scenario::ShortFreeze => nothing::short_freeze(stage).await,
            Scenario::OneObserverBlind => nothing::one_observer_blind(stage).await,
            Scenario::WitnessClears => nothing::witness_clears(stage).await,
            Scenario::Minority => nothing::minority(stage).await,
            Scenario::KillLeaderAndPrimary => of_nodes::kill_leader_and_primary(stage).await,
            Scenario::KillLeaderMidRecovery => of_nodes::kill_leader_mid_recovery(stage).await,
            Scenario::RestartAllNodes => of_nodes::restart_all(stage).await,
            Scenario::WipedNode => of_nodes::wiped(stage).await,
            Scenario::Switchover => of_operators::switchover(stage).await,
            Scenario::Flap => of_operators::flap(stage).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn fourteen_runs_cover_every_step_and_twenty_eight_both_sides() {
        for seed in 0..20 {
            let steps = |runs: u64| -> BTreeSet<String> {
                (1..=runs).map(|run| Scenario::KillLeaderMidRecovery.variant(seed, run)).collect()
            };
            let of_fourteen: BTreeSet<String> =
                steps(14).iter().filter_map(|v| Some(v.split_once(':')?.0.to_string())).collect();
            assert_eq!(of_fourteen.len(), 14);
            assert_eq!(steps(28).len(), 28);
        }
    }

    #[test]
    fn every_scenario_has_a_line_about_it() {
        for scenario in Scenario::value_variants() {
            assert!(!scenario.about().is_empty(), "{}", scenario.name());
        }
    }
}
