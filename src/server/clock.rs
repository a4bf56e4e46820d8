//! The clocks of this process, and the notice that it has slept.
//!
//! Monotonic milliseconds order what one process does. CLOCK_BOOTTIME carries log time on (P10): it goes on while the
//! machine is suspended. Wall time is for display.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// How late the process' own loop may be before what it observes cannot be trusted (design §3).
const LATE: Duration = Duration::from_millis(200);
/// How often that is checked.
const BEAT: Duration = Duration::from_millis(25);

/// Monotonic milliseconds since this process began.
pub fn now_ms() -> u64 {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    // One second ahead, so that "1 s ago" exists from the start.
    BEGAN.elapsed().as_millis() as u64 + 1_000
}

/// CLOCK_BOOTTIME in milliseconds.
pub fn boottime_ms() -> u64 {
    millis(ClockId::Boottime)
}

/// Unix milliseconds, for display only.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis() as u64).unwrap_or(0)
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000) + time.tv_nsec as u64 / 1_000_000
}

/// Counts this process' own pauses: a loop that ran late by more than 200 ms, or BOOTTIME and MONOTONIC apart.
/// Whoever observes discards what it held open across one.
pub fn watch_pauses() -> watch::Receiver<u64> {
    let (tx, rx) = watch::channel(0);
    tokio::spawn(async move {
        let mut last = Instant::now();
        let mut skew = boottime_ms().saturating_sub(millis(ClockId::Monotonic));
        loop {
            tokio::time::sleep(BEAT).await;
            let late = last.elapsed().saturating_sub(BEAT);
            let skew_now = boottime_ms().saturating_sub(millis(ClockId::Monotonic));
            let slept = skew_now.abs_diff(skew) > LATE.as_millis() as u64;
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
