//! Whether this process has run without a pause: a permit from before one allows nothing after it.
//!
//! Somebody beats (the host's own loop). A process that was stopped and goes on may come to its next statement before that
//! loop does; so the time since the last beat is looked at before every statement, too.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::NOT_POISONED;
use crate::mistake::{Mistake, planted};

/// Without a beat for so long, the process counts as paused: what the host's loop allows itself, and one beat of it.
const STALE: Duration = Duration::from_millis(225);

/// The beats of this process.
#[derive(Debug, Default)]
pub struct Pulse {
    /// CLOCK_BOOTTIME of the last beat, milliseconds: it goes on while the machine is suspended. 0 while nobody beats.
    beaten_ms: AtomicU64,
    /// The end of the last pause that was noticed.
    woke: Mutex<Option<Instant>>,
}

impl Pulse {
    /// The process runs; `slept`: since the last beat there was a pause.
    pub fn beat(&self, slept: bool) {
        self.beat_at(boottime_ms(), slept);
    }

    /// Whether it ran without a pause from `since` until now. Where nobody beats, nobody knows of any.
    pub(super) fn ran_since(&self, since: Instant) -> bool {
        self.ran_at(boottime_ms(), since)
    }

    fn beat_at(&self, now_ms: u64, slept: bool) {
        if slept {
            // Before the beat, which hides the pause from `ran_at`.
            *self.woke.lock().expect(NOT_POISONED) = Some(Instant::now());
        }
        self.beaten_ms.store(now_ms, Ordering::SeqCst);
    }

    fn ran_at(&self, now_ms: u64, since: Instant) -> bool {
        let beaten_ms = self.beaten_ms.load(Ordering::SeqCst);
        let stale = beaten_ms != 0 && now_ms.saturating_sub(beaten_ms) > STALE.as_millis() as u64;
        let ran = !stale && self.woke.lock().expect(NOT_POISONED).is_none_or(|woke| woke <= since);
        ran || planted(Mistake::PermitOutlivesPause)
    }
}

fn boottime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec as u64).saturating_mul(1_000) + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seen_before_and_after_the_beat_that_notices_it() {
        let (pulse, before) = (Pulse::default(), Instant::now());
        // Nobody beats yet.
        assert!(pulse.ran_at(5_000, before));
        pulse.beat_at(1_000, false);
        assert!(pulse.ran_at(1_225, before));
        // Stopped since: whoever goes on first after the thaw finds no beat.
        assert!(!pulse.ran_at(1_226, before));
        pulse.beat_at(4_000, true);
        assert!(!pulse.ran_at(4_001, before));
        // What was confirmed after the thaw counts.
        assert!(pulse.ran_at(4_001, Instant::now()));
    }
}
