//! What a prober is given and what it tells.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    model::{address::Address, facts::ServerFacts, server::ServerId},
    session::{MissingGrant, ReadError, SessionError},
};

/// The server to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Quorate's name for it, where it has one; carried in each event, compared with nothing.
    pub server: Option<ServerId>,
    /// Where it is dialled.
    pub address: Address,
}

/// How hard a server is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// At the interval.
    #[default]
    Steady,
    /// Suspected, or fenced while away: while there is no connection, at most one attempt in flight, begun 50 ms
    /// after the last one ended and left waiting for the greeting up to 1 s, for 10 minutes; then one each second.
    /// A thawed or healed server is met within that, and a frozen host does not collect attempts.
    Suspected,
}

/// When to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSettings {
    /// From the beginning of one probe to that of the next. Default 1 s; primaries 250 ms.
    pub interval: Duration,
    /// The same for full inventories. Default 60 s.
    pub inventory_interval: Duration,
    /// How hard.
    pub mode: Mode,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            inventory_interval: Duration::from_secs(60),
            mode: Mode::Steady,
        }
    }
}

/// The result of one look, or the end of the held connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeEvent {
    /// As the target says.
    pub server: Option<ServerId>,
    /// Where it was dialled.
    pub address: Address,
    /// Number of the attempt, rising with each begun. A late answer carries the number of its *silent*.
    pub seq: u64,
    /// When the attempt began.
    pub began: Instant,
    /// When this came to be known.
    pub ended: Instant,
    /// Whether it went over a new connection.
    pub fresh: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a look at a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It answered, perhaps late.
    Answered {
        /// What it said.
        facts: Box<ServerFacts>,
        /// What it would not say for want of a grant.
        lacking: Vec<MissingGrant>,
    },
    /// Its port refused the connection.
    Refused,
    /// Nothing came within the deadline; an answer may follow under the same number.
    Silent(String),
    /// The held connection ended: at once, whether or not a probe was under way.
    Closed(String),
    /// The network or the resolver said no.
    Unreachable(String),
    /// It lives and does not let this account in.
    AccessDenied(String),
    /// It lives and has no connection left.
    TooManyConnections(String),
    /// It says that it is going down.
    ShuttingDown(String),
    /// It is in offline mode and this account may not enter then.
    OfflineMode(String),
    /// Something else listens there.
    NotMySql(String),
    /// TLS could not be agreed on.
    Tls(String),
    /// It lives, and does not let this account read what every verdict needs.
    MissingGrant(MissingGrant),
    /// It answered with something else that is no use.
    Failed(String),
}

impl Outcome {
    /// Whether a living server process spoke, whatever it said.
    pub fn spoke(&self) -> bool {
        !matches!(
            self,
            Self::Refused
                | Self::Silent(_)
                | Self::Closed(_)
                | Self::Unreachable(_)
                | Self::NotMySql(_)
                | Self::Tls(_)
        )
    }

    /// Whether an urgent look is settled by it: everything but the absence of a word.
    pub(super) fn settles(&self) -> bool {
        !matches!(self, Self::Silent(_) | Self::Closed(_) | Self::Unreachable(_))
    }
}

impl From<ReadError> for Outcome {
    fn from(error: ReadError) -> Self {
        let error = match error {
            ReadError::Grant(missing) => return Self::MissingGrant(missing),
            ReadError::Session(error) => error,
        };
        let text = error.to_string();
        match error {
            SessionError::Refused => Self::Refused,
            SessionError::Silent { .. } => Self::Silent(text),
            SessionError::Closed(_) => Self::Closed(text),
            SessionError::Unreachable(_) => Self::Unreachable(text),
            SessionError::AccessDenied { .. } => Self::AccessDenied(text),
            SessionError::TooManyConnections { .. } => Self::TooManyConnections(text),
            SessionError::ShuttingDown { .. } => Self::ShuttingDown(text),
            SessionError::OfflineMode { .. } => Self::OfflineMode(text),
            SessionError::NotMySql(_) => Self::NotMySql(text),
            SessionError::Tls(_) => Self::Tls(text),
            SessionError::Server { .. } | SessionError::Protocol(_) => Self::Failed(text),
        }
    }
}
