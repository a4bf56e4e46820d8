//! One session on a server: what it runs, what that waits for, what it holds.

use std::collections::VecDeque;

use quorate::model::{gtid::GtidSet, server::Flavor};

use super::{
    spec::Account,
    statement::{Client, Reply, SessionNo, Statement, Ticket},
};

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Connection id.
    pub id: u64,
    /// As its client names it.
    pub no: SessionNo,
    /// Who.
    pub account: Account,
    /// Where from.
    pub host: String,
    /// Its client has gone. What it was sent before is still run.
    pub hung_up: bool,
    /// KILL CONNECTION was said; its client has been cut off, and it ends as soon as its statement can.
    pub killed: bool,
    /// Its statement was told to end with this error (KILL QUERY, `max_statement_time`).
    pub interrupted: Option<u16>,
    /// What has been sent and not begun.
    pub inbox: VecDeque<(Ticket, Vec<Statement>)>,
    /// What it runs.
    pub running: Option<Running>,
    /// User-level locks.
    pub marks: Vec<String>,
    /// `lock_wait_timeout`, milliseconds.
    pub lock_wait_ms: u64,
    /// `max_statement_time`, milliseconds; 0 for none.
    pub statement_ms: u64,
    /// LOCK TABLES.
    pub table_lock: bool,
    /// The open transaction.
    pub transaction: Option<Transaction>,
    /// When it last became idle or busy.
    pub since_ms: u64,
}

/// An open transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its number.
    pub number: u64,
    /// When it began.
    pub since_ms: u64,
    /// Rows it will write.
    pub rows: Vec<u64>,
}

/// A batch under way.
#[derive(Debug)]
pub struct Running {
    /// To be answered under this.
    pub ticket: Ticket,
    /// All of it.
    pub statements: Vec<Statement>,
    /// Answers of those that are done; their number is the place of the one that runs.
    pub replies: Vec<Reply>,
    /// When the one that runs began.
    pub began_ms: u64,
    /// What it waits for.
    pub wait: Option<Wait>,
}

/// What a statement waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wait {
    /// The time.
    Until(u64),
    /// The end of a long UPDATE, which then writes.
    Update(u64),
    /// Acknowledgements of this entry of the binlog, since then.
    Ack(usize, u64),
    /// The disk, at commit.
    Disk,
    /// A new write: a switch that is about to be thrown, or a table lock; until then.
    Writes(u64),
    /// `SET GLOBAL read_only` behind writers; until then.
    Switch(u64),
    /// Transactions, until then.
    Gtids(GtidSet, u64),
    /// A slow STOP REPLICA, until then.
    SlowStop(u64),
}

impl Wait {
    /// When time alone ends it.
    pub fn until(&self) -> Option<u64> {
        match self {
            Self::Until(at) | Self::Update(at) | Self::Writes(at) | Self::Switch(at) => Some(*at),
            Self::Gtids(_, at) | Self::SlowStop(at) => Some(*at),
            Self::Ack(..) | Self::Disk => None,
        }
    }

    /// Whether it is in the middle of a write: the global read lock must wait for it.
    pub fn holds_writes(&self) -> bool {
        matches!(self, Self::Update(_) | Self::Ack(..) | Self::Disk)
    }
}

impl Session {
    /// A fresh login.
    pub fn new(id: u64, no: SessionNo, account: Account, host: &str, now_ms: u64) -> Self {
        Self {
            id,
            no,
            account,
            host: host.to_owned(),
            hung_up: false,
            killed: false,
            interrupted: None,
            inbox: VecDeque::new(),
            running: None,
            marks: Vec::new(),
            // The servers' defaults are a year and a day.
            lock_wait_ms: 86_400_000,
            statement_ms: 0,
            table_lock: false,
            transaction: None,
            since_ms: now_ms,
        }
    }

    /// What it waits for.
    pub fn wait(&self) -> Option<&Wait> {
        self.running.as_ref()?.wait.as_ref()
    }

    /// The statement it runs.
    pub fn statement(&self) -> Option<&Statement> {
        let running = self.running.as_ref()?;
        running.statements.get(running.replies.len())
    }

    /// Whether what its client sends is still taken.
    pub fn takes_statements(&self) -> bool {
        !self.killed && !self.hung_up
    }

    /// Whether nothing keeps it.
    pub fn is_over(&self) -> bool {
        self.running.is_none() && (self.killed || (self.hung_up && self.inbox.is_empty()))
    }

    /// Whether anything may come of looking at it.
    pub fn has_work(&self) -> bool {
        self.running.is_some() || !self.inbox.is_empty() || self.is_over()
    }

    /// Whether others' writes, or the global read lock, must wait for it.
    pub fn blocks_switch(&self) -> bool {
        self.table_lock || self.wait().is_some_and(Wait::holds_writes)
    }

    /// Its line in the process list, with ages as the server tells them: MySQL the difference of two whole seconds;
    /// transactions of both began at a whole second, rounded down.
    pub fn listed(&self, flavor: Flavor, now_ms: u64) -> Client {
        let whole = |ms: u64| ms / 1000 * 1000;
        let in_commit = matches!(self.wait(), Some(Wait::Ack(..) | Wait::Disk));
        let transaction = match (&self.transaction, in_commit) {
            (Some(open), _) => Some((open.number, now_ms - whole(open.since_ms))),
            (None, true) => Some((self.id, now_ms - whole(self.since_ms))),
            _ => None,
        };
        Client {
            id: self.id,
            user: self.account.user().to_owned(),
            host: self.host.clone(),
            killed: self.killed,
            idle: self.running.is_none(),
            statement: self.statement().map(|s| format!("{s:?}")).unwrap_or_default(),
            in_state_ms: match flavor {
                Flavor::MySql => whole(now_ms) - whole(self.since_ms),
                Flavor::MariaDb => now_ms - self.since_ms,
            },
            transaction,
        }
    }
}
