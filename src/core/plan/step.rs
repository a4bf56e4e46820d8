//! One step on one server, and the ways it can end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    address::Address,
    facts::ServerFacts,
    gtid::GtidSet,
    server::{Identity, ServerId},
};

/// The server a step is for: who it must be, and where it was last dialled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Quorate's name for it.
    pub server: ServerId,
    /// What it must say of itself on the very session the step runs over.
    pub identity: Identity,
    /// Where it is dialled.
    pub address: Address,
}

/// How a replica is pointed at a source. Credentials are by reference: the executor takes them from its node's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceOptions {
    /// The source's address.
    pub source: Address,
    /// Heartbeat period, milliseconds.
    pub heartbeat_ms: u64,
    /// Connect retry, seconds.
    pub connect_retry_s: u64,
    /// MariaDB: `gtid_slave_pos` must be set first (a former primary has none, or a stale one), to what the server holds by then. This
    /// is what it held when it was judged.
    pub gtid_slave_pos: Option<String>,
}

/// One action on one server. Each is idempotent: run again after it was done, it finds that and says done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop the receiver of `channel`, so that it acknowledges nothing more. Starts a stopped MariaDB applier first
    /// where relay log is unapplied (stopping the receiver last but one deletes it). Ends done with the sets read
    /// *after* the stop.
    StopReceiver {
        /// Channel name.
        channel: String,
    },
    /// Start the receiver (undo of `StopReceiver`).
    StartReceiver {
        /// Channel name.
        channel: String,
    },
    /// Stop the receiver and start it at once, as a witness. Refused where it does not run, the applier stands, or (MariaDB)
    /// received transactions are unapplied.
    RestartReceiver {
        /// Channel name.
        channel: String,
    },
    /// Read the server's facts anew.
    ReadFacts,
    /// Make it refuse client writes, however it is blocked; kills sessions that wait (design §5, recipe per flavour).
    Fence,
    /// Undo a fence: writable again, semi-sync and `offline_mode` as they were. Refused where it is read-only and lacks a
    /// part of `must_hold`; one that a person opened is left open.
    Unfence {
        /// Semi-sync source must be on again, with this many acknowledgements.
        semi_sync_acks: Option<u32>,
        /// What it wrote itself, as far as anybody saw. One that lost a part of that (a power failure without
        /// `sync_binlog=1`) would give the lost numbers to other transactions.
        must_hold: GtidSet,
    },
    /// Wait until everything received on `channel` is applied and contains `until`; starts the applier if it stands.
    Drain {
        /// Channel name.
        channel: String,
        /// What must be applied.
        until: GtidSet,
    },
    /// Forget the source: stop both threads and reset the channel, after the relay log was proven applied up to `until`.
    Detach {
        /// Channel name.
        channel: String,
        /// What must be applied before anything is reset.
        until: GtidSet,
    },
    /// Point the server at a source by GTID and start both threads; read-only first. Done when the receiver is
    /// connected (or, with `wait` false, when the statements were accepted).
    Point {
        /// Channel name.
        channel: String,
        /// Full channel options.
        options: SourceOptions,
        /// Semi-sync replica side on or off; `None` leaves it.
        semi_sync_replica: Option<bool>,
        /// Whether to wait for the receiver to be connected.
        wait: bool,
    },
    /// Switch the semi-sync source on, time-out at its maximum, wait-without-replica on.
    EnableSemiSyncSource {
        /// Acknowledgements a commit waits for.
        acks: u32,
    },
    /// Switch the semi-sync source off. Never on a server that may still hold waiting commits.
    DisableSemiSyncSource,
    /// Switch `read_only` and `super_read_only` off.
    MakeWritable {
        /// What it must hold, or it is refused: it may have lost it in a power failure since it was drained.
        must_hold: GtidSet,
    },
    /// Switch `super_read_only` / `read_only` on, giving up after `lock_wait_s`; kills nobody.
    MakeReadOnly {
        /// Bound of the wait for running statements, seconds.
        lock_wait_s: u64,
    },
    /// Prove that writes work: a row in Quorate's own schema, keyed by recovery.
    VerifyWrite {
        /// Recovery or operation the row names.
        recovery: String,
        /// Primary epoch the row names.
        epoch: u64,
    },
    /// List client sessions whose statement or transaction is older than `older_than_ms`, and table locks held.
    ListBlockers {
        /// Milliseconds.
        older_than_ms: u64,
    },
    /// Kill client sessions that hold transactions open (never Quorate's own, never replication).
    KillWriters,
    /// Kill executor sessions of other nodes on this server and see them gone.
    KillPredecessors,
}

impl Action {
    /// Short name, as records and pause points use it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StopReceiver { .. } => "stop_receiver",
            Self::StartReceiver { .. } => "start_receiver",
            Self::RestartReceiver { .. } => "restart_receiver",
            Self::ReadFacts => "read_facts",
            Self::Fence => "fence",
            Self::Unfence { .. } => "unfence",
            Self::Drain { .. } => "drain",
            Self::Detach { .. } => "detach",
            Self::Point { .. } => "point",
            Self::EnableSemiSyncSource { .. } => "enable_semi_sync_source",
            Self::DisableSemiSyncSource => "disable_semi_sync_source",
            Self::MakeWritable { .. } => "make_writable",
            Self::MakeReadOnly { .. } => "make_read_only",
            Self::VerifyWrite { .. } => "verify_write",
            Self::ListBlockers { .. } => "list_blockers",
            Self::KillWriters => "kill_writers",
            Self::KillPredecessors => "kill_predecessors",
        }
    }

    /// Whether it can change the server (P1): everything but reading.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::ReadFacts | Self::ListBlockers { .. })
    }
}

/// One action on one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// On whom.
    pub target: Target,
    /// What.
    pub action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action.name(), self.target.address)
    }
}

/// A client session that stands in the way of a switchover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocker {
    /// Connection id.
    pub id: u64,
    /// Account.
    pub user: String,
    /// Where it comes from.
    pub host: String,
    /// How long its statement or transaction has run, milliseconds.
    pub for_ms: u64,
    /// What it does, cut to 200 characters; literals are not removed by the server, so it is shown to operators only.
    pub statement: String,
    /// `statement`, `transaction` or `table lock`.
    pub kind: String,
}

/// What a finished step has to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Facts read at its end, on the same session, where the action reads them.
    pub facts: Option<Box<ServerFacts>>,
    /// Sessions found by `ListBlockers`.
    pub blockers: Vec<Blocker>,
    /// Sessions that were killed.
    pub killed: u32,
    /// One sentence for the record; never a secret.
    pub note: String,
}

/// How a step ended. A time-out is unknown: the statement may still land.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// Seen done, on the same session.
    Done(StepReport),
    /// The server, or a check before the first statement, said no; nothing was changed by this step.
    Refused {
        /// Why, with the server's own words.
        why: String,
    },
    /// Nobody knows: time-out, lost connection. It may still land.
    Unknown {
        /// What was last seen.
        why: String,
    },
}

impl StepEnd {
    /// Done, and only done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The facts a done step read.
    pub fn facts(&self) -> Option<&ServerFacts> {
        match self {
            Self::Done(report) => report.facts.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for StepEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(report) if report.note.is_empty() => f.write_str("done"),
            Self::Done(report) => write!(f, "done: {}", report.note),
            Self::Refused { why } => write!(f, "refused: {why}"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}
