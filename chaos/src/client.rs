//! The independent client: writes a new row every 5 ms to whoever is writable and remembers each acknowledgement.
//!
//! One task a server. The server that acknowledged last is the *current* one; when it fails, every task tries its own
//! server until one says yes. A pinned server is written to all the time, as a client that missed the failover would.
//! A write without an answer is unknown, never counted as acknowledged.

use crate::{server::Server, topology::Topology};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Between two writes.
const EVERY: Duration = Duration::from_millis(5);
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

/// A running client. Dropping it ends its tasks.
pub struct Client {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    next_id: AtomicI64,
    /// Number of the server in use; 0 while searching.
    current: AtomicUsize,
    /// Number of the server written to in any case; 0 for none.
    pinned: AtomicUsize,
    resting: AtomicBool,
    stop: AtomicBool,
}

impl Client {
    /// Starts writing.
    pub fn start(topology: &Topology) -> Client {
        let shared = Arc::new(Shared {
            next_id: AtomicI64::new(1),
            current: AtomicUsize::new(1),
            ..Shared::default()
        });
        let mut tasks = JoinSet::new();
        for server in &topology.servers {
            tasks.spawn(write(shared.clone(), server.clone()));
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
}

async fn write(shared: Arc<Shared>, server: Arc<Server>) {
    let me = server.number;
    let mut db = server.app(PATIENCE);
    // Logged in before anything is measured, as an application's pool would be.
    let _ = db.exec("SELECT 1").await;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        if shared.resting.load(Ordering::Relaxed) {
            continue;
        }
        let current = shared.current.load(Ordering::Relaxed);
        if current != me && current != 0 && shared.pinned.load(Ordering::Relaxed) != me {
            continue;
        }
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        match db.exec(&format!("INSERT INTO app.writes (id, at_ms) VALUES ({id}, {})", wall_ms())).await {
            Ok(()) => {
                shared.acks().push(Ack { id, server: me, sent, at: Instant::now() });
                let _ = shared.current.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed);
            }
            Err(_) => {
                let _ = shared.current.compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }
}

/// Wall time, to compare with the nodes' event times.
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The longest time between two acknowledgements, from `since` on.
pub fn longest_gap(acks: &[Ack], since: Instant) -> Option<Duration> {
    let mut times: Vec<Instant> = acks.iter().map(|a| a.at).collect();
    times.sort();
    let from = times.iter().rposition(|t| *t <= since).unwrap_or(0);
    times.get(from..)?.windows(2).map(|pair| pair[1] - pair[0]).max()
}

/// Runs of acknowledgements of one server that follow each other closely, as (first, last).
fn runs(acks: &[Ack], server: usize) -> Vec<(Instant, Instant)> {
    let mut times: Vec<Instant> = acks.iter().filter(|a| a.server == server).map(|a| a.at).collect();
    times.sort();
    let mut runs: Vec<(Instant, Instant)> = Vec::new();
    for t in times {
        match runs.last_mut() {
            Some((_, last)) if t - *last <= PATIENCE => *last = t,
            _ => runs.push((t, t)),
        }
    }
    runs
}

/// How long two servers acknowledged writes at the same time; at least 1 ms if they did at all.
pub fn double_primary(acks: &[Ack], servers: usize) -> Duration {
    let mut total = Duration::ZERO;
    for a in 1..=servers {
        for b in a + 1..=servers {
            for (from_a, to_a) in runs(acks, a) {
                for (from_b, to_b) in runs(acks, b) {
                    let (from, to) = (from_a.max(from_b), to_a.min(to_b));
                    if from <= to {
                        total += (to - from).max(Duration::from_millis(1));
                    }
                }
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(origin: Instant, server: usize, ms: u64) -> Ack {
        let at = origin + Duration::from_millis(ms);
        Ack { id: ms as i64, server, sent: at, at }
    }

    #[test]
    fn overlap_counts_only_while_both_acknowledge() {
        let t = Instant::now();
        let handover = [ack(t, 1, 0), ack(t, 1, 5), ack(t, 2, 10), ack(t, 2, 15)];
        assert_eq!(double_primary(&handover, 2), Duration::ZERO);
        // The old primary returns at 1000 and acknowledges until 1020, while the new one goes on.
        let mut returned: Vec<Ack> = (0..400).map(|i| ack(t, 2, 10 + i * 5)).collect();
        returned.extend([ack(t, 1, 0), ack(t, 1, 1000), ack(t, 1, 1020)]);
        assert_eq!(double_primary(&returned, 2), Duration::from_millis(20));
    }

    #[test]
    fn the_longest_gap_spans_the_moment_it_began() {
        let t = Instant::now();
        let acks = [ack(t, 1, 0), ack(t, 1, 900), ack(t, 1, 1000), ack(t, 2, 1080), ack(t, 2, 1085)];
        assert_eq!(longest_gap(&acks, t + Duration::from_millis(1010)), Some(Duration::from_millis(80)));
    }
}
