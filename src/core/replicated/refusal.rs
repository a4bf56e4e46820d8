//! Why something was not done. A refusal precedes the first statement, changes nothing, and holds its numbers (P7).

use serde::{Deserialize, Serialize};

use super::recovery::Considered;
use crate::model::server::{ClusterId, ServerId};

/// Typed reasons; `reason()` is the stable name that clients see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Fewer than a majority of the voters hold a fresh verdict that names this failure.
    #[error("{have} of {voters} voters agree, {need} are needed{}", missing_text(.missing))]
    NoMajority {
        /// Voters that agree.
        have: u32,
        /// Voters needed.
        need: u32,
        /// Voters in all.
        voters: u32,
        /// Why each other voter does not count.
        missing: Vec<(u64, String)>,
    },
    /// A voter has an answer from the server.
    #[error("node {node} has an answer from the primary ({what}), so it is not dead")]
    StillAnswers {
        /// Which node.
        node: u64,
        /// What it saw.
        what: String,
    },
    /// The slot of the cluster is held.
    #[error("{what} {id} of this cluster is running; wait for its end")]
    SlotHeld {
        /// `recovery` or `switchover`.
        what: String,
        /// Its id.
        id: u64,
    },
    /// An anti-flapping block stands.
    #[error(
        "a block stands since recovery {recovery}, for another {left_s} s of log time; acknowledge it with `quorate ack {recovery} --comment ...`"
    )]
    ClusterBlocked {
        /// The recovery it came from.
        recovery: u64,
        /// Seconds left.
        left_s: u64,
    },
    /// A recovery did not complete a moment ago.
    #[error("{attempts} attempts did not complete; the next starts in {left_ms} ms at the earliest")]
    BackOff {
        /// Attempts since the last that completed.
        attempts: u32,
        /// Milliseconds left.
        left_ms: u64,
    },
    /// Too many recoveries in the fleet.
    #[error(
        "the fleet-wide breaker stands: {count} recoveries in the last {window_s} s (at most {limit}); look for a common cause, then acknowledge them"
    )]
    Breaker {
        /// How many.
        count: u32,
        /// How many are allowed.
        limit: u32,
        /// In what time, seconds.
        window_s: u64,
    },
    /// Switched off.
    #[error("recoveries are disabled {scope} by {by}: {why}")]
    RecoveriesDisabled {
        /// `globally` or `for this cluster`.
        scope: String,
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// The server is in downtime.
    #[error("{server} is in downtime, owner {by}: {why}; {left_s} s left")]
    Downtime {
        /// Who.
        server: ServerId,
        /// Owner.
        by: String,
        /// Why.
        why: String,
        /// Seconds left.
        left_s: u64,
    },
    /// The cluster is in maintenance.
    #[error("the cluster is in maintenance, owner {by}: {why}; {left_s} s left")]
    Maintenance {
        /// Owner.
        by: String,
        /// Why.
        why: String,
        /// Seconds left.
        left_s: u64,
    },
    /// What it was planned on has changed.
    #[error("the cluster changed meanwhile ({what} {then}, now {now}); look again")]
    Outdated {
        /// What changed.
        what: String,
        /// As planned.
        then: u64,
        /// As it is.
        now: u64,
    },
    /// A replica may not be restarted as a witness.
    #[error("no receiver is restarted as a witness: {why}")]
    NoWitness {
        /// Why not.
        why: String,
    },
    /// A name that nobody knows.
    #[error("no {what} `{name}`{}", suggest(.near))]
    Unknown {
        /// `cluster`, `server`, `recovery`, ...
        what: String,
        /// As given.
        name: String,
        /// Near names.
        near: Vec<String>,
    },
    /// It exists already.
    #[error("{what} `{name}` exists already{}", in_cluster(.cluster))]
    Exists {
        /// What.
        what: String,
        /// Its name.
        name: String,
        /// Where.
        cluster: Option<ClusterId>,
    },
    /// The recovery is not in a phase for this, or not this node's.
    #[error("recovery {recovery} is {is}; this needs {needs}")]
    WrongPhase {
        /// Which.
        recovery: u64,
        /// As it is.
        is: String,
        /// As needed.
        needs: String,
    },
    /// Nobody can be promoted.
    #[error("no server can be promoted: {}", considered_text(.considered))]
    NoSafeCandidate {
        /// Each member with its reason.
        considered: Vec<Considered>,
    },
    /// Acknowledged transactions may be lost.
    #[error("acknowledged transactions may be lost: {why}")]
    PossibleDataLoss {
        /// Why, with the sets or numbers.
        why: String,
    },
    /// Sessions that would stretch the pause of a switchover.
    #[error("{sessions}")]
    LongStatement {
        /// Which sessions, in words.
        sessions: String,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A command of a newer version.
    #[error("this needs feature level {needs}; the group runs {has}: upgrade every voter first")]
    FeatureLevel {
        /// Needed.
        needs: u32,
        /// Replicated level.
        has: u32,
    },
}

fn missing_text(nodes: &[(u64, String)]) -> String {
    let each: Vec<String> = nodes.iter().map(|(node, why)| format!("node {node}: {why}")).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
}

fn suggest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}

fn in_cluster(cluster: &Option<ClusterId>) -> String {
    cluster.as_ref().map(|c| format!(" in cluster {c}")).unwrap_or_default()
}

fn considered_text(considered: &[Considered]) -> String {
    let each: Vec<String> = considered.iter().map(|c| format!("{}: {}", c.address, c.why)).collect();
    if each.is_empty() { "the cluster has no replica".into() } else { each.join("; ") }
}

impl Refusal {
    /// Stable upper-case name for clients (`ErrorInfo.reason`).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoMajority { .. } => "NO_MAJORITY_VERDICT",
            Self::StillAnswers { .. } => "PRIMARY_STILL_ANSWERS",
            Self::SlotHeld { .. } => "SLOT_HELD",
            Self::ClusterBlocked { .. } => "CLUSTER_BLOCKED",
            Self::BackOff { .. } => "BACK_OFF",
            Self::Breaker { .. } => "FLEET_BREAKER",
            Self::RecoveriesDisabled { .. } => "RECOVERIES_DISABLED",
            Self::Downtime { .. } => "DOWNTIME",
            Self::Maintenance { .. } => "MAINTENANCE",
            Self::Outdated { .. } => "OUTDATED",
            Self::NoWitness { .. } => "NO_WITNESS",
            Self::Unknown { .. } => "NOT_FOUND",
            Self::Exists { .. } => "ALREADY_EXISTS",
            Self::WrongPhase { .. } => "WRONG_PHASE",
            Self::NoSafeCandidate { .. } => "NO_SAFE_CANDIDATE",
            Self::PossibleDataLoss { .. } => "POSSIBLE_DATA_LOSS",
            Self::LongStatement { .. } => "LONG_STATEMENT",
            Self::Invalid(_) => "INVALID_ARGUMENT",
            Self::FeatureLevel { .. } => "FEATURE_LEVEL",
        }
    }
}
