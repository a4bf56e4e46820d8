//! What a node has seen of one server: the last facts, when it answered, how the last attempt ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::facts::ServerFacts;

/// How an attempt to probe a server ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// It answered.
    Answered,
    /// Connection refused: nothing listens.
    Refused,
    /// It says that it is shutting down.
    ShuttingDown,
    /// It has no connection left to give.
    TooManyConnections,
    /// No answer within the bound; `greeted` when it had greeted and then fell silent.
    Silent {
        /// Whether the server had sent its greeting, or had answered on that very connection before.
        greeted: bool,
    },
    /// The held connection ended; a new attempt is under way. A signal, not a verdict.
    Closed,
    /// It refuses our login, or a grant is missing. It lives.
    LoginFailed {
        /// The server's words, or the missing grant.
        why: String,
    },
    /// Something answers that is not the bound server.
    WrongIdentity {
        /// Who answered.
        seen: String,
    },
    /// No route, name not resolved, TLS trouble, not a MySQL port. Counts as silence, and makes a failure only where
    /// a replica lost the server too: it may be this node's own trouble.
    Failed {
        /// What went wrong.
        why: String,
    },
}

/// Times are this node's monotonic milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// When this node began to watch the server: silence of one that never answered counts from here.
    pub watched_since_ms: Option<u64>,
    /// When the last answer came.
    pub answered_ms: Option<u64>,
    /// The facts of that answer; shared with whoever was shown them.
    pub facts: Option<Arc<ServerFacts>>,
    /// When the last finished attempt ended, and how.
    pub last_attempt: Option<(u64, AttemptEnd)>,
    /// When the attempt now in flight began.
    pub waiting_since_ms: Option<u64>,
    /// When the receiver last proved that its source lives: the replica's own clock dates the last heartbeat, or a
    /// position or a heartbeat moved between two probes (then the earlier of them: it lived after that one).
    pub source_heard_ms: Option<u64>,
    /// The probe that noticed the last move of a position or heartbeat: nothing moved from then on. Where it is not
    /// filled in, `source_heard_ms` is taken for it.
    pub source_noticed_ms: Option<u64>,
    /// When the receiver was first seen broken by a connection error since it was last connected.
    pub source_lost_ms: Option<u64>,
    /// The longest silence that ended in the last 10 s, milliseconds (a pause).
    pub recent_pause_ms: Option<u64>,
}
