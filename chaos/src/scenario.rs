//! The scenarios: what each does, what it needs, and how it must end.
//!
//! The lines of those of the matrix begin with their code in it; `docs/chaos.md` has the table.

mod clocks;
mod disks;
mod frozen;
mod islands;
mod members;
mod nothing;
mod of_nodes;
mod of_operators;
mod of_primaries;
mod of_replicas;
mod overload;
mod places;
mod play;
mod races;
mod rest;
mod sent;
mod steps;
mod traits;
mod undisturbed;

pub use steps::{STEPS, needs_semi_sync};

use clap::ValueEnum;

/// A named story with a fault in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// M1: SIGKILL of the primary
    KillPrimary,
    /// SIGSTOP of the primary, SIGCONT after it was replaced
    FreezePrimary,
    /// SIGSTOP of the primary while nobody may be promoted, SIGCONT: it is open again, whatever fence landed
    FrozenUndo,
    /// The same, but then somebody may: the failover that is being undone stands in nobody's way
    FrozenSupersede,
    /// M3: SIGSTOP of the primary for 1.0 or 0.5 s: nothing may be proposed or changed
    ShortFreeze,
    /// M3: SIGSTOP of the primary for 2 s, or until a recovery began, and SIGCONT in the midst of it
    FreezeIntoRecovery,
    /// M2: SHUTDOWN of the primary
    ShutdownPrimary,
    /// All packets of the primary dropped silently, healed after it was replaced
    PartitionPrimary,
    /// M4: the primary's machine loses its power, alone or with the leader on it
    PowerOff,
    /// SIGKILL of the primary and of the leading node in the same instant
    KillLeaderAndPrimary,
    /// SIGKILL of the node that recovers, before or after a step drawn from the seed
    KillLeaderMidRecovery,
    /// An operator's planned change of the primary, under load
    Switchover,
    /// N1, N2: one node cannot reach the healthy primary: nothing may happen
    OneObserverBlind,
    /// N3: most nodes, or all, cannot reach the healthy primary, its replicas can: nothing may happen
    MajorityBlind,
    /// N4: one direction between nodes and the healthy primary is cut: nothing may happen
    AsymmetricCut,
    /// N5: two nodes do not hear each other, or one not the other, and the primary dies
    NodesHalfApart,
    /// N6, N8: the primary's datacenter is cut off, with clients, a replica and a node, perhaps the leader
    PrimaryDatacenterCutOff,
    /// N7: the leader's datacenter is cut off, the primary stands elsewhere: nothing may happen
    LeaderDatacenterCutOff,
    /// N9: the primary dies and nobody in its datacenter may follow: refused until policy allows it
    OtherDatacenterForbidden,
    /// N10: the primary's link is down for 1 s each 2 s: nothing may happen
    FlappingLink,
    /// N10: down for 4 s each 5 s: replaced once, and never again
    FlappingLinkLong,
    /// N11: 30 % of all packets to the nodes are lost: nothing may happen
    LossyNodes,
    /// N12: two datacenters do not hear each other, the third, with the primary, hears both: nothing may happen
    TwoDatacentersApart,
    /// N13: replicas lose the primary, nodes and clients do not: with semi-sync it stalls, and nothing may happen
    ReplicasCutOff,
    /// N13: only clients still reach the primary: replaced; with semi-sync it acknowledges nothing meanwhile
    ClientsOnly,
    /// N14: no node hears another: nothing may happen, whatever the primary does, until they meet again
    NodesApart,
    /// N15: big packets between nodes and servers vanish, small ones pass: nothing may happen
    BigPacketsVanish,
    /// N16: behind a replica's address stands another server when the primary dies
    AnotherServer,
    /// No node reaches the idle, healthy primary, and its replicas have a long heartbeat: a witness clears it
    WitnessClears,
    /// The primary dies while a majority of the nodes is down: nothing may happen
    Minority,
    /// A killed primary is restarted, writable, after it was replaced
    OldPrimaryReturns,
    /// D11: it is restarted in the midst of its replacement, before or after a step drawn from the seed
    ReturnsMidRecovery,
    /// The new primary dies within the block window: refused until acknowledged
    Flap,
    /// M5: the primary dies and is back before its death is confirmed: nothing may happen
    RestartsInTime,
    /// M6: the primary has no connection left, perhaps not even the nodes': nothing may happen
    NoConnectionsLeft,
    /// M7: a global read lock on the primary: nothing may happen
    GlobalLock,
    /// M8: the primary hardly gets processor time: nothing may happen
    StarvedPrimary,
    /// M8: the leader hardly gets any, and the primary dies
    StarvedLeader,
    /// C1, C3: wall clocks of nodes are stepped by an hour, the leader's within a block, and primaries die
    WallClocksStep,
    /// C4: machines of nodes are suspended, the leader's or all, while the primary dies: replaced once
    SuspendedNodes,
    /// M11: all nodes are restarted in turn under load; then the primary dies
    RollingRestart,
    /// M12: a voter joins or leaves the group in the midst of a recovery
    MembershipMidRecovery,
    /// All nodes are killed and restarted; then the primary dies
    RestartAllNodes,
    /// S2: the leader's disk is full, and the primary dies
    FullDiskOfLeader,
    /// S3: the leader's syncs take 200 ms longer, or everybody's, and the primary dies
    SlowDisks,
    /// S4: the leader's syncs fail, and the primary dies
    FailingDiskOfLeader,
    /// S6: a bit of a follower's state flips, and the primary dies
    DamagedState,
    /// S7: a node loses its data directory: it may not vote under its old id
    WipedNode,
    /// S7: all but one do: nothing may happen
    MajorityWiped,
    /// SIGKILL of a semi-sync primary: no acknowledged write is lost, the returned one acknowledges none
    SemiSyncKill,
    /// D1: the primary dies while no replica has applied what it received: nobody leads before it has
    AllBehind,
    /// D2: the preferred candidate's applier was stopped
    ApplierStopped,
    /// D3: who received most must lead, though others have applied more
    ReceivedAhead,
    /// D4: the preferred candidate holds an errant transaction
    ErrantCandidate,
    /// D5: semi-sync gave up waiting just before the primary dies
    DegradedSemiSync,
    /// D12: an acker is started anew and the primary dies: nobody is promoted on its word before it was seen caught up
    AckerRestarts,
    /// D6: an intermediate source dies with the primary
    IntermediateToo,
    /// D7: most replicas are dead when the primary dies
    MostReplicasDead,
    /// D8: two servers only
    TwoServers,
    /// D9: two servers replace each other, there and back
    ThereAndBack,
    /// D10: the preferred candidate's receiver cannot be stopped
    StopHangs,
    /// D10: it cannot apply what it received, and policy takes the next one
    DrainHangs,
    /// D13: the preferred candidate has replication filters
    FilteredCandidate,
    /// H1: two operators change the primary at once
    TwoOperators,
    /// H2: an operator changes the primary while it dies
    SwitchoverAndDeath,
    /// H3: recoveries are switched off while the primary dies
    DisabledInTheAct,
    /// H4: one request is sent three times
    RepeatedRequest,
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
    fn the_table_in_the_docs_has_every_code_and_every_scenario() {
        let page = std::fs::read_to_string(crate::paths::root().join("docs/chaos.md")).unwrap();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
        let codes = [('N', 16), ('M', 12), ('S', 8), ('C', 4), ('D', 14), ('H', 4)];
        for code in codes.iter().flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}{n}"))) {
            let has = |row: &&str| {
                let cell = row.trim_start_matches("| ").split('|').next().unwrap_or_default();
                cell.split_whitespace().any(|word| word == code)
            };
            assert!(rows.iter().any(has), "{code}");
        }
        for scenario in Scenario::value_variants() {
            assert!(page.contains(&format!("`{}`", scenario.name())), "{}", scenario.name());
        }
    }

    #[test]
    fn every_scenario_has_a_line_about_it() {
        for scenario in Scenario::value_variants() {
            assert!(!scenario.about().is_empty(), "{}", scenario.name());
        }
    }
}
