//! The audit trail and event stream: what happened, in order, bounded by policy.

use serde::{Deserialize, Serialize};

use crate::model::server::ClusterId;

/// Kind of an event; stable names for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A cluster was adopted or its members changed.
    Discovered,
    /// A server or cluster was forgotten.
    Forgotten,
    /// A node's verdict changed.
    Verdict,
    /// A receiver is restarted as a witness, or was.
    Witness,
    /// A recovery or operation began.
    RecoveryStarted,
    /// A start was refused.
    RecoveryRefused,
    /// Another leader took it over.
    TakenOver,
    /// The candidate is fixed.
    Decided,
    /// The candidate may be made writable.
    Intent,
    /// The new primary is the cluster's primary and accepts writes.
    Published,
    /// It was given up before its point of no return, and is being undone.
    Undoing,
    /// A recovery or operation ended.
    RecoveryEnded,
    /// A block began.
    Blocked,
    /// A block ended.
    Unblocked,
    /// A person acknowledged.
    Acknowledged,
    /// A returned primary was fenced.
    Fenced,
    /// It replicates again.
    Rejoined,
    /// It holds what the cluster lacks.
    Quarantined,
    /// Recoveries were enabled or disabled.
    Switched,
    /// Downtime or maintenance.
    Maintenance,
    /// Policy, promotion rule, alias.
    Policy,
    /// Durability of a cluster changed.
    Durability,
    /// Membership of the group changed.
    Group,
    /// Something a person should look at.
    Alert,
}

impl EventKind {
    /// The stable name.
    pub fn name(self) -> String {
        let debug = format!("{self:?}");
        let mut name = String::new();
        for (i, c) in debug.chars().enumerate() {
            if c.is_ascii_uppercase() && i > 0 {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Log index it happened at: the resume cursor of watchers.
    pub index: u64,
    /// Counts entries of the same index.
    pub part: u32,
    /// Log time.
    pub at_ms: u64,
    /// Wall time, Unix milliseconds, for display.
    pub wall_ms: u64,
    /// What kind.
    pub kind: EventKind,
    /// Whose.
    pub cluster: Option<ClusterId>,
    /// On which server (address).
    pub server: Option<String>,
    /// The recovery it belongs to.
    pub recovery: Option<u64>,
    /// Who did it.
    pub by: String,
    /// In words.
    pub text: String,
}
