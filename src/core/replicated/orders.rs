//! Standing orders: what nodes do when something comes to pass. Today: a replaced primary that returns.
//!
//! ```text
//! Waiting ──► Fenced ──► Rejoining ──► done (the order is revoked)
//!               └──────► Quarantined
//! ```
//! `Waiting` allows every node to fence the server (P1). `Rejoining` allows the leader to point it at the primary.

use serde::{Deserialize, Serialize};

use crate::{core::plan::step::Target, model::server::ClusterId};

/// How far a standing order has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum OrderStage {
    /// The server has not answered yet; whoever hears it first fences it.
    Waiting,
    /// Seen read-only.
    Fenced,
    /// Its set is contained: it may be pointed at the primary.
    Rejoining,
    /// It holds transactions that the cluster lacks, or lacks some of its own for good.
    Quarantined {
        /// The errant set; empty where it lacks some of its own.
        errant: String,
        /// What is known about it.
        why: String,
    },
    /// It replicates again; the order is gone with this.
    Rejoined,
}

/// Why a server is quarantined, as the end of a sentence about it.
pub fn quarantine_text(errant: &str, why: &str) -> String {
    match errant.is_empty() {
        true => why.to_owned(),
        false => format!("holds {errant}, which the cluster lacks ({why})"),
    }
}

/// Fence a returned primary, then rejoin or quarantine it. Revoked by the command that makes that server a candidate
/// or the primary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandingOrder {
    /// Log index of its issue.
    pub id: u64,
    /// Whose.
    pub cluster: ClusterId,
    /// On whom.
    pub target: Target,
    /// Primary epoch from which it was replaced.
    pub epoch: u64,
    /// The recovery it came from.
    pub recovery: u64,
    /// Whether semi-sync protected the cluster when it was replaced: then a tail nobody received was never acknowledged.
    pub semi_sync: bool,
    /// How far it has got.
    pub stage: OrderStage,
    /// Log time of its issue.
    pub since_ms: u64,
}
