//! When the next look at a server is due. Times come in as arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::{Mode, ProbeSettings};
use crate::session::{DIAL_AGAIN, DIAL_AGAIN_SOON};

/// A dying server closes its connections before its listening socket: an attempt may be accepted and reset, and says
/// nothing. It is repeated after this pause, doubling up to the second, so many times, or while somebody waits
/// urgently.
const RESET_PAUSE: Duration = Duration::from_millis(2);
const RESET_PAUSE_MAX: Duration = Duration::from_millis(50);
const RESET_RETRIES: u32 = 10;
/// Suspected: pause between two attempts, at first and later.
const SUSPECTED_PAUSE: Duration = Duration::from_millis(50);
const SUSPECTED_PAUSE_LATER: Duration = Duration::from_secs(1);
/// Suspected: how long "at first" is.
const SUSPECTED_FOR: Duration = Duration::from_secs(600);

/// The clockwork of one prober.
pub struct Pace {
    settings: ProbeSettings,
    suspected_since: Option<Instant>,
    due: Instant,
    inventory_due: Instant,
    /// When an attempt that was reset is repeated, and how many were reset in a row.
    retry: Option<Instant>,
    resets: u32,
    /// Put between the first look and the second, once: spreads the probers of a node over the interval.
    spread: Option<u64>,
}

impl Pace {
    /// The first look is due at once; `spread` is any number that differs between servers.
    pub fn new(settings: ProbeSettings, spread: u64, now: Instant) -> Self {
        Self {
            settings,
            suspected_since: (settings.mode == Mode::Suspected).then_some(now),
            due: now,
            inventory_due: now,
            retry: None,
            resets: 0,
            spread: Some(spread),
        }
    }

    /// Takes other settings; what they make due earlier is due earlier.
    pub fn set(&mut self, settings: ProbeSettings, now: Instant) {
        self.suspected_since = match settings.mode {
            Mode::Steady => None,
            Mode::Suspected => Some(self.suspected_since.unwrap_or(now)),
        };
        self.settings = settings;
        self.due = self.due.min(now + self.pause(now));
    }

    /// When something is due.
    pub fn next(&self) -> Instant {
        self.retry.map_or(self.due, |retry| retry.min(self.due))
    }

    /// Whether a look is due.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Whether the next look is to be an inventory.
    pub fn is_inventory_due(&self, now: Instant) -> bool {
        now >= self.inventory_due
    }

    /// Makes a look due at once.
    pub fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    /// Makes an inventory due at once.
    pub fn hurry_inventory(&mut self, now: Instant) {
        self.inventory_due = now;
        self.due = now;
    }

    /// A look has begun.
    pub fn began(&mut self, now: Instant) {
        let interval = self.settings.interval;
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
        let offset =
            self.spread.take().map_or(Duration::ZERO, |spread| Duration::from_micros(spread % micros));
        self.due = now + interval + offset;
    }

    /// An inventory was read.
    pub fn inventoried(&mut self, now: Instant) {
        self.inventory_due = now + self.settings.inventory_interval;
    }

    /// An attempt ended without an answer and no connection is there: the next is due after the pause.
    pub fn failed(&mut self, now: Instant) {
        self.due = self.due.min(now + self.pause(now)).max(now + SUSPECTED_PAUSE);
    }

    /// An attempt was accepted and reset; `urgent`: somebody waits.
    pub fn reset(&mut self, urgent: bool, now: Instant) {
        if self.resets < RESET_RETRIES || urgent {
            self.retry = Some(now + (RESET_PAUSE * 2u32.pow(self.resets.min(10))).min(RESET_PAUSE_MAX));
            self.resets += 1;
        }
    }

    /// An attempt ended otherwise.
    pub fn not_reset(&mut self) {
        self.resets = 0;
    }

    /// Takes the repetition that is due.
    pub fn take_retry(&mut self, now: Instant) -> bool {
        let due = self.retry.is_some_and(|at| now >= at);
        if due {
            self.retry = None;
        }
        due
    }

    /// Pause before an unanswered connection request is sent again: a server that returns from a partition is to be
    /// heard of in the first packet after it.
    pub fn dial_again(&self, now: Instant) -> Duration {
        match self.pause(now) == SUSPECTED_PAUSE {
            true => DIAL_AGAIN_SOON,
            false => DIAL_AGAIN,
        }
    }

    /// From the end of a failed attempt to the next.
    fn pause(&self, now: Instant) -> Duration {
        match self.suspected_since {
            None => self.settings.interval,
            Some(since) if now.duration_since(since) < SUSPECTED_FOR => SUSPECTED_PAUSE,
            Some(_) => SUSPECTED_PAUSE_LATER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: Mode) -> ProbeSettings {
        ProbeSettings { interval: Duration::from_millis(250), mode, ..ProbeSettings::default() }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_second_look_is_spread_and_the_third_is_not() {
        let t = Instant::now();
        let mut pace = Pace::new(settings(Mode::Steady), 1_000_100_000, t);
        assert!(pace.is_due(t) && pace.is_inventory_due(t));
        pace.began(t);
        assert_eq!(pace.next(), t + 350 * MS);
        pace.began(t + 350 * MS);
        assert_eq!(pace.next(), t + 600 * MS);
    }

    #[test]
    fn a_suspected_server_is_tried_often_for_ten_minutes_and_then_each_second() {
        let t = Instant::now();
        let mut pace = Pace::new(settings(Mode::Steady), 0, t);
        pace.set(ProbeSettings { interval: Duration::from_secs(5), ..settings(Mode::Suspected) }, t);
        pace.began(t);
        pace.failed(t + 1000 * MS);
        assert_eq!(pace.next(), t + 1050 * MS);
        let late = t + SUSPECTED_FOR;
        pace.began(late);
        pace.failed(late + 1000 * MS);
        assert_eq!(pace.next(), late + 2000 * MS);
        pace.set(settings(Mode::Steady), late + 1100 * MS);
        assert_eq!(pace.next(), late + 1350 * MS);
    }

    #[test]
    fn resets_are_repeated_with_growing_pauses_and_not_for_ever() {
        let t = Instant::now();
        let mut pace =
            Pace::new(ProbeSettings { interval: Duration::from_secs(60), ..settings(Mode::Steady) }, 0, t);
        pace.began(t);
        let mut pauses = Vec::new();
        for _ in 0..RESET_RETRIES {
            pace.reset(false, t);
            pauses.push((pace.next() - t).as_millis());
            assert!(pace.take_retry(t + RESET_PAUSE_MAX) && !pace.take_retry(t + RESET_PAUSE_MAX));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 50, 50, 50, 50, 50]);
        pace.reset(false, t);
        assert!(!pace.take_retry(t + RESET_PAUSE_MAX));
        pace.reset(true, t);
        assert!(pace.take_retry(t + RESET_PAUSE_MAX));
        pace.not_reset();
        pace.reset(false, t);
        assert!(pace.take_retry(t + RESET_PAUSE));
    }
}
