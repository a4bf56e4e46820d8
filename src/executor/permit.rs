//! What allows a step (P1): a committed decision, as this node knows it, for a short time.

use std::time::Duration;

use tokio::time::Instant;

use crate::mistake::{Mistake, planted};

/// The committed decision a step rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Recovery, operation or standing order.
    pub recovery: String,
    /// Log index of the entry that allows the step.
    pub log_index: u64,
    /// Term of that entry.
    pub term: u64,
    /// When leadership, or what the log says, was last confirmed; nothing that came later rests on it. A process that slept
    /// since knows nothing of what others decided meanwhile: the permit is void. And a session that was opened since is not
    /// covered: another leader, elected meanwhile, may have seen this node's sessions gone from a server, and none is to
    /// appear there after that.
    pub confirmed: Instant,
    /// Until when, on this node's monotonic clock; no statement is sent later.
    pub expires: Instant,
}

impl Permit {
    /// What was confirmed at `confirmed` allows steps for `within` from now on.
    pub fn new(
        recovery: impl Into<String>,
        log_index: u64,
        term: u64,
        confirmed: Instant,
        within: Duration,
    ) -> Self {
        Self { recovery: recovery.into(), log_index, term, confirmed, expires: Instant::now() + within }
    }

    /// Whether a statement may still be sent, by its time.
    pub fn holds(&self, now: Instant) -> bool {
        now < self.expires || planted(Mistake::PermitNotChecked)
    }
}
