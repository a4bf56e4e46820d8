//! What is measured meanwhile: how another client is served, and what the node takes for it.

use super::wire::{Fate, Wire, framed};
use crate::process::Proc;
use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A call each.
const EVERY: Duration = Duration::from_millis(20);
/// One who is told that the node is overloaded tries again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// No call may take longer, its repetitions included.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What one stretch of time saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How long each answer took.
    pub took: Vec<Duration>,
    /// Calls that were refused first, because too much was asked at once.
    pub refused: u64,
    /// Calls without an answer in time, by the last fate.
    pub lost: Vec<String>,
    /// Largest resident memory, KiB.
    pub memory_kib: f64,
}

impl Seen {
    /// The largest of the given share of the answers, milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut took = self.took.clone();
        took.sort();
        let last = took.len().saturating_sub(1);
        took.get((share * last as f64) as usize).map_or(f64::NAN, |took| took.as_secs_f64() * 1_000.0)
    }
}

/// The other client and the look at memory. Dropping it ends both.
pub struct Meanwhile {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Meanwhile {
    /// Begins.
    pub fn begin(address: &str, process: Arc<Proc>) -> Meanwhile {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let calls = tokio::spawn(call(address.to_owned(), seen.clone()));
        let looks = tokio::spawn(look(process, seen.clone()));
        Meanwhile { seen, tasks: [calls, looks] }
    }

    /// What was seen since this was asked last.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *lock(&self.seen))
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(process: Arc<Proc>, seen: Arc<Mutex<Seen>>) {
    while let Ok(kib) = memory_kib(&process) {
        keep_largest(&seen, kib);
        sleep(LOOK_EVERY).await;
    }
}

fn keep_largest(seen: &Mutex<Seen>, kib: f64) {
    let mut seen = lock(seen);
    seen.memory_kib = seen.memory_kib.max(kib);
}

async fn call(address: String, seen: Arc<Mutex<Seen>>) {
    let mut wire = None;
    loop {
        let begun = Instant::now();
        let mut last = Fate::Closed;
        let answered = timeout(ANSWERED_WITHIN, answered(&address, &mut wire, &seen, &mut last)).await;
        let took = begun.elapsed();
        match answered {
            Ok(()) => lock(&seen).took.push(took),
            Err(_) => {
                wire = None;
                lock(&seen).lost.push(last.to_string());
            }
        }
        sleep(EVERY).await;
    }
}

/// Asks until there is an answer, as the error says.
async fn answered(address: &str, wire: &mut Option<Wire>, seen: &Mutex<Seen>, last: &mut Fate) {
    loop {
        if wire.as_ref().is_none_or(|wire| !wire.is_open()) {
            *wire = Wire::connect(address, 1 << 20).await.inspect_err(|fate| *last = *fate).ok();
        }
        if let Some(wire) = wire {
            *last = wire.call("/quorate.v1.Nodes/Status", framed(&[])).await;
            match *last {
                Fate::OK => return,
                Fate::OVERLOADED => lock(seen).refused += 1,
                _ => {}
            }
        }
        sleep(AGAIN).await;
    }
}

/// Resident memory of a process.
pub fn memory_kib(process: &Proc) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Seconds of processor time so far: of all its threads, and of the one that serves clients.
pub fn cpu_s(process: &Proc) -> Result<(f64, f64)> {
    let (mut all, mut of_clients) = (0.0, 0.0);
    for thread in std::fs::read_dir(format!("/proc/{}/task", process.pid()))? {
        let thread = thread?.path();
        // One that has ended meanwhile used nothing worth counting.
        let text = |file: &str| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let nanoseconds: f64 =
            text("schedstat").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        all += nanoseconds / 1e9;
        if text("comm").trim() == "clients" {
            of_clients += nanoseconds / 1e9;
        }
    }
    Ok((all, of_clients))
}
