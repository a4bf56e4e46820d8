//! The replica's side of replication: one channel with its receiver, its relay log and its applier.

use std::{collections::VecDeque, sync::Arc};

use quorate::model::gtid::GtidSet;

use super::{log::Txn, statement::ChangeSource};

/// A replication channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name, `""` for the default one.
    pub name: String,
    /// Where from and how.
    pub options: ChangeSource,
    /// Configured delay, milliseconds.
    pub delay_ms: u64,
    /// The source as last seen: `server_uuid` and `server_id`.
    pub seen: Option<(Option<String>, u32)>,
    /// The receiver.
    pub receiver: Receiver,
    /// Its last error.
    pub receiver_error: Option<(u32, String)>,
    /// Whether the applier runs.
    pub applier_running: bool,
    /// Its last error.
    pub applier_error: Option<(u32, String)>,
    /// Received and not applied, each with when it came.
    pub relay: VecDeque<(u64, Arc<Txn>)>,
    /// MySQL: `Retrieved_Gtid_Set`. MariaDB: `Gtid_IO_Pos`.
    pub received: GtidSet,
    /// When the transaction at the head of the relay log will have been applied.
    pub apply_at: Option<u64>,
    /// Bytes read, as entries of the source's history.
    pub read: usize,
    /// The same of what was applied.
    pub applied: usize,
    /// Whether the receiver was told to be a semi-sync one when it connected.
    pub semi_sync: bool,
    /// The quiet side of the stream.
    pub flow: Flow,
}

/// The receiver thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// Not running.
    Stopped,
    /// It will dial then.
    Waiting(u64),
    /// It dials, over this stream, until then.
    Dialling(u64, u64),
    /// Connected over this stream.
    Running(u64),
}

impl Receiver {
    /// The stream it has.
    pub fn stream(self) -> Option<u64> {
        match self {
            Self::Dialling(stream, _) | Self::Running(stream) => Some(stream),
            _ => None,
        }
    }
}

/// Heartbeats of a stream, counted when somebody asks. While the flow is on, one comes each period after the last
/// event, and nothing needs to happen for it.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// Whether heartbeats arrive as things are.
    pub on: bool,
    /// Period, milliseconds.
    pub period_ms: u64,
    /// When the next heartbeat arrives.
    pub next_ms: u64,
    /// Heartbeats received since the receiver started.
    pub count: u64,
    /// When the last one came.
    pub last_ms: Option<u64>,
    /// When anything came last.
    pub heard_ms: u64,
}

impl Flow {
    /// A fresh connection.
    pub fn connected(&mut self, now_ms: u64, period_ms: u64) {
        self.period_ms = period_ms;
        self.heard(now_ms);
    }

    /// An event came: the source's clock for heartbeats begins anew.
    pub fn heard(&mut self, now_ms: u64) {
        self.settle(now_ms);
        self.heard_ms = now_ms;
        self.next_ms = now_ms + self.period_ms;
    }

    /// A heartbeat came.
    pub fn beat(&mut self, now_ms: u64) {
        self.heard(now_ms);
        self.count += 1;
        self.last_ms = Some(now_ms);
    }

    /// Counts the heartbeats until now.
    pub fn settle(&mut self, now_ms: u64) {
        if !self.on || self.period_ms == 0 || now_ms < self.next_ms {
            return;
        }
        let beats = 1 + (now_ms - self.next_ms) / self.period_ms;
        self.count += beats;
        let last = self.next_ms + (beats - 1) * self.period_ms;
        self.last_ms = Some(last);
        self.heard_ms = last;
        self.next_ms = last + self.period_ms;
    }
}

impl Channel {
    /// A channel that CHANGE made.
    pub fn new(name: &str, options: ChangeSource, nothing: GtidSet) -> Self {
        Self {
            name: name.to_owned(),
            options,
            delay_ms: 0,
            seen: None,
            receiver: Receiver::Stopped,
            receiver_error: None,
            applier_running: false,
            applier_error: None,
            relay: VecDeque::new(),
            received: nothing,
            apply_at: None,
            read: 0,
            applied: 0,
            semi_sync: false,
            flow: Flow::default(),
        }
    }

    /// Both threads stand.
    pub fn stands(&self) -> bool {
        self.receiver == Receiver::Stopped && !self.applier_running
    }

    /// Throws the relay log away: what was received and not applied is gone from this server.
    pub fn discard_relay(&mut self, received: GtidSet) {
        self.relay.clear();
        self.apply_at = None;
        self.received = received;
        self.read = self.applied;
    }
}
