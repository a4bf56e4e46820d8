//! The independent clients: each write is a row with a new id, and each acknowledgement is remembered.
//!
//! - The *quick* one writes every 5 ms to the server that acknowledged last. One task a server: when that one fails, every
//!   task tries its own until one says yes.
//! - With full evidence, two *roamers* beside it, each by itself: on to the next server whenever one fails.
//! - And a *stubborn* one for each server, which writes to it whatever happens, as a client that missed every failover.
//!   `pin` makes one of them as quick as the first.
//!
//! A write without an answer is unknown, never counted as acknowledged.

use crate::{depth::Depth, server::Server, topology::Topology};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Between two writes of the quick one.
const QUICK: Duration = Duration::from_millis(5);
/// Of a roamer.
const ROAMING: Duration = Duration::from_millis(25);
/// Of a stubborn one.
const STUBBORN: Duration = Duration::from_millis(50);
/// How many roam.
const ROAMERS: usize = 2;
/// After this a write or a connect counts as failed and its connection is dropped.
const PATIENCE: Duration = Duration::from_millis(250);

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// Unique row id.
    pub id: i64,
    /// Number of the server that acknowledged it.
    pub server: usize,
    /// When it was sent.
    pub sent: Instant,
    /// When the acknowledgement came.
    pub at: Instant,
}

/// Running clients. Dropping it ends their tasks.
pub struct Client {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    next_id: AtomicI64,
    /// Number of the server in use by the quick one; 0 while searching.
    current: AtomicUsize,
    /// Number of the server written to in any case; 0 for none.
    pinned: AtomicUsize,
    resting: AtomicBool,
    stop: AtomicBool,
}

impl Client {
    /// Starts writing.
    pub fn start(topology: &Topology, depth: Depth) -> Client {
        let shared = Arc::new(Shared {
            next_id: AtomicI64::new(1),
            current: AtomicUsize::new(1),
            ..Shared::default()
        });
        let mut tasks = JoinSet::new();
        for server in &topology.servers {
            tasks.spawn(quick(shared.clone(), server.clone()));
        }
        if depth == Depth::Full {
            for roamer in 0..ROAMERS {
                tasks.spawn(roam(shared.clone(), topology.servers.clone(), roamer));
            }
            for server in &topology.servers {
                tasks.spawn(insist(shared.clone(), server.clone()));
            }
        }
        Client { shared, tasks }
    }

    /// Every acknowledgement so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.shared.acks().clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.acks().len()
    }

    /// Whether no server takes writes just now, as far as it knows.
    pub fn is_searching(&self) -> bool {
        self.shared.current.load(Ordering::Relaxed) == 0
    }

    /// The first acknowledgement of a write sent after `since` by a server other than `not`.
    pub fn first_elsewhere(&self, not: usize, since: Instant) -> Option<Ack> {
        self.shared.acks().iter().find(|a| a.server != not && a.sent >= since).copied()
    }

    /// Keeps writing to this server whatever happens.
    pub fn pin(&self, server: usize) {
        self.shared.pinned.store(server, Ordering::Relaxed);
    }

    /// Writes nothing for a while, or goes on.
    pub fn rest(&self, resting: bool) {
        self.shared.resting.store(resting, Ordering::Relaxed);
    }

    /// Stops, waits for writes in flight, and gives all acknowledgements.
    pub async fn stop(mut self) -> Vec<Ack> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.acks()
    }
}

impl Shared {
    fn acks(&self) -> std::sync::MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    /// One write; whether it was acknowledged. The second column is the server's own time: MariaDB's binlog has no better.
    async fn write(&self, server: usize, db: &mut crate::sql::Db) -> bool {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let sql = format!(
            "INSERT INTO app.writes (id, at_ms) VALUES ({id}, CAST(UNIX_TIMESTAMP(SYSDATE(3))*1000 AS SIGNED))"
        );
        let acknowledged = db.exec(&sql).await.is_ok();
        if acknowledged {
            self.acks().push(Ack { id, server, sent, at: Instant::now() });
        }
        acknowledged
    }
}

async fn quick(shared: Arc<Shared>, server: Arc<Server>) {
    let me = server.number;
    let mut db = server.app(PATIENCE);
    // Logged in before anything is measured, as an application's pool would be.
    let _ = db.exec("SELECT 1").await;
    let mut ticks = ticks(QUICK);
    while !shared.is(&shared.stop) {
        ticks.tick().await;
        let current = shared.current.load(Ordering::Relaxed);
        let elsewhere = current != me && current != 0 && shared.pinned.load(Ordering::Relaxed) != me;
        if elsewhere || shared.is(&shared.resting) {
            continue;
        }
        let (from, to) = if shared.write(me, &mut db).await { (0, me) } else { (me, 0) };
        let _ = shared.current.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

async fn roam(shared: Arc<Shared>, servers: Vec<Arc<Server>>, start: usize) {
    let mut sessions: Vec<_> = servers.iter().map(|server| server.app(PATIENCE)).collect();
    let mut at = start % servers.len();
    let mut ticks = ticks(ROAMING);
    while !shared.is(&shared.stop) {
        ticks.tick().await;
        if !shared.is(&shared.resting) && !shared.write(servers[at].number, &mut sessions[at]).await {
            at = (at + 1) % servers.len();
        }
    }
}

async fn insist(shared: Arc<Shared>, server: Arc<Server>) {
    let mut db = server.app(PATIENCE);
    let mut ticks = ticks(STUBBORN);
    while !shared.is(&shared.stop) {
        ticks.tick().await;
        if !shared.is(&shared.resting) {
            shared.write(server.number, &mut db).await;
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The longest time between two acknowledgements, from `since` on.
pub fn longest_gap(acks: &[Ack], since: Instant) -> Option<Duration> {
    let mut times: Vec<Instant> = acks.iter().map(|a| a.at).collect();
    times.sort();
    let from = times.iter().rposition(|t| *t <= since).unwrap_or(0);
    times.get(from..)?.windows(2).map(|pair| pair[1] - pair[0]).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(origin: Instant, server: usize, ms: u64) -> Ack {
        let at = origin + Duration::from_millis(ms);
        Ack { id: ms as i64, server, sent: at, at }
    }

    #[test]
    fn the_longest_gap_spans_the_moment_it_began() {
        let t = Instant::now();
        let acks = [ack(t, 1, 0), ack(t, 1, 900), ack(t, 1, 1000), ack(t, 2, 1080), ack(t, 2, 1085)];
        assert_eq!(longest_gap(&acks, t + Duration::from_millis(1010)), Some(Duration::from_millis(80)));
    }
}
