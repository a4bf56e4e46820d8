//! What allows a step (P1): a committed decision, as this node knows it, for a short time.

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
    /// Until when, on this node's monotonic clock; no statement is sent later.
    pub expires: Instant,
}

impl Permit {
    /// Whether a statement may still be sent.
    pub fn holds(&self, now: Instant) -> bool {
        now < self.expires || planted(Mistake::PermitNotChecked)
    }
}
