//! Ackers (semi-sync): enough of them follow the still read-only candidate before it takes writes; and what one of them received since
//! its receiver was seen stopped ends the failover, for an old primary that is back may have told a client so (P6).

use super::{
    Context, Effect, Machine, Purpose, Stage,
    stages::{POINT_MS, QUICK_MS},
};
use crate::{
    core::{
        plan::step::{Action, StepEnd, Target},
        replicated::{
            MemberState,
            recovery::{Decision, Waiver},
        },
    },
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, gtid::GtidSet},
};

/// A drain that takes so long leaves a server the time to be started anew.
const LONG_DRAIN_MS: u64 = 1_000;
/// How long the other ackers are waited for behind such a drain, where enough of them follow.
const ACKERS_APART_MS: u64 = 1_000;

impl Machine {
    /// What an acker in service holds beyond a predecessor's decision, which under semi-sync left out nothing that was read.
    pub(super) fn acknowledged_since(&self, decision: &Decision, context: &Context<'_>) -> Option<String> {
        let (_, ackers) = self.recovery.semi_sync.as_ref()?;
        if self.is_switchover() || self.recovery.waived.contains(&Waiver::Loss) {
            return None;
        }
        let members = &context.state.clusters.get(&self.recovery.cluster)?.members;
        ackers.iter().filter(|acker| **acker != decision.candidate.server).find_map(|acker| {
            let (member, facts) = (members.get(acker)?, self.sets.facts.get(acker)?);
            let received = beyond(decision, &decision.must_hold, facts);
            let counts = member.state == MemberState::Normal && !received.is_empty();
            counts.then(|| format!("{} received {received} after the decision", member.address))
        })
    }

    pub(super) fn start_ackers(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let decision = self.decided();
        let Some(acks) = decision.semi_sync_acks.filter(|_| !planted(Mistake::AckersAfterWritable)) else {
            return self.start_commit(context);
        };
        self.enter(Stage::Ackers, context.now_ms);
        let mut effects = vec![self.run(
            Purpose::SemiSyncSource,
            decision.candidate.clone(),
            Action::EnableSemiSyncSource { acks },
            QUICK_MS,
        )];
        for acker in decision.ackers.clone() {
            self.touched.insert(acker.target.server.clone());
            let action = self.point_at(&decision.candidate, &acker.channel, Some(true), None);
            effects.push(self.run(Purpose::Acker, acker.target, action, POINT_MS));
        }
        effects
    }

    pub(super) fn acker_ended(
        &mut self,
        purpose: Purpose,
        acker: &Target,
        end: StepEnd,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        let news = end.facts().filter(|_| purpose == Purpose::Acker && self.stage == Stage::Ackers);
        if let Some(received) = news.and_then(|facts| self.received_since(acker, facts)) {
            let why = format!(
                "{} received {received} after its receiver had been seen stopped: it was started anew, and the old primary lives",
                acker.address
            );
            return self.start_undo(why, context);
        }
        if end.is_done() {
            match purpose {
                Purpose::SemiSyncSource => self.semi_sync_source_on = true,
                _ => self.ackers_done += 1,
            }
        }
        if self.stage != Stage::Ackers {
            return Vec::new();
        }
        let needed = self.decided().semi_sync_acks.unwrap_or(0);
        if self.semi_sync_source_on && self.ackers_done >= needed {
            return self.ackers_settled(context);
        }
        let waiting = self.waiting_for(Purpose::Acker) || self.waiting_for(Purpose::SemiSyncSource);
        match waiting {
            true => Vec::new(),
            false => self.start_undo(
                format!("{} of {needed} ackers follow the candidate ({end})", self.ackers_done),
                context,
            ),
        }
    }

    /// Enough of them follow. Where the drain took long, the others are heard, too: one of them may have been started anew since.
    pub(super) fn ackers_settled(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let needed = self.decided().semi_sync_acks.unwrap_or(0);
        let enough = self.semi_sync_source_on && self.ackers_done >= needed;
        let drained_long = self.since_ms.saturating_sub(self.decided_ms) >= LONG_DRAIN_MS;
        let in_time = context.now_ms.saturating_sub(self.since_ms) < ACKERS_APART_MS;
        match enough && !(drained_long && in_time && self.waiting_for(Purpose::Acker)) {
            true => self.start_commit(context),
            false => Vec::new(),
        }
    }

    /// What an acker holds that is not the candidate's and that it did not hold when the decision was taken. A server that is
    /// started anew starts its receiver by itself, and acknowledges again what an old primary that came back commits (P6).
    pub(super) fn received_since(&self, acker: &Target, now: &ServerFacts) -> Option<GtidSet> {
        let decision = self.decided();
        if self.is_switchover() || self.recovery.waived.contains(&Waiver::Loss) {
            return None;
        }
        let before = self.sets.facts.get(&acker.server)?;
        let received = beyond(&decision, &before.in_hand(), now);
        (!received.is_empty()).then_some(received)
    }
}

/// What a server holds beyond a decision and what is `known` of it. Not what it or the candidate wrote; nor, on MariaDB, what
/// stands below a place that was known: of what was received only that is told, and the rest shows when it is applied.
fn beyond(decision: &Decision, known: &GtidSet, facts: &ServerFacts) -> GtidSet {
    let now = facts.in_hand();
    let own = [&facts.identity, &decision.candidate.identity].map(|identity| now.written_by(identity));
    let passed = [&decision.must_hold, known].map(|known| now.passed_at(known));
    let known = [&decision.must_hold, &decision.lost, known].into_iter().chain(&own).chain(&passed);
    known.fold(now.clone(), |left, known| left.subtract(known))
}
