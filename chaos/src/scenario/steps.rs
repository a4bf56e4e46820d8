//! The steps of a failover at which the executing node can be held (`src/server/pause.rs` of the product).

/// In the order in which they occur, as far as they do not run side by side. `start`: before the log entry is proposed,
/// and after it was committed. `ackers` and `acker` occur in semi-sync mode only: the candidate's source side is switched
/// on, and replicas are pointed at it.
pub const STEPS: [&str; 14] = [
    "start", "revoke", "fence", "decide", "drain", "ackers", "acker", "detach", "intent", "writable",
    "verify", "publish", "repoint", "finish",
];

/// Whether a step occurs in semi-sync mode only. `variant` begins with the step.
pub fn needs_semi_sync(variant: &str) -> bool {
    variant.starts_with("ackers:") || variant.starts_with("acker:")
}
