//! What each scenario demands and needs.

use super::{STEPS, Scenario, Scenario as S, needs_semi_sync, undisturbed};
use crate::{record::Outcome, server::options::Settings, stage::Terms, topology::Shape};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::time::Duration;

impl Scenario {
    /// How a run may end; any other end is a failure.
    pub fn demand(self) -> &'static [Outcome] {
        match self {
            S::ShortFreeze
            | S::OneObserverBlind
            | S::MajorityBlind
            | S::AsymmetricCut
            | S::LeaderDatacenterCutOff
            | S::FlappingLink
            | S::LossyNodes
            | S::TwoDatacentersApart
            | S::ReplicasCutOff
            | S::BigPacketsVanish
            | S::RestartsInTime
            | S::NoConnectionsLeft
            | S::GlobalLock
            | S::StarvedPrimary
            | S::MajorityWiped
            | S::WitnessClears
            | S::Minority => &[Outcome::Nothing],
            S::Flap | S::WallClocksStep | S::OtherDatacenterForbidden => &[Outcome::Refused],
            S::FrozenUndo => &[Outcome::Cancelled],
            // It may answer before anything has begun, or before anything was promoted.
            S::FreezeIntoRecovery => &[Outcome::Recovered, Outcome::Cancelled, Outcome::Nothing],
            S::ReturnsMidRecovery => &[Outcome::Recovered, Outcome::Cancelled],
            S::DisabledInTheAct => &[Outcome::Recovered, Outcome::Nothing],
            _ => &[Outcome::Recovered],
        }
    }

    /// What a run may do to the clients.
    pub fn terms(self) -> Terms {
        Terms {
            lossless: matches!(self, S::Switchover | S::TwoOperators | S::RepeatedRequest),
            // The old primary lives on out of reach, or comes back writable.
            may_overlap: matches!(
                self,
                S::FreezePrimary
                    | S::FrozenSupersede
                    | S::FreezeIntoRecovery
                    | S::PartitionPrimary
                    | S::PrimaryDatacenterCutOff
                    | S::FlappingLinkLong
                    | S::ClientsOnly
                    | S::OldPrimaryReturns
                    | S::ReturnsMidRecovery
                    | S::SemiSyncKill
            ),
        }
    }

    /// Whether packets must be dropped, or a file system mounted.
    pub fn needs_namespaces(self) -> bool {
        matches!(
            self,
            S::PartitionPrimary
                | S::PowerOff
                | S::OneObserverBlind
                | S::MajorityBlind
                | S::AsymmetricCut
                | S::NodesHalfApart
                | S::PrimaryDatacenterCutOff
                | S::LeaderDatacenterCutOff
                | S::FlappingLink
                | S::FlappingLinkLong
                | S::LossyNodes
                | S::TwoDatacentersApart
                | S::ReplicasCutOff
                | S::ClientsOnly
                | S::NodesApart
                | S::BigPacketsVanish
                | S::FullDiskOfLeader
                | S::WitnessClears
        )
    }

    /// Whether the binary must have pause points.
    pub fn needs_pause_points(self) -> bool {
        matches!(self, S::KillLeaderMidRecovery | S::MembershipMidRecovery | S::ReturnsMidRecovery)
    }

    /// Whether nodes have clocks and syncs of their own.
    pub fn needs_dials(self) -> bool {
        matches!(self, S::WallClocksStep | S::SuspendedNodes | S::SlowDisks | S::FailingDiskOfLeader)
    }

    /// Where nodes pause, as they know it; of scenarios that need it.
    pub fn pause_point(self, variant: &str) -> String {
        variant.split(' ').next().unwrap_or_default().to_owned()
    }

    /// What this run varies, by name; drawn so that a batch covers everything.
    pub fn variant(self, seed: u64, run: u64) -> String {
        // One after the other, from a place that the seed chooses.
        let one_of = |all: &[&str]| all[(seed.wrapping_add(run) as usize) % all.len()].to_string();
        match self {
            S::KillLeaderMidRecovery | S::ReturnsMidRecovery => of_steps(seed, run),
            S::OneObserverBlind => {
                let all = ["leader", "leader, receivers stopped", "follower", "follower, receivers stopped"];
                all[(run - 1) as usize % all.len()].to_string()
            }
            S::ShortFreeze => ["1.0 s", "0.5 s"][(run - 1) as usize % 2].to_string(),
            S::FreezeIntoRecovery => one_of(&["for 2 s", "until a recovery began"]),
            S::PowerOff => one_of(&["of the primary", "of the primary and the leader"]),
            S::MajorityBlind => one_of(&undisturbed::WHO),
            S::AsymmetricCut => one_of(&undisturbed::WAYS),
            S::TwoDatacentersApart => one_of(&["the leader in one", "the leader with the primary"]),
            S::BigPacketsVanish => one_of(&["of every server", "of the replicas"]),
            S::ReplicasCutOff | S::ClientsOnly => one_of(&["semi-sync", "asynchronous"]),
            S::NodesHalfApart => one_of(&[
                "a follower does not hear the leader",
                "the leader does not hear a follower",
                "leader and follower apart",
                "two followers apart",
            ]),
            S::PrimaryDatacenterCutOff => one_of(&["with a follower", "with the leader"]),
            S::NoConnectionsLeft => one_of(&["the nodes' sessions stay", "the nodes' sessions ended"]),
            S::DamagedState => one_of(&["of its log", "of its mark"]),
            S::MembershipMidRecovery => {
                let what = one_of(&["a voter joins", "a voter is removed"]);
                // Each of them at each point in turn.
                let points = ["revoke:after", "decide:after", "intent:after", "publish:before"];
                let point = points[(seed.wrapping_add(run) as usize / 2) % points.len()];
                format!("{point} {what}")
            }
            S::AckerRestarts => one_of(&["with the primary", "and is caught up"]),
            S::TwoOperators => one_of(&["planned", "by force"]),
            S::SlowDisks => one_of(&["of the leader", "of all"]),
            S::SuspendedNodes => one_of(&["the leader", "all", "a follower"]),
            S::WallClocksStep => one_of(&["forth", "back"]),
            S::DisabledInTheAct => one_of(&["death first", "the switch first"]),
            _ => String::new(),
        }
    }

    /// The topology it plays on, from what the command line asks for.
    pub fn shape(self, asked: &Shape, variant: &str) -> Shape {
        let mut shape = asked.clone();
        let wants_semi_sync = matches!(self, S::SemiSyncKill | S::DegradedSemiSync | S::AckerRestarts)
            || variant == "semi-sync"
            || needs_semi_sync(variant);
        let semi_sync = shape.settings.semi_sync.or(wants_semi_sync.then_some(1));
        let general_log = shape.settings.general_log || self.demand() == [Outcome::Nothing];
        match self {
            S::WitnessClears => shape.heartbeat = Duration::from_secs(60),
            S::TwoServers | S::ThereAndBack => shape.replicas = 1,
            S::IntermediateToo => shape.below_first = shape.below_first.max(1),
            _ => {}
        }
        shape.settings = Settings { semi_sync, general_log, ..shape.settings };
        shape
    }
}

/// One shuffled deck of steps: each occurs once in every fourteen runs, on alternating sides.
fn of_steps(seed: u64, run: u64) -> String {
    let mut steps = STEPS;
    steps.shuffle(&mut StdRng::seed_from_u64(seed));
    let index = (run - 1) as usize;
    // The other side in each further round.
    let is_before = (index + index / STEPS.len() + seed as usize).is_multiple_of(2);
    format!("{}:{}", steps[index % STEPS.len()], if is_before { "before" } else { "after" })
}
