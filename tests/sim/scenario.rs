//! What a run is made of: topology, policy, faults, operators. Plain values, made by `generate` from a seed or told by
//! hand in `stories`.

use quorate::model::{policy::Policy, server::Flavor};

use super::{fault::Planned, operator::Operation, raft::Timing, real::Tier};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything at once.
    Storm,
    /// Nothing but the view of the nodes, or of one direction, is harmed, and the primary's replicas hear it all the time:
    /// nothing may be failed over.
    Observers,
    /// One link goes up and down for the whole time: one promotion at most.
    Flap,
}

impl Kind {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Storm, Self::Observers, Self::Flap].into_iter().find(|kind| kind.name() == name)
    }

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Observers => "observers",
            Self::Flap => "flap",
        }
    }
}

/// Which of the scenarios that a seed may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sort {
    /// Of which tier.
    pub tier: Tier,
    /// All of this kind; `None`: of each as many as `generate` says.
    pub kind: Option<Kind>,
}

impl Sort {
    /// As it is asked for.
    pub fn args(self) -> Vec<&'static str> {
        let kind = self.kind.into_iter().flat_map(|kind| ["--kind", kind.name()]);
        ["--tier", self.tier.name()].into_iter().chain(kind).collect()
    }
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Where it stands.
    pub datacenter: u8,
    /// Parts per million by which its clock is fast.
    pub drift: i64,
    /// Up to this between a commit and its application, milliseconds.
    pub apply_lag_ms: u64,
    /// Up to this until an entry is on disk, milliseconds.
    pub sync_ms: u64,
}

/// A server.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    /// Where it stands.
    pub datacenter: u8,
    /// Whom it replicates from at first.
    pub source: Option<usize>,
    /// How long its applier works at a transaction, milliseconds.
    pub apply_ms: u64,
    /// Whether its configuration file makes it read-only.
    pub read_only: bool,
    /// `sync_binlog`.
    pub sync_binlog: u32,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is about.
    pub kind: Kind,
    /// Which Raft the nodes have.
    pub tier: Tier,
    /// Nodes, numbered from 1.
    pub nodes: Vec<NodePlan>,
    /// Dialect.
    pub flavor: Flavor,
    /// Servers; the first is the primary.
    pub servers: Vec<ServerPlan>,
    /// Acknowledgements a commit waits for.
    pub semi_sync: Option<u32>,
    /// Policy.
    pub policy: Policy,
    /// Timings of the group.
    pub timing: Timing,
    /// One way within a datacenter, between two, and up to this on top, milliseconds.
    pub ways_ms: (u64, u64, u64),
    /// Entries between snapshots, and kept behind one.
    pub snapshot_every: (usize, usize),
    /// When the faulty phase ends, true milliseconds.
    pub faulty_until: u64,
    /// When the run ends.
    pub end: u64,
    /// Faults.
    pub faults: Vec<Planned>,
    /// Operators' wishes, with their times.
    pub operations: Vec<(u64, Operation)>,
    /// Pauses of the clients between two writes, milliseconds.
    pub clients: Vec<u64>,
}
