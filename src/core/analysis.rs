//! Facts to problems: a table of rows, one per problem code, judged by each node over its own observations.

pub mod derive;
pub mod observation;
pub mod problem;
pub mod rows;
mod sentences;
pub mod testimony;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::server::{ClusterId, ServerId};

/// Class of a problem: what kind of repair it needs. Highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A new primary is needed.
    Primary,
    /// A source in the middle must be replaced.
    Intermediate,
    /// Roles, read-only, semi-sync on servers that live.
    Settings,
    /// Nothing to repair: shown only.
    None,
}

impl Class {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Intermediate => "intermediate",
            Self::Settings => "settings",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How loudly it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Writes are refused or lost.
    Critical,
    /// A repair would not work, or something is degraded.
    Warning,
    /// Worth knowing.
    Info,
}

/// What is done about a problem. Total: every code names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Replace the primary.
    ReplacePrimary,
    /// Nothing automatic; people are told.
    Nothing,
}

/// Problem codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Code {
    /// Primary dead, every replica reachable and all of them lost it.
    DeadPrimary,
    /// Primary dead, some replicas unreachable too, those reached lost it.
    DeadPrimaryAndSomeReplicas,
    /// Neither the primary nor any of its replicas answers.
    DeadPrimaryAndReplicas,
    /// Primary dead and it has no replicas.
    DeadPrimaryWithoutReplicas,
    /// This node cannot reach the primary, but replicas receive from it: no action.
    UnreachablePrimary,
    /// This node cannot reach the primary; replicas claim to receive but all lag.
    UnreachablePrimaryWithLaggingReplicas,
    /// Primary answers, no replica replicates from it.
    AllPrimaryReplicasNotReplicating,
    /// Primary answers "too many connections" or answers late: overload is not death.
    SaturatedPrimary,
    /// Primary greets and then does not answer.
    StalledPrimary,
    /// Primary was silent for a moment shorter than a verdict, or is so now.
    PausedPrimary,
    /// Primary refuses writes though nobody asked it to.
    ReadOnlyPrimary,
    /// Primary answers and has no replicas.
    PrimaryWithoutReplicas,
    /// This node cannot log in or lacks a grant: it is blind there, the server is not dead.
    LoginFailed,
    /// Another server answers at the primary's address.
    PrimaryIdentityChanged,
    /// A replica that runs lacks transactions that it wrote itself.
    ReplicaLostItsOwn,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 15] = [
        Code::DeadPrimary,
        Code::DeadPrimaryAndSomeReplicas,
        Code::DeadPrimaryAndReplicas,
        Code::DeadPrimaryWithoutReplicas,
        Code::UnreachablePrimary,
        Code::UnreachablePrimaryWithLaggingReplicas,
        Code::AllPrimaryReplicasNotReplicating,
        Code::SaturatedPrimary,
        Code::StalledPrimary,
        Code::PausedPrimary,
        Code::ReadOnlyPrimary,
        Code::PrimaryWithoutReplicas,
        Code::LoginFailed,
        Code::PrimaryIdentityChanged,
        Code::ReplicaLostItsOwn,
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a replica's receiver says about its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaSign {
    /// It has heard from the source after the source fell silent to this node, or the source answers.
    Connected,
    /// It lost the source: receiver broken by a connection error, or silent for more than two heartbeat periods.
    Lost,
    /// Its receiver was stopped by someone, follows another server, or broke long before: says nothing.
    Stopped,
    /// It claims to be connected, but nothing proves it (long heartbeat, no traffic).
    Unproven,
    /// This node cannot reach the replica, or its facts are stale.
    Unreachable,
}

/// How the primary appeared to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrimarySign {
    /// Connection refused, or server shutting down.
    Gone {
        /// What was seen, in words.
        how: String,
    },
    /// No answer of any kind since the last one.
    Silent {
        /// Milliseconds since its last answer.
        for_ms: u64,
    },
}

/// Why a node gives its verdict; goes into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The primary as seen by this node.
    pub primary: PrimarySign,
    /// Each replica's sign.
    pub replicas: Vec<(ServerId, ReplicaSign)>,
    /// Hard: refused or shutting down, and every reachable replica lost it, at least one (design §4).
    pub hard: bool,
    /// Whether an urgent round of this node ended without any answer (needed where the evidence is soft).
    pub urgent_round_done: bool,
    /// Only the restart of a receiver could tell whether the primary lives: it is silent, and every replica that claims to
    /// be connected has a heartbeat too long to prove it (design §3).
    #[serde(default)]
    pub needs_witness: bool,
    /// One sentence for people.
    pub text: String,
}

/// A node's word on a cluster: names a failure, or says that there is none, or that it is blind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Who says so.
    pub node: u64,
    /// The incarnation of that node's data directory.
    pub incarnation: String,
    /// Counts this node's verdicts since it started; never goes back within an incarnation (seeded from the log).
    pub sequence: u64,
    /// About which cluster.
    pub cluster: ClusterId,
    /// At which primary epoch.
    pub epoch: u64,
    /// About which server.
    pub subject: ServerId,
    /// What is said.
    pub finding: Finding,
}

/// The content of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// All well, as far as an automatic repair goes.
    Healthy,
    /// This node can judge nothing now; counts for nobody.
    Blind {
        /// Why.
        why: String,
    },
    /// A failure.
    Failure {
        /// Class.
        class: Class,
        /// Code.
        code: Code,
        /// Evidence.
        evidence: Evidence,
    },
}

impl Verdict {
    /// The failure named, if one is.
    pub fn failure(&self) -> Option<(Class, Code, &Evidence)> {
        match &self.finding {
            Finding::Failure { class, code, evidence } => Some((*class, *code, evidence)),
            _ => None,
        }
    }

    /// Short text: the code, `healthy` or `blind`.
    pub fn label(&self) -> String {
        match &self.finding {
            Finding::Healthy => "healthy".into(),
            Finding::Blind { .. } => "blind".into(),
            Finding::Failure { code, .. } => code.to_string(),
        }
    }
}
