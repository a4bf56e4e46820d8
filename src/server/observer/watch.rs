//! What this node keeps of one server between probes, and how a probe's end changes what is seen of it. Pure.

use std::sync::Arc;

use super::life::{Life, Part};
use crate::{
    core::{
        analysis::{
            observation::{AttemptEnd, Observation},
            testimony::is_connection_error,
        },
        plan::marks::Mark,
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
        server::Identity,
    },
};

/// A gap between two answers from which on it counts as a pause, milliseconds.
const PAUSE_MS: u64 = 700;
/// How long a pause stays worth telling, milliseconds.
const PAUSE_TOLD_MS: u64 = 10_000;

/// What the judged channel said at the probe before.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    /// Its name and source: what another channel says cannot be compared with it.
    channel: (String, Address),
    heartbeats: Option<u64>,
    read_position: (String, u64),
}

impl Heard {
    fn of(channel: &Channel) -> Self {
        Self {
            channel: (channel.name.clone(), channel.source.clone()),
            heartbeats: channel.heartbeats,
            read_position: channel.read_position.clone(),
        }
    }

    fn is_of(&self, channel: &Channel) -> bool {
        (&self.channel.0, &self.channel.1) == (&channel.name, &channel.source)
    }

    fn moved(&self, channel: &Channel) -> bool {
        (self.heartbeats, &self.read_position) != (channel.heartbeats, &channel.read_position)
    }
}

/// One server as watched by this node, besides its observation.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// All that was seen in hand. A restart does not lower it: until it is held again the shrink shows (P6).
    pub high_water: Option<GtidSet>,
    /// Its present life.
    pub life: Option<Life>,
    last_heard: Option<Heard>,
    pause_seen_ms: Option<u64>,
    /// Since when it is probed at its present pace.
    rhythm_since_ms: u64,
}

impl Watch {
    /// Begins at `now_ms`: the silence of a server that never answers counts from here.
    pub fn begun(now_ms: u64) -> (Self, Observation) {
        (Self::default(), Observation { watched_since_ms: Some(now_ms), ..Observation::default() })
    }

    /// It is probed at another pace from now on: gaps between answers that came before mean nothing.
    pub fn begin_rhythm(&mut self, seen: &mut Observation, now_ms: u64) {
        self.rhythm_since_ms = now_ms;
        seen.recent_pause_ms = None;
    }

    /// Takes a finished attempt into `seen`. `expected` is what the server must say of itself, `channel` the one of
    /// `facts` to be judged.
    pub fn attempt(
        &mut self,
        seen: &mut Observation,
        ended_ms: u64,
        end: AttemptEnd,
        facts: Option<Arc<ServerFacts>>,
        expected: Option<&Identity>,
        channel: Option<&Channel>,
    ) {
        let end = match (&facts, expected) {
            (Some(facts), Some(expected)) if !expected.matches(&facts.identity) => {
                AttemptEnd::WrongIdentity { seen: facts.identity.to_string() }
            }
            _ => end,
        };
        seen.waiting_since_ms = None;
        if let (AttemptEnd::Answered, Some(facts)) = (&end, facts) {
            self.answered(seen, ended_ms, facts, channel);
        }
        seen.last_attempt = Some((ended_ms, end));
        if self.pause_seen_ms.is_some_and(|at| ended_ms.saturating_sub(at) > PAUSE_TOLD_MS) {
            seen.recent_pause_ms = None;
        }
    }

    fn answered(
        &mut self,
        seen: &mut Observation,
        at_ms: u64,
        facts: Arc<ServerFacts>,
        channel: Option<&Channel>,
    ) {
        let last = seen.answered_ms.map(|last| last.max(self.rhythm_since_ms));
        if let Some(gap) = last.map(|last| at_ms.saturating_sub(last))
            && gap >= PAUSE_MS
        {
            seen.recent_pause_ms = Some(gap);
            self.pause_seen_ms = Some(at_ms);
        }
        self.hear_source(seen, at_ms, channel);
        self.raise_high_water(&facts);
        seen.answered_ms = Some(at_ms);
        seen.facts = Some(facts);
    }

