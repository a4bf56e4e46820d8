//! True time of a run, and who waits for it.
//!
//! Tier A turns the clock itself: its tasks wait here and nowhere else (the runtime has no timers), so that the world
//! knows the next moment at which anything happens and goes there at once; and each task is woken by a bell, so that it
//! knows when none has anything to do. Tier B's Raft waits by tokio's timers, and so
//! does everything there: tokio's paused clock goes on by itself when nothing is left to do.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{real::Tier, world::POISON};

/// The clock of a run.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    began: Instant,
    tier: Tier,
    /// Tier A's time, milliseconds.
    now_ms: AtomicU64,
    waiting: Mutex<Waiting>,
    /// A task may have something to do.
    stirred: AtomicBool,
}

/// Those who wait, by the moment and then by when they began to.
#[derive(Default)]
struct Waiting {
    began: u64,
    wakers: BTreeMap<(u64, u64), Waker>,
}

impl Clock {
    /// Time begins now.
    pub fn new(tier: Tier) -> Self {
        let (now_ms, waiting, stirred) = (AtomicU64::new(0), Mutex::default(), AtomicBool::new(true));
        Self(Arc::new(Inner { began: Instant::now(), tier, now_ms, waiting, stirred }))
    }

    /// A runtime for it.
    pub fn runtime(tier: Tier) -> tokio::runtime::Runtime {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        match tier {
            // The world gets its turn when no task is left that can go on, and not before.
            Tier::A => runtime.event_interval(u32::MAX),
            Tier::B => runtime.enable_time(),
        };
        runtime.start_paused(true).build().expect("a runtime with a clock only")
    }

    /// Whether the world turns it.
    pub fn is_turned(&self) -> bool {
        self.0.tier == Tier::A
    }

    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        match self.is_turned() {
            true => self.0.now_ms.load(Relaxed),
            false => self.0.began.elapsed().as_millis() as u64,
        }
    }

    /// So many milliseconds after the run began.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.0.began + Duration::from_millis(at_ms)
    }

    /// When the first of those who wait here is to be woken, milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        self.0.waiting.lock().expect(POISON).wakers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Goes on to `at_ms`, and wakes who has waited for it.
    pub fn turn_to(&self, at_ms: u64) {
        let past = self.0.now_ms.swap(at_ms, Relaxed);
        // Its first poll turns tokio's clock; the rest would only let others go on.
        let advance = pin!(tokio::time::advance(Duration::from_millis(at_ms - past)));
        let _ = advance.poll(&mut Context::from_waker(Waker::noop()));
        while let Some(waker) = self.0.take_due(at_ms) {
            waker.wake();
        }
    }

    /// A task has something to do, or is new.
    pub fn stir(&self) {
        self.0.stirred.store(true, Relaxed);
    }

    /// Whether any task has, since this was last asked.
    pub fn take_stirred(&self) -> bool {
        self.0.stirred.swap(false, Relaxed)
    }

    /// `waker`, which tells this clock, too.
    pub fn bell(&self, waker: &Waker) -> Waker {
        Waker::from(Arc::new(Bell { clock: self.clone(), waker: waker.clone() }))
    }

    /// Ends after `pause`.
    pub fn sleep(&self, pause: Duration) -> Sleep {
        self.sleep_until(Instant::now() + pause)
    }

    /// Ends at `until`.
    pub fn sleep_until(&self, until: Instant) -> Sleep {
        match self.is_turned() {
            true => {
                let at_ms = (until - self.0.began).as_micros().div_ceil(1_000) as u64;
                Sleep::Here { clock: self.clone(), at_ms, place: None }
            }
            false => Sleep::ByTokio(Box::pin(tokio::time::sleep_until(until))),
        }
    }

    /// What `work` ends with, where that is no later than `until`.
    pub async fn by<T>(&self, until: Instant, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            end = work => Some(end),
            () = self.sleep_until(until) => None,
        }
    }
}

impl Inner {
    fn take_due(&self, now_ms: u64) -> Option<Waker> {
        let mut waiting = self.waiting.lock().expect(POISON);
        let first = waiting.wakers.first_entry().filter(|first| first.key().0 <= now_ms)?;
        Some(first.remove())
    }
}

/// Wakes a task, and says that one was woken.
struct Bell {
    clock: Clock,
    waker: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clock.stir();
        self.waker.wake_by_ref();
    }
}

/// A wait for a moment.
pub enum Sleep {
    /// Of a clock that the world turns.
    Here {
        /// Which.
        clock: Clock,
        /// The moment.
        at_ms: u64,
        /// Its place among those who wait, once it does.
        place: Option<u64>,
    },
    /// Of tokio's.
    ByTokio(Pin<Box<tokio::time::Sleep>>),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (clock, at_ms, place) = match self.get_mut() {
            Self::Here { clock, at_ms, place } => (clock, *at_ms, place),
            Self::ByTokio(sleep) => return sleep.as_mut().poll(context),
        };
        if clock.now_ms() >= at_ms {
            return Poll::Ready(());
        }
        let mut waiting = clock.0.waiting.lock().expect(POISON);
        let order = *place.get_or_insert_with(|| {
            waiting.began += 1;
            waiting.began
        });
        waiting.wakers.insert((at_ms, order), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Self::Here { clock, at_ms, place: Some(order) } = self {
            clock.0.waiting.lock().expect(POISON).wakers.remove(&(*at_ms, *order));
        }
    }
}
