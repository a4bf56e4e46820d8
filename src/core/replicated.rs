//! The replicated state: what the group has agreed on, and the commands that change it.

use serde::{Deserialize, Serialize};

/// What the log carries: one change of the replicated state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Log time in milliseconds, stamped by the leader that proposes (P10).
    pub at_ms: u64,
}

/// What `apply` answers to whoever proposed the command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {}

/// The state every node holds after applying the same entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Log time in milliseconds; never goes back.
    pub log_time_ms: u64,
}

impl State {
    /// Applies the command of log entry `index`. Total: no command panics in any state.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        let _ = index;
        self.log_time_ms = self.log_time_ms.max(command.at_ms);
        Outcome {}
    }
}
