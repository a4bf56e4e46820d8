//! One direction of a connection: what is on its way, and what a cut holds up.

use std::collections::VecDeque;

/// First retransmission of what does not arrive, and the longest pause between two (Linux: 200 ms doubling to 120 s).
const RETRY_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 120_000;

/// One direction: in order, retransmitted while the path is cut.
#[derive(Debug)]
pub struct Pipe<M> {
    arriving: VecDeque<(u64, M)>,
    blocked: VecDeque<M>,
    retry_at: u64,
    pause_ms: u64,
    last_ms: u64,
    /// When what a cut had held up went on its way last.
    freed_ms: Option<u64>,
}

impl<M> Default for Pipe<M> {
    fn default() -> Self {
        let (arriving, blocked) = (VecDeque::new(), VecDeque::new());
        Self { arriving, blocked, retry_at: 0, pause_ms: 0, last_ms: 0, freed_ms: None }
    }
}

impl<M> Pipe<M> {
    /// Sends; returns when to look again.
    pub fn push(&mut self, message: M, now_ms: u64, path: Option<u64>) -> u64 {
        match path {
            Some(delay) if self.blocked.is_empty() => self.arrive(message, now_ms + delay),
            _ => {
                if self.blocked.is_empty() {
                    self.pause_ms = RETRY_MS;
                    self.retry_at = now_ms + RETRY_MS;
                }
                self.blocked.push_back(message);
                self.retry_at
            }
        }
    }

    fn arrive(&mut self, message: M, at_ms: u64) -> u64 {
        self.last_ms = self.last_ms.max(at_ms);
        self.arriving.push_back((self.last_ms, message));
        self.last_ms
    }

    /// Retransmits what is due; returns when to look again.
    pub fn retry(&mut self, now_ms: u64, path: impl FnOnce() -> Option<u64>) -> Option<u64> {
        if self.blocked.is_empty() || now_ms < self.retry_at {
            return (!self.blocked.is_empty()).then_some(self.retry_at);
        }
        match path() {
            Some(delay) => {
                self.freed_ms = Some(now_ms);
                while let Some(message) = self.blocked.pop_front() {
                    self.arrive(message, now_ms + delay);
                }
                Some(self.last_ms)
            }
            None => {
                self.pause_ms = (self.pause_ms * 2).min(RETRY_MAX_MS);
                self.retry_at = now_ms + self.pause_ms;
                Some(self.retry_at)
            }
        }
    }

    /// The next message that has arrived.
    pub fn next(&mut self, now_ms: u64) -> Option<M> {
        match self.arriving.front() {
            Some((at, _)) if *at <= now_ms => self.arriving.pop_front().map(|(_, message)| message),
            _ => None,
        }
    }

    /// Forgets everything on its way.
    pub fn clear(&mut self) {
        self.arriving.clear();
        self.blocked.clear();
    }

    /// Whether one of these is on its way.
    pub fn holds(&self, which: impl Fn(&M) -> bool) -> bool {
        self.arriving.iter().map(|(_, message)| message).chain(&self.blocked).any(which)
    }

    /// Whether nothing is held up by a cut.
    pub fn is_clear(&self) -> bool {
        self.blocked.is_empty()
    }

    /// Whether a cut has held anything up since then.
    pub fn was_held_up(&self, since_ms: u64) -> bool {
        !self.is_clear() || self.freed_ms.is_some_and(|at| at >= since_ms)
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.arriving.is_empty() && self.blocked.is_empty()
    }
}
