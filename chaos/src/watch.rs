//! Looks at every server each 5 ms, past firewalls: who accepts writes, and since when.

use crate::{depth::Depth, gather::general_log::stamped, server::Server, topology::Topology, wall};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_millis(5);

/// What one server was seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Ordinary accounts can write.
    Writable,
    /// They cannot.
    ReadOnly,
    /// It does not answer.
    Silent,
}

/// A change of what was seen.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which server.
    pub server: usize,
    /// Its new state.
    pub seen: Seen,
    /// When it was first seen so.
    pub at: Instant,
}

/// Running pollers. Dropping it ends them.
pub struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Starts looking.
    pub fn start(topology: &Topology, depth: Depth) -> Watch {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for server in &topology.servers {
            tasks.spawn(look(server.clone(), changes.clone(), depth));
        }
        Watch { changes, _tasks: tasks }
    }

    /// Every change so far, the first look included.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When another server than `not` first became writable after `since`.
    pub fn first_writable_elsewhere(&self, not: usize, since: Instant) -> Option<Change> {
        self.changes().into_iter().find(|c| c.server != not && c.seen == Seen::Writable && c.at >= since)
    }

    /// From when on, not before `since`, this server answered: at once if it already did.
    pub fn greets_since(&self, server: usize, since: Instant) -> Option<Instant> {
        let changes: Vec<Change> = self.changes().into_iter().filter(|c| c.server == server).collect();
        let before = changes.iter().rev().find(|c| c.at < since);
        if before.is_some_and(|c| c.seen != Seen::Silent) {
            return Some(since);
        }
        changes.iter().find(|c| c.at >= since && c.seen != Seen::Silent).map(|c| c.at)
    }

    /// When this server was first seen in that state after `since`.
    pub fn first(&self, server: usize, seen: Seen, since: Instant) -> Option<Instant> {
        self.changes()
            .into_iter()
            .find(|c| c.server == server && c.seen == seen && c.at >= since)
            .map(|c| c.at)
    }
}

async fn look(server: Arc<Server>, changes: Arc<Mutex<Vec<Change>>>, depth: Depth) {
    let query = server.flavor().is_read_only();
    let mut db = server.root(Duration::from_millis(250));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    loop {
        ticks.tick().await;
        // In a general log these looks date what stands between them.
        let dated = match depth {
            Depth::Full => stamped(query, wall::now()),
            Depth::Light => query.to_owned(),
        };
        let seen = match db.value(&dated).await {
            Ok(Some(value)) if value == "0" => Seen::Writable,
            Ok(_) => Seen::ReadOnly,
            Err(_) => Seen::Silent,
        };
        if last != Some(seen) {
            last = Some(seen);
            let change = Change { server: server.number, seen, at: Instant::now() };
            changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        }
    }
}
