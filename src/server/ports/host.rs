//! The clocks of this process, and the notice that it has slept.
//!
//! Monotonic milliseconds order what one process does. CLOCK_BOOTTIME carries log time on (P10): it goes on while the
//! machine is suspended. Wall time is for display.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::Host;
use crate::executor::Pulse;

/// How late the process' own loop may be before what it observes cannot be trusted (design §3).
const LATE: Duration = Duration::from_millis(200);
/// How often that is checked.
const BEAT: Duration = Duration::from_millis(25);

/// This process on this machine.
pub struct Machine {
    began: Instant,
    pulse: Arc<Pulse>,
}

impl Machine {
    /// Its monotonic milliseconds count from now. It beats `pulse` once somebody watches its pauses.
    pub fn new(pulse: Arc<Pulse>) -> Self {
        Self { began: Instant::now(), pulse }
    }
}

impl Host for Machine {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1_000
    }

    fn boottime_ms(&self) -> u64 {
        millis(ClockId::Boottime)
    }

    fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis() as u64).unwrap_or(0)
    }

    fn unique(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    fn pauses(&self) -> watch::Receiver<u64> {
        watch_pauses(self.began, self.pulse.clone())
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }

    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        task
    }
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000) + time.tv_nsec as u64 / 1_000_000
}

/// A pause is a loop that ran late by more than 200 ms, or BOOTTIME and MONOTONIC apart.
fn watch_pauses(began: Instant, pulse: Arc<Pulse>) -> watch::Receiver<u64> {
    let (tx, rx) = watch::channel(0);
    let skew_now = move || millis(ClockId::Boottime).saturating_sub(began.elapsed().as_millis() as u64);
    tokio::spawn(async move {
        let (mut last, mut skew) = (Instant::now(), skew_now());
        loop {
            tokio::time::sleep(BEAT).await;
            let late = last.elapsed().saturating_sub(BEAT);
            let skew_now = skew_now();
            let slept = skew_now.abs_diff(skew) > LATE.as_millis() as u64;
            pulse.beat(late > LATE || slept);
            if late > LATE || slept {
                tracing::warn!(
                    late_ms = late.as_millis() as u64,
                    slept,
                    "this node paused; its open observations are void"
                );
                tx.send_modify(|count| *count += 1);
            }
            (last, skew) = (Instant::now(), skew_now);
            if tx.is_closed() {
                return;
            }
        }
    });
    rx
}
