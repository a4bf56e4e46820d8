//! What may still happen to the old primary: fences that were sent and whose end nobody knows, and the proof that none of
//! them can land any more.
//!
//! A fence that ended *unknown* may have landed, may be waiting on the server for a lock, or may lie in the socket of a
//! frozen process and land at its thaw. It is over when, after every attempt of ours had ended and the giving up was in
//! the log (so that no node begins another), the sessions of all nodes were seen gone on that server, and the server was
//! then read, over a new session, as open.

use std::collections::BTreeSet;

use crate::{
    core::plan::step::StepEnd,
    mistake::{Mistake, planted},
};

/// Pause between two attempts to open the old primary. Not shorter: a frozen host still accepts connections, and
/// collects them.
const AGAIN_MS: u64 = 1_000;

/// The fences of one recovery, as the process that executes it knows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences {
    /// Nodes whose attempt has not ended.
    pending: BTreeSet<u64>,
    /// An attempt was done or ended unknown, or a predecessor may have made one.
    doubt: bool,
    /// Some attempt may begin later than we know: a request that was not answered, or a predecessor's.
    late: bool,
    /// When the giving up was committed.
    given_up_ms: Option<u64>,
    /// The attempt to open the old primary that is under way.
    opening: Option<Opening>,
    /// The last one found it open.
    opened: bool,
    /// When the next one may begin, after one that did not.
    next_ms: u64,
    /// How the last one ended, so that the same is recorded once.
    said: String,
}

#[derive(Debug, Clone, Copy)]
struct Opening {
    /// Whether no fence could begin any more when it began.
    last: bool,
}

impl Fences {
    /// A predecessor, or a superseded recovery, may have sent some.
    pub(super) fn inherited(&mut self) {
        (self.doubt, self.late) = (true, true);
    }

    /// A node was asked.
    pub(super) fn asked(&mut self, node: u64) {
        self.pending.insert(node);
    }

    /// Its attempt ended. Refused: nothing was changed by it.
    pub(super) fn ended(&mut self, node: u64, end: &StepEnd) {
        self.pending.remove(&node);
        self.doubt |= match planted(Mistake::UnknownTakenForNo) {
            true => end.is_done(),
            false => !matches!(end, StepEnd::Refused { .. }),
        };
        self.late |= matches!(end, StepEnd::Unknown { .. });
    }

    /// Whether the old primary may be fenced, or may yet be.
    pub(super) fn open(&self) -> bool {
        self.doubt || !self.pending.is_empty()
    }

    /// The giving up is in the log.
    pub(super) fn given_up(&mut self, now_ms: u64) {
        self.given_up_ms.get_or_insert(now_ms);
    }

    /// The old primary answers: not a moment is to be lost.
    pub(super) fn hurry(&mut self) {
        self.next_ms = 0;
    }

    /// Whether an attempt to open it begins now; it then counts as begun. `fence_ms`: the longest that a fence takes from
    /// its receipt at a node.
    pub(super) fn try_now(&mut self, now_ms: u64, fence_ms: u64) -> bool {
        let last = self.none_begins(now_ms, fence_ms);
        let due = if self.opened { last } else { now_ms >= self.next_ms };
        if self.opening.is_some() || !self.open() || !due {
            return false;
        }
        self.opening = Some(Opening { last });
        true
    }

    /// A request to another node may still be on its way there when we stop waiting for it. After the giving up no node
    /// begins a fence; one that began just before has ended `fence_ms` later.
    fn none_begins(&self, now_ms: u64, fence_ms: u64) -> bool {
        let grace_ms = if self.late { fence_ms } else { 0 };
        self.pending.is_empty() && self.given_up_ms.is_some_and(|at| now_ms >= at.saturating_add(grace_ms))
    }

    /// The attempt ended; whether its end is news.
    pub(super) fn tried(&mut self, end: &StepEnd, now_ms: u64) -> bool {
        let last = self.opening.take().is_some_and(|opening| opening.last);
        self.opened = end.is_done();
        if self.opened && last {
            self.doubt = false;
        }
        self.next_ms = now_ms.saturating_add(AGAIN_MS);
        let said = end.to_string();
        std::mem::replace(&mut self.said, said.clone()) != said
    }

    /// The attempt under way was given up before it changed anything.
    pub(super) fn left_alone(&mut self) {
        self.opening = None;
    }

    /// Whether the old primary was last read as open.
    pub(super) fn opened(&self) -> bool {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dead primary: the attempt to open it began while fences were under way, and all of them were refused.
    #[test]
    fn what_was_tried_and_refused_was_not_seen_open() {
        let refused = StepEnd::Refused { why: "nothing listens there".into() };
        let mut fences = Fences::default();
        fences.asked(2);
        assert!(fences.try_now(1_000, 100));
        fences.ended(2, &refused);
        fences.tried(&refused, 1_010);
        assert!(!fences.open() && !fences.opened());
    }
}
