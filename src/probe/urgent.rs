//! Those who asked for a fresh look and wait for it, each up to a bound of its own.

use tokio::time::Instant;

use tokio::sync::oneshot;

use super::ProbeEvent;

/// One who waits.
pub(super) struct Urgent {
    pub(super) until: Instant,
    /// A refusal counts only from attempts begun for it: this one or a later.
    pub(super) seq: u64,
    /// What was seen and settles nothing.
    pub(super) last: Option<ProbeEvent>,
    /// What it is told if nothing is seen.
    pub(super) silent: ProbeEvent,
    pub(super) answer: oneshot::Sender<ProbeEvent>,
}

/// All who wait. Their number is bounded by the queue they come through and their bounds.
#[derive(Default)]
pub(super) struct Urgents(Vec<Urgent>);

impl Urgents {
    pub(super) fn add(&mut self, urgent: Urgent) {
        self.0.push(urgent);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them stops waiting.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(|urgent| urgent.until).min()
    }

    /// Tells an event to whom it settles.
    pub(super) fn settle(&mut self, event: &ProbeEvent) {
        for mut urgent in std::mem::take(&mut self.0) {
            let counts = event.outcome.spoke() || event.seq >= urgent.seq;
            if event.outcome.settles() && counts {
                // Who asked may have gone.
                let _ = urgent.answer.send(event.clone());
                continue;
            }
            if event.seq >= urgent.seq {
                urgent.last = Some(event.clone());
            }
            self.0.push(urgent);
        }
    }

    /// Ends the waits whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for urgent in std::mem::take(&mut self.0) {
            if urgent.until <= now {
                let _ = urgent.answer.send(urgent.last.unwrap_or(urgent.silent));
            } else {
                self.0.push(urgent);
            }
        }
    }
}