    /// When the receiver last proved that its source lives, and when it lost it.
    fn hear_source(&mut self, seen: &mut Observation, at_ms: u64, channel: Option<&Channel>) {
        let same_source = match (channel, &self.last_heard) {
            (Some(channel), Some(heard)) => heard.is_of(channel),
            (channel, heard) => channel.is_none() && heard.is_none(),
        };
        if !same_source {
            // Another source: what was heard of the last one is no testimony about it.
            seen.source_heard_ms = None;
            seen.source_noticed_ms = None;
            seen.source_lost_ms = None;
            self.last_heard = None;
        }
        let Some(channel) = channel else { return };
        let moved = self.last_heard.as_ref().is_some_and(|heard| heard.moved(channel));
        if channel.receiver == Receiver::Running {
            seen.source_lost_ms = None;
            if moved {
                seen.source_noticed_ms = Some(at_ms);
                // It moved at some time since the last probe: the earliest is all that is proven.
                let since = seen.answered_ms.unwrap_or(at_ms);
                seen.source_heard_ms = seen.source_heard_ms.max(Some(since));
            }
            if let Some(age) = channel.heartbeat_age_ms {
                let heard = at_ms.saturating_sub(age);
                seen.source_heard_ms = seen.source_heard_ms.max(Some(heard));
            }
        } else {
            let by_connection = channel.receiver == Receiver::Connecting
                || channel.receiver_error.as_ref().is_some_and(|(code, _)| is_connection_error(*code));
            if by_connection && seen.source_lost_ms.is_none() {
                seen.source_lost_ms = Some(at_ms);
            }
        }
        if moved || self.last_heard.is_none() {
            self.last_heard = Some(Heard::of(channel));
        }
    }

    /// On MariaDB what is received and not applied yet is told by where it ends: neither contains the other then.
    fn raise_high_water(&mut self, facts: &ServerFacts) {
        let in_hand = facts.in_hand();
        match &mut self.high_water {
            Some(mark) => mark.merge(&in_hand),
            None => self.high_water = Some(in_hand),
        }
    }

    /// Takes in what an answer that ended at `at_ms` says of its present life.
    pub fn live(&mut self, facts: &ServerFacts, part: Part, at_ms: u64) {
        let before = self.life.as_ref().and_then(Life::caught_up_since);
        Life::read(&mut self.life, facts, part, at_ms);
        if before.is_none() && self.life.as_ref().and_then(Life::caught_up_since).is_some() {
            // It holds all that it can have acknowledged: what it held beyond that, in an earlier life, nobody was promised.
            self.high_water = Some(facts.in_hand());
        }
    }

    /// What a voter is told when it asks; `None` for a server that never answered.
    pub fn mark(&self) -> Option<Mark> {
        let since = self.life.as_ref().and_then(Life::caught_up_since);
        Some(Mark { held: self.high_water.clone()?, caught_up: since.into_iter().collect() })
    }

    /// Forgets what was open across this node's own pause, which ended at `now_ms`.
    pub fn discard(&mut self, seen: &mut Observation, now_ms: u64) {
        let facts = seen.facts.take();
        *seen = Observation { facts, watched_since_ms: Some(now_ms), ..Observation::default() };
        self.last_heard = None;
    }
}

/// What only an inventory reads stays until the next one: it is taken over from the facts seen before.
pub fn complete(seen: &Observation, mut facts: ServerFacts) -> ServerFacts {
    if let Some(before) = &seen.facts {
        facts.replicas = facts.replicas.or_else(|| before.replicas.clone());
        facts.dump_clients = facts.dump_clients.or_else(|| before.dump_clients.clone());
        facts.durability = facts.durability.or(before.durability);
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{plan::marks, samples},
        model::{gtid::GtidSet, server::Flavor},
    };

    /// A MariaDB replica stands behind a switchover that it has not applied up to, and loses its relay log: what it had received
    /// is remembered, though no later reading contained the one before.
    #[test]
    fn what_was_received_and_not_applied_is_remembered() {
        let maria = |text: &str| GtidSet::parse(Flavor::MariaDb, text).unwrap();
        let (mut watch, mut seen) = Watch::begun(0);
        let mut reads = |executed, received| {
            let channel = Channel { received: maria(received), ..samples::channel(Flavor::MariaDb, 1) };
            let executed = maria(executed);
            let facts =
                ServerFacts { executed, channels: vec![channel], ..samples::facts(Flavor::MariaDb, 3) };
            watch.attempt(&mut seen, 100, AttemptEnd::Answered, Some(Arc::new(facts.clone())), None, None);
            (watch.mark(), facts)
        };
        reads("0-2-100", "0-2-114");
        reads("0-2-100", "0-1-150");
        let (mark, now) = reads("0-2-114,0-1-116", "0-1-116");
        let shrunk = marks::shrunk(mark.as_ref(), &now, &GtidSet::empty(Flavor::MariaDb));
        assert_eq!(shrunk.unwrap().to_string(), "0-1-150");
    }
}
