//! A server's present life, from its start on: whether it was seen, in that life, to hold all that the primary had
//! executed. Pure.
//!
//! A machine that lost power may have lost received transactions that it had acknowledged. Whatever that was, the primary
//! had executed it before; so the *goal* is the primary's set as of a reading that began after the new life was seen.
//! Whoever passes it holds all of that again (P6, `core::plan::marks`). A life is known by the date of its start, which two
//! starts within seconds share: nothing is measured before no other can bear it any more.

#[cfg(test)]
mod tests;

use crate::model::{
    facts::{DATED_FROM_S, Receiver, ServerFacts, is_same_start},
    gtid::GtidSet,
};

/// What a server is in its cluster while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The primary: what it executed is what the others are measured by.
    Primary,
    /// It receives from its source as the state records it.
    Receives,
    /// It follows nobody, or another than the state says: what it holds proves nothing.
    Other,
}

impl Part {
    /// The part of a server that is not the primary, by its channel from the source that the state records.
    pub fn of_replica(receiver: Option<Receiver>) -> Self {
        match receiver {
            Some(Receiver::Running) => Self::Receives,
            _ => Self::Other,
        }
    }
}

/// One life of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// Its start, as its facts date it, Unix seconds.
    started_at_s: u64,
    /// When this node first read it in this life, after its date had become its own ([`DATED_FROM_S`]), monotonic
    /// milliseconds.
    dated_ms: Option<u64>,
    /// What it must be seen to hold: the primary's set, by a reading that began after `dated_ms`.
    goal: Option<GtidSet>,
    caught_up: bool,
}

impl Life {
    /// Takes in a reading that ended at `at_ms`; begins a new life when the server was started anew.
    pub fn read(life: &mut Option<Self>, facts: &ServerFacts, part: Part, at_ms: u64) {
        let Some(started_at_s) = facts.started_at_s else { return *life = None };
        let same = life.take().filter(|life| is_same_start(life.started_at_s, started_at_s));
        let mut read = same.unwrap_or(Self { started_at_s, dated_ms: None, goal: None, caught_up: false });
        if facts.uptime_s.is_some_and(|up| up >= DATED_FROM_S) {
            read.dated_ms.get_or_insert(at_ms);
        }
        let passed = || read.goal.as_ref().is_some_and(|goal| facts.in_hand().contains(goal));
        read.caught_up = read.caught_up
            || match part {
                Part::Primary => read.dated_ms.is_some(),
                Part::Receives => passed(),
                Part::Other => false,
            };
        *life = Some(read);
    }

    /// Takes in what the primary had executed, by a reading that began at `began_ms`. A goal stays until it is passed, so that
    /// one that catches up for an hour passes it on its way; unless the primary itself lost a part of it. Whether it is a new
    /// goal: then it is worth a look at once.
    pub fn measure(&mut self, executed: &GtidSet, began_ms: u64) -> bool {
        let stands = self.goal.as_ref().is_some_and(|goal| executed.contains(goal));
        if self.caught_up || stands || self.dated_ms.is_none_or(|dated| began_ms < dated) {
            return false;
        }
        self.goal = Some(executed.position());
        true
    }

    /// Another primary: what the last one had executed and nobody received is no goal any more.
    pub fn forget_goal(&mut self) {
        self.goal = None;
    }

    /// The start since which it was seen caught up, Unix seconds.
    pub fn caught_up_since(&self) -> Option<u64> {
        self.caught_up.then_some(self.started_at_s)
    }
}
