//! I14: who is decided on may be promoted: in service, one source, not ruled out, and without a row that nobody else
//! may hold.

use std::collections::BTreeMap;

use quorate::{
    core::replicated::{Change, Kind, MemberState},
    model::policy::PromotionRule,
};

use super::{Check, account::changed};
use crate::{fleet::ServerNo, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Candidate {
    /// When each recovery started, true time: what a server is given after its set was read, nobody sees.
    started: BTreeMap<u64, u64>,
    /// When each server was last published as the primary, true time: then the others are given what it alone held.
    published: BTreeMap<ServerNo, u64>,
}

impl Check for Candidate {
    fn id(&self) -> &'static str {
        "I14 the candidate may be promoted"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Some((Change::StartRecovery(_), id)) = changed(event) {
            self.started.entry(id).or_insert(at);
        }
        if let (Some((Change::Publish { .. }, _)), Some(primary)) = (changed(event), world.primary()) {
            self.published.insert(primary, at);
        }
        let Some((
            Change::DecidePromotion { recovery, decision } | Change::NextCandidate { recovery, decision, .. },
            _,
        )) = changed(event)
        else {
            return Ok(());
        };
        let state = &world.group.state;
        let Some(record) = state.recoveries.get(recovery) else { return Ok(()) };
        let candidate = &decision.candidate;
        let wrong = |why: &str| Err(format!("recovery {recovery} decides on {}, {why}", candidate.address));
        let Some((_, member)) = state.find_server(&candidate.server.0).ok() else {
            return wrong("no member");
        };
        if member.state != MemberState::Normal || member.channels > 1 {
            return wrong("which is not in service with one source");
        }
        if state.rule_of(&candidate.server) == PromotionRule::MustNot {
            return wrong("which policy rules out");
        }
        let started = self.started.get(recovery).copied().unwrap_or(at);
        let no = world.server_at(&candidate.address);
        let written = no.and_then(|no| world.errant.get(&no));
        let published = no.and_then(|no| self.published.get(&no));
        let errant = written.is_some_and(|written| *written < started && published <= Some(written));
        if errant && record.kind == Kind::Failover {
            return wrong("which holds an errant row");
        }
        Ok(())
    }
}
