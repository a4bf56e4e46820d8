//! A node's process: its clocks, and its tasks, which a pause holds and a kill drops.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use quorate::server::ports::Host;
use tokio::sync::{oneshot, watch};

use super::{clock::Clock, told::Told, world::POISON};

const RUNS: u8 = 0;
const PAUSED: u8 = 1;
const DEAD: u8 = 2;

/// The tasks of one process.
pub struct Tasks {
    clock: Clock,
    state: AtomicU8,
    wakers: Mutex<Vec<Option<Waker>>>,
    /// Dropped when it is killed: those outside hear so.
    served: Mutex<Vec<oneshot::Sender<()>>>,
    /// How often a task was polled, for profiling.
    pub polls: AtomicU64,
}

impl Tasks {
    /// Of a process that runs.
    pub fn new(clock: Clock) -> Self {
        let (state, wakers, polls) = (AtomicU8::new(RUNS), Mutex::default(), AtomicU64::new(0));
        Self { clock, state, wakers, served: Mutex::default(), polls }
    }

    /// What is to be spawned in place of a task, at once.
    pub fn task(self: &Arc<Self>, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.clock.stir();
        Box::pin(Task { tasks: self.clone(), bell: None, inner: Some(task) })
    }

    /// Nothing is polled from now on.
    pub fn pause(&self) {
        self.state.store(PAUSED, Relaxed);
    }

    /// Goes on; whatever became ready meanwhile is polled now.
    pub fn resume(&self) {
        self.state.store(RUNS, Relaxed);
        self.wake();
    }

    /// Drops every task, whatever it is doing.
    pub fn kill(&self) {
        self.state.store(DEAD, Relaxed);
        self.wake();
        self.served.lock().expect(POISON).clear();
    }

    /// Something that somebody outside asks of this process, and waits for: what it ends with; `None` where the process is
    /// killed first. Then the connection is lost, and nothing of the process, not even its memory, is looked at again.
    pub async fn serve<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (lives, gone) = oneshot::channel();
        {
            let mut served = self.served.lock().expect(POISON);
            if self.state.load(Relaxed) == DEAD {
                return None;
            }
            served.retain(|other| !other.is_closed());
            served.push(lives);
        }
        tokio::select! {
            biased;
            _ = gone => None,
            end = work => Some(end),
        }
    }

    fn wake(&self) {
        for waker in self.wakers.lock().expect(POISON).iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// The task's bell, and its place among the others'. The runtime has one waker for a task.
    fn register(&self, waker: &Waker) -> (usize, Waker) {
        let mut wakers = self.wakers.lock().expect(POISON);
        let at = wakers.iter().position(Option::is_none).unwrap_or(wakers.len());
        if at == wakers.len() {
            wakers.push(None);
        }
        let bell = self.clock.bell(waker);
        wakers[at] = Some(bell.clone());
        (at, bell)
    }
}

/// One task of a process.
struct Task {
    tasks: Arc<Tasks>,
    bell: Option<(usize, Waker)>,
    inner: Option<BoxFuture<'static, ()>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let (_, bell) = this.bell.get_or_insert_with(|| this.tasks.register(context.waker()));
        match this.tasks.state.load(Relaxed) {
            PAUSED => return Poll::Pending,
            DEAD => {
                this.inner = None;
                return Poll::Ready(());
            }
            _ => {}
        }
        this.tasks.polls.fetch_add(1, Relaxed);
        let Some(inner) = this.inner.as_mut() else { return Poll::Ready(()) };
        let polled = inner.as_mut().poll(&mut Context::from_waker(bell));
        if polled.is_ready() {
            this.inner = None;
        }
        polled
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.inner = None;
        if let Some((at, _)) = self.bell {
            self.tasks.wakers.lock().expect(POISON)[at] = None;
        }
    }
}

/// The clocks of one process.
pub struct Clocks {
    true_time: Clock,
    began_ms: u64,
    /// Parts per million by which its monotonic clock is fast.
    drift: i64,
    /// Milliseconds that the machine was suspended: BOOTTIME goes on, MONOTONIC does not.
    suspended_ms: AtomicU64,
    boot_ms: u64,
    /// Wall clock less true time, milliseconds.
    wall_ms: AtomicI64,
}

impl Clocks {
    /// Of a process that starts now on a machine that has been up for `boot_ms`.
    pub fn new(true_time: Clock, drift: i64, boot_ms: u64, wall_ms: i64) -> Self {
        let (suspended_ms, wall_ms) = (AtomicU64::new(0), AtomicI64::new(wall_ms));
        let began_ms = true_time.now_ms();
        Self { true_time, began_ms, drift, suspended_ms, boot_ms, wall_ms }
    }

    fn elapsed_ms(&self) -> u64 {
        let true_ms = (self.true_time.now_ms() - self.began_ms) as i64;
        (true_ms + true_ms * self.drift / 1_000_000).max(0) as u64
    }

    /// The machine slept so long.
    pub fn suspended(&self, ms: u64) {
        self.suspended_ms.fetch_add(ms, Relaxed);
    }

    /// Somebody set the wall clock.
    pub fn set_wall(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Relaxed);
    }
}

/// [`Host`] of a simulated process.
pub struct SimHost {
    /// Its tasks.
    pub tasks: Arc<Tasks>,
    /// Its clocks.
    pub clocks: Arc<Clocks>,
    /// Its own pauses, as it notices them.
    pub pauses: Arc<Told<u64>>,
    names: (u64, u64, u64),
    named: AtomicU64,
}

impl SimHost {
    /// Of a process; `names`: seed, node and process, for names that nobody else has.
    pub fn new(
        tasks: Arc<Tasks>,
        clocks: Arc<Clocks>,
        pauses: Arc<Told<u64>>,
        names: (u64, u64, u64),
    ) -> Self {
        Self { tasks, clocks, pauses, names, named: AtomicU64::new(0) }
    }
}

/// Where true time begins, Unix milliseconds.
const EPOCH_MS: i64 = 1_790_000_000_000;

impl Host for SimHost {
    fn now_ms(&self) -> u64 {
        let elapsed_ms = self.clocks.elapsed_ms();
        1_000 + elapsed_ms - self.clocks.suspended_ms.load(Relaxed).min(elapsed_ms)
    }

    fn boottime_ms(&self) -> u64 {
        self.clocks.boot_ms + self.clocks.elapsed_ms()
    }

    fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.clocks.elapsed_ms() as i64 + self.clocks.wall_ms.load(Relaxed)).max(0) as u64
    }

    fn unique(&self) -> String {
        let (seed, node, boot) = self.names;
        let count = self.named.fetch_add(1, Relaxed);
        format!("{:08x}-{node:04x}-4{boot:03x}-8000-{count:012x}", seed as u32)
    }

    fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.clocks.true_time.sleep(pause))
    }

    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.tasks.task(task)
    }
}
