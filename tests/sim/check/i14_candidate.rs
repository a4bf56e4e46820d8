//! I14: who is decided on may be promoted: in service, one source, not ruled out, without a row that nobody else may hold;
//! and of those who were reached nobody received more.

use std::collections::BTreeMap;

use quorate::{
    core::{
        plan::step::{Action, StepEnd},
        replicated::{Change, Kind, MemberState, Recovery, recovery::Decision},
    },
    model::{address::Address, policy::PromotionRule, server::ServerId},
};

use super::{
    Check,
    account::{changed, done},
    i16_relay_log::in_hand,
};
use crate::{fleet::ServerNo, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Candidate {
    /// When each recovery started, true time: what a server is given after its set was read, nobody sees.
    started: BTreeMap<u64, u64>,
    /// When the present owner saw whose receiver stopped, by recovery, true time.
    stopped: BTreeMap<(u64, ServerId), u64>,
    /// When each server was last published as the primary, true time: then the others are given what it alone held.
    published: BTreeMap<ServerNo, u64>,
}

impl Check for Candidate {
    fn id(&self) -> &'static str {
        "I14 the candidate may be promoted"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Event::StepEnded { step, permit, end: StepEnd::Done(_), .. } = event
            && let (Action::StopReceiver { .. }, Ok(recovery)) = (&step.action, permit.recovery.parse())
        {
            self.stopped.insert((recovery, step.target.server.clone()), at);
        }
        if let Some((Change::StartRecovery(_), id)) = changed(event) {
            self.started.entry(id).or_insert(at);
        }
        if let Some((Change::TakeOver { recovery, .. }, _)) = changed(event) {
            // What its predecessor read, a successor does not know.
            self.stopped.retain(|(id, _), _| id != recovery);
        }
        if let (Some((Change::Publish { .. }, _)), Some(primary)) = (changed(event), world.primary()) {
            self.published.insert(primary, at);
        }
        let Some((_, command, _)) = done(event) else { return Ok(()) };
        let (Change::DecidePromotion { recovery, decision }
        | Change::NextCandidate { recovery, decision, .. }) = &command.change
        else {
            return Ok(());
        };
        // What was seen after the proposal, which may be committed late, is not decided upon.
        let proposed =
            world.proposed.get(&(command.node, command.term, command.at_ms)).copied().unwrap_or(at);
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
        // Written while others followed it, as in the middle of a switchover, such a row is everybody's.
        let alone = no.is_some_and(|no| holds_alone(world, no));
        if errant && alone && record.kind == Kind::Failover {
            return wrong("which holds an errant row");
        }
        match no
            .filter(|_| record.kind != Kind::Switchover)
            .and_then(|no| self.holds_more(world, (record, proposed), decision, no))
        {
            Some(better) => wrong(&format!("and {better} received all that it did, and more")),
            None => Ok(()),
        }
    }
}

/// Whether a server holds something that no other does.
fn holds_alone(world: &World, no: ServerNo) -> bool {
    let held = in_hand(world, no);
    let others = (0..world.fleet.servers().len()).map(ServerNo).filter(|other| *other != no);
    let alone = others.fold(held, |left, other| left.subtract(&in_hand(world, other)));
    !alone.is_empty()
}

impl Candidate {
    /// Another that was seen stopped, and could be promoted as well, holds everything that the candidate does, and more.
    fn holds_more(
        &self,
        world: &World,
        (record, proposed): (&Recovery, u64),
        decision: &Decision,
        candidate: ServerNo,
    ) -> Option<Address> {
        if world.strangers.since(candidate).is_some() {
            // Another stands there since it was read (P11).
            return None;
        }
        let restarted = |stopped: &u64| world.fleet.server(candidate).started_ms > *stopped;
        let of_candidate = self.stopped.get(&(record.id, decision.candidate.server.clone()));
        if of_candidate.is_some_and(restarted) {
            // What it lost since it was read, nobody has seen: it is held against what it must hold before it is made writable.
            return None;
        }
        let held = in_hand(world, candidate);
        let passed = |server: &ServerId| record.passed_over.iter().any(|passed| &passed.server == server);
        let seen = |server: &ServerId| self.stopped.get(&(record.id, server.clone()));
        let stopped = |server: &ServerId| seen(server).is_some_and(|at| *at <= proposed);
        let others = decision.siblings.iter().map(|sibling| &sibling.target);
        let mut others = others.filter(|other| stopped(&other.server) && !passed(&other.server));
        let better = others.find(|other| {
            let Some(no) = world.server_at(&other.address) else { return false };
            let well = world.fleet.server(no).channels.iter().all(|channel| channel.applier_error.is_none());
            let theirs = in_hand(world, no);
            well && !world.errant.contains_key(&no)
                && !world.restarted.contains(&no)
                && theirs.contains(&held)
                && !held.contains(&theirs)
        });
        better.map(|other| other.address.clone())
    }
}
