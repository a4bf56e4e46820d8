//! What is sent to a server and what comes back: statements as values, in place of SQL text.

use std::sync::Arc;

use super::log::ProofPart;
use quorate::model::{
    address::Address,
    facts::ServerFacts,
    gtid::GtidSet,
    server::{Flavor, Identity, Version},
};

/// Error numbers that the servers give; those that the executor tells apart.
pub mod code {
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: u16 = 1040;
    /// Server shutdown in progress.
    pub const SHUTTING_DOWN: u16 = 1053;
    /// Duplicate key.
    pub const DUPLICATE: u16 = 1062;
    /// Unknown thread id.
    pub const NO_SUCH_THREAD: u16 = 1094;
    /// Not the owner of the thread.
    pub const NOT_OWNER: u16 = 1095;
    /// No such table (the proof's schema is not there).
    pub const NO_SUCH_TABLE: u16 = 1146;
    /// Unknown system variable.
    pub const UNKNOWN_VARIABLE: u16 = 1193;
    /// There is no such connection (MariaDB: the server is no replica).
    pub const NO_CONNECTION: u16 = 1617;
    /// Lock wait timeout exceeded.
    pub const LOCK_WAIT_OVER: u16 = 1205;
    /// The replica has to be configured first.
    pub const NOT_CONFIGURED: u16 = 1200;
    /// Its threads run; STOP first.
    pub const MUST_STOP: u16 = 1198;
    /// The server runs with --read-only.
    pub const READ_ONLY: u16 = 1290;
    /// The source's fatal answer to a receiver.
    pub const SOURCE_FATAL: u16 = 1236;
    /// Query execution was interrupted.
    pub const INTERRUPTED: u16 = 1317;
    /// BIGINT UNSIGNED out of range: what guards raise.
    pub const GUARD: u16 = 1690;
    /// `gtid_slave_pos` conflicts with the binlog (MariaDB).
    pub const POSITION_CONFLICT: u16 = 1947;
    /// Out-of-order sequence number under strict mode (MariaDB).
    pub const OUT_OF_ORDER: u16 = 1950;
    /// `max_statement_time` exceeded (MariaDB).
    pub const STATEMENT_TIME: u16 = 1969;
    /// The server is in offline mode.
    pub const OFFLINE: u16 = 3032;
    /// The channel does not exist (MySQL).
    pub const NO_CHANNEL: u16 = 3074;
    /// Threads of the channel run; STOP first (MySQL).
    pub const CHANNEL_RUNS: u16 = 3081;
    /// The client's library: cannot connect.
    pub const CANNOT_CONNECT: u32 = 2003;
    /// The client's library: lost connection.
    pub const LOST: u32 = 2013;
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT 1`.
    Ping,
    /// Sleeps on the server, milliseconds.
    Sleep(u64),
    /// `SET SESSION lock_wait_timeout`, seconds.
    LockWaitTimeout(u64),
    /// `SET SESSION max_statement_time`, milliseconds (MariaDB); 0 for none.
    MaxStatementTime(u64),
    /// Raises an error on any other server.
    CheckIdentity(Identity),
    /// Raises an error while a commit waits for an acknowledgement.
    GuardNoWaiting,
    /// Which optional variables there are.
    AskProfile,
    /// The facts as the real reader reads them; `true` for a full inventory.
    ReadFacts(bool),

    /// `GET_LOCK(mark, 0)`, or who holds it.
    TakeMark(String),
    /// `IS_USED_LOCK` of each.
    MarkHolders(Vec<String>),
    /// The client sessions of the process list.
    ListClients,
    /// Sessions that hold tables by LOCK TABLES, where the server shows them.
    ListTableLocks,
    /// `KILL CONNECTION`.
    KillConnection(u64),
    /// `KILL QUERY`.
    KillQuery(u64),

    /// `SET GLOBAL read_only`.
    ReadOnly(bool),
    /// `SET GLOBAL super_read_only` (MySQL).
    SuperReadOnly(bool),
    /// `SET GLOBAL offline_mode` (MySQL).
    OfflineMode(bool),
    /// `SET GLOBAL rpl_semi_sync_source_enabled`.
    SemiSyncSource(bool),
    /// `SET GLOBAL rpl_semi_sync_source_timeout`, milliseconds.
    SemiSyncTimeout(u64),
    /// `SET GLOBAL rpl_semi_sync_source_wait_no_replica`.
    SemiSyncWaitNoReplica(bool),
    /// `SET GLOBAL rpl_semi_sync_source_wait_for_replica_count` (MySQL).
    SemiSyncWaitFor(u32),
    /// `SET GLOBAL rpl_semi_sync_replica_enabled`.
    SemiSyncReplica(bool),

    /// `START REPLICA`.
    Start(String, Thread),
    /// `STOP REPLICA`.
    Stop(String, Thread),
    /// `CHANGE REPLICATION SOURCE TO`.
    ChangeSource(String, ChangeSource),
    /// `RESET REPLICA ALL`.
    ResetAll(String),
    /// `SET GLOBAL gtid_slave_pos` (MariaDB).
    GtidSlavePos(String),
    /// `WAIT_FOR_EXECUTED_GTID_SET` / `MASTER_GTID_WAIT`: the set and milliseconds.
    WaitForGtids(GtidSet, u64),

    /// A client's row, committed on its own (or in the transaction that is open).
    Insert(u64),
    /// A row written with `sql_log_bin=0`: it is in no binlog and has no GTID.
    InsertUnlogged(u64),
    /// An UPDATE that runs so long, milliseconds, and is then committed.
    LongUpdate(u64),
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `LOCK TABLES ... WRITE` on the clients' table.
    LockTables,
    /// `UNLOCK TABLES`.
    UnlockTables,
    /// `CREATE USER`: while it waits for an acknowledgement nobody can log in.
    CreateUser,
    /// Makes a part of the schema of the proof by a write.
    CreateProof(ProofPart),
    /// The proof by a write: recovery and epoch.
    WriteProof(String, u64),
}

/// Which of a channel's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// `IO_THREAD`.
    Receiver,
    /// `SQL_THREAD`.
    Applier,
    /// Both.
    Both,
}

impl Thread {
    /// Whether the receiver is meant.
    pub fn receiver(self) -> bool {
        self != Self::Applier
    }

    /// Whether the applier is meant.
    pub fn applier(self) -> bool {
        self != Self::Receiver
    }
}

/// The options of CHANGE that matter here; positioning is by GTID always.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSource {
    /// Where from.
    pub source: Address,
    /// Heartbeat period, milliseconds.
    pub heartbeat_ms: u64,
    /// Pause between attempts to connect, seconds.
    pub connect_retry_s: u64,
    /// Whether the auto-position option is in the statement (MySQL refuses it while the applier runs).
    pub sets_auto_position: bool,
}

/// An error of the server to one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// Its number.
    pub code: u16,
    /// The server's words.
    pub message: String,
}

impl SqlError {
    /// An error.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error {}: {}", self.code, self.message)
    }
}

/// What one statement brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// OK, without rows.
    Ok,
    /// Facts.
    Facts(Arc<ServerFacts>),
    /// To [`Statement::AskProfile`].
    Profile(Profile),
    /// To [`Statement::TakeMark`]: `None` when it was taken, else who holds it (0: he ended just then).
    Mark(Option<u64>),
    /// To [`Statement::MarkHolders`].
    Holders(Vec<u64>),
    /// To [`Statement::ListClients`].
    Clients(Vec<Client>),
}

/// What a server can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Dialect.
    pub flavor: Flavor,
    /// Version.
    pub version: Version,
    /// Semi-sync plug-ins are loaded.
    pub semi_sync: bool,
}

/// A client session in the process list.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Connection id.
    pub id: u64,
    /// Account.
    pub user: String,
    /// Where it comes from.
    pub host: String,
    /// The server is killing it.
    pub killed: bool,
    /// It waits for its client.
    pub idle: bool,
    /// Its statement.
    pub statement: String,
    /// How long its statement has run, or it has been idle, milliseconds.
    pub in_state_ms: u64,
    /// Its open transaction: number and age in milliseconds.
    pub transaction: Option<(u64, u64)>,
}

/// The answer to one round trip.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of the statements that were done, in order.
    pub replies: Vec<Reply>,
    /// The error to the one after those; later statements were not begun.
    pub error: Option<SqlError>,
}

/// A session of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u64);

/// One round trip of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a server sent to a client. Whether it arrives is the network's affair.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// An answer.
    Answered {
        /// The session.
        session: SessionNo,
        /// To what.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// The server closed the connection, or its process ended.
    Closed {
        /// The session.
        session: SessionNo,
        /// In words.
        why: String,
    },
}

/// What came of dialling a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialled {
    /// Logged in.
    Greeted(SessionNo),
    /// Nothing listens.
    Refused,
    /// No word comes: the process is frozen, the machine is dead, or logins hang.
    Silent,
    /// It has no connection left.
    TooManyConnections,
    /// It is going down.
    ShuttingDown,
    /// `offline_mode`, and the account may not enter then.
    OfflineMode,
}
