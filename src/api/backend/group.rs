//! The group of nodes, as one of them sees it and as it can be changed.

use crate::model::address::Address;

/// Role of a node in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// Leads.
    Leader,
    /// Votes.
    Follower,
    /// Receives the log, does not vote.
    Learner,
    /// Not heard.
    Unreachable,
    /// This node cannot tell.
    Unknown,
}

/// One node of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its number.
    pub id: u64,
    /// Its node port.
    pub address: String,
    /// Its client port.
    pub client_address: String,
    /// Its role.
    pub role: NodeRole,
    /// Whether it votes.
    pub voter: bool,
    /// Newest index it has applied.
    pub applied: Option<u64>,
    /// Name of its data directory.
    pub incarnation: String,
    /// What it runs; `None` when it did not say so in time.
    pub program: Option<Program>,
    /// Where it stands.
    pub datacenter: String,
    /// Milliseconds since it was heard.
    pub heard_ms: Option<u64>,
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The highest feature level that it understands.
    pub feature_level: u32,
    /// The state it has applied; `None` from a version that does not tell.
    pub state: Option<StateHash>,
}

/// The replicated state in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateHash {
    /// Log index it is of.
    pub index: u64,
    /// Equal on all nodes that applied the same entries.
    pub hash: String,
}

/// The group as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Name of the group.
    pub group: String,
    /// The node that answers.
    pub node: u64,
    /// Who leads.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Newest index of its log.
    pub log_index: u64,
    /// Whether there is a membership.
    pub initialised: bool,
    /// The nodes.
    pub nodes: Vec<NodeView>,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// A new learner.
    Add {
        /// Its number.
        id: u64,
        /// Its node port.
        address: Address,
    },
    /// A learner becomes a voter.
    MakeVoter {
        /// Its number.
        id: u64,
    },
    /// Gone for good.
    Remove {
        /// Its number.
        id: u64,
    },
    /// A new node in the place of an old one.
    Replace {
        /// Who goes.
        old: u64,
        /// Number of the new one.
        id: u64,
        /// Its node port.
        address: Address,
    },
    /// Another leader.
    TransferLeader {
        /// Who; `None`: whoever is best.
        to: Option<u64>,
    },
}
