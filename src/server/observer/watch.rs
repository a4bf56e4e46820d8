//! What this node keeps of one server between probes, and how a probe's end changes it. Pure.

use crate::{
    core::analysis::{
        observation::{AttemptEnd, Observation},
        testimony::is_connection_error,
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

/// One server as watched by this node.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// What the analysis sees.
    pub observation: Observation,
    /// Largest set seen in hand since the server's present start (P6).
    pub high_water: Option<(u64, GtidSet)>,
    last_heard: Option<Heard>,
    pause_seen_ms: Option<u64>,
    /// Since when it is probed at its present pace.
    rhythm_since_ms: u64,
}

impl Watch {
    /// Begins at `now_ms`: the silence of a server that never answers counts from here.
    pub fn begun(now_ms: u64) -> Self {
        let observation = Observation { watched_since_ms: Some(now_ms), ..Observation::default() };
        Self { observation, ..Self::default() }
    }

    /// It is probed at another pace from now on: gaps between answers that came before mean nothing.
    pub fn begin_rhythm(&mut self, now_ms: u64) {
        self.rhythm_since_ms = now_ms;
        self.observation.recent_pause_ms = None;
    }

    /// Takes in a finished attempt. `expected` is what the server must say of itself, `channel` the one to be judged.
    pub fn attempt(
        &mut self,
        ended_ms: u64,
        end: AttemptEnd,
        facts: Option<ServerFacts>,
        expected: Option<&Identity>,
        channel: Option<&Channel>,
    ) {
        let end = match (&facts, expected) {
            (Some(facts), Some(expected)) if !expected.matches(&facts.identity) => {
                AttemptEnd::WrongIdentity { seen: facts.identity.to_string() }
            }
            _ => end,
        };
        self.observation.waiting_since_ms = None;
        if let (AttemptEnd::Answered, Some(facts)) = (&end, facts) {
            self.answered(ended_ms, facts, channel);
        }
        self.observation.last_attempt = Some((ended_ms, end));
        if self.pause_seen_ms.is_some_and(|at| ended_ms.saturating_sub(at) > PAUSE_TOLD_MS) {
            self.observation.recent_pause_ms = None;
        }
    }

    fn answered(&mut self, at_ms: u64, facts: ServerFacts, channel: Option<&Channel>) {
        let last = self.observation.answered_ms.map(|last| last.max(self.rhythm_since_ms));
        if let Some(gap) = last.map(|last| at_ms.saturating_sub(last))
            && gap >= PAUSE_MS
        {
            self.observation.recent_pause_ms = Some(gap);
            self.pause_seen_ms = Some(at_ms);
        }
        self.hear_source(at_ms, channel);
        self.raise_high_water(&facts);
        // Only an inventory reads these; what it read stays until the next.
        let mut facts = facts;
        if let Some(old) = self.observation.facts.take() {
            facts.replicas = facts.replicas.or(old.replicas);
            facts.dump_clients = facts.dump_clients.or(old.dump_clients);
            facts.durability = facts.durability.or(old.durability);
        }
        self.observation.answered_ms = Some(at_ms);
        self.observation.facts = Some(facts);
    }

    /// When the receiver last proved that its source lives, and when it lost it.
    fn hear_source(&mut self, at_ms: u64, channel: Option<&Channel>) {
        let now_heard = channel.map(|c| Heard {
            channel: (c.name.clone(), c.source.clone()),
            heartbeats: c.heartbeats,
            read_position: c.read_position.clone(),
        });
        let source = |heard: &Option<Heard>| heard.as_ref().map(|h| h.channel.clone());
        if source(&now_heard) != source(&self.last_heard) {
            // Another source: what was heard of the last one is no testimony about it.
            self.observation.source_heard_ms = None;
            self.observation.source_noticed_ms = None;
            self.observation.source_lost_ms = None;
            self.last_heard = None;
        }
        let Some(channel) = channel else { return };
        let moved = self.last_heard.is_some() && self.last_heard != now_heard;
        if channel.receiver == Receiver::Running {
            self.observation.source_lost_ms = None;
            if moved {
                self.observation.source_noticed_ms = Some(at_ms);
                // It moved at some time since the last probe: the earliest is all that is proven.
                let since = self.observation.answered_ms.unwrap_or(at_ms);
                self.observation.source_heard_ms = self.observation.source_heard_ms.max(Some(since));
            }
            if let Some(age) = channel.heartbeat_age_ms {
                let heard = at_ms.saturating_sub(age);
                self.observation.source_heard_ms = self.observation.source_heard_ms.max(Some(heard));
            }
        } else {
            let by_connection = channel.receiver == Receiver::Connecting
                || channel.receiver_error.as_ref().is_some_and(|(code, _)| is_connection_error(*code));
            if by_connection && self.observation.source_lost_ms.is_none() {
                self.observation.source_lost_ms = Some(at_ms);
            }
        }
        self.last_heard = now_heard;
    }

    /// A restart begins a new mark only once the old one is held again; until then the shrink shows.
    fn raise_high_water(&mut self, facts: &ServerFacts) {
        let in_hand = facts.in_hand();
        let started = facts.started_at_s.unwrap_or(0);
        match &mut self.high_water {
            Some((_, mark)) if !in_hand.contains(mark) => {}
            mark => *mark = Some((started, in_hand)),
        }
    }

    /// Forgets what was open across this node's own pause, which ended at `now_ms`.
    pub fn discard(&mut self, now_ms: u64) {
        let facts = self.observation.facts.take();
        self.observation = Observation { facts, watched_since_ms: Some(now_ms), ..Observation::default() };
        self.last_heard = None;
    }
}
