//! The stages, each: how it starts, what ends it.

use std::collections::BTreeSet;

use super::{Context, Effect, Machine, Purpose, Stage};
use crate::{
    core::{
        plan::{
            choose,
            step::{Action, SourceOptions, Step, StepEnd, Target},
        },
        replicated::{
            Change,
            recovery::{Decision, Ending, Kind, Revoked},
        },
    },
    mistake::{Mistake, planted},
    model::server::ServerId,
};

/// How often making the candidate writable, or proving it, is tried before the recovery is called failed.
const WRITABLE_TRIES: u32 = 5;
/// Bound of one statement that should take milliseconds.
pub(super) const QUICK_MS: u64 = 3_000;
/// What a receiver's stop may take beyond the deadline of revocation, where without it nobody can be promoted: MySQL stops
/// one that tries to connect to a silent host in 2.0 to 2.3 s (measured on 9.7).
const SLOW_STOP_MS: u64 = 2_500;
/// Once the first of these has ended: how long the others are waited for. They began together and take the same time, and what
/// they hold may be more.
const SLOW_STOPS_APART_MS: u64 = 500;
/// Bound of pointing a replica, its connection included.
pub(super) const POINT_MS: u64 = 15_000;

impl Machine {
    // ---- Clear: a successor makes sure that no predecessor's session is left on a server it will use.

    pub(super) fn start_clear(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let mut targets: Vec<Target> = self.recovery.revoked.iter().map(|r| r.target.clone()).collect();
        if let Some(decision) = &self.decision {
            targets.extend(decision.siblings.iter().map(|s| s.target.clone()));
            targets.push(decision.candidate.clone());
        }
        if self.is_switchover() {
            targets.push(self.recovery.old_primary.clone());
        }
        self.clear(targets, context)
    }

    /// Sees every other node's session gone from these.
    pub(super) fn clear(&mut self, mut targets: Vec<Target>, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Clear, context.now_ms);
        targets.sort_by(|a, b| a.server.cmp(&b.server));
        targets.dedup_by(|a, b| a.server == b.server);
        let mut effects: Vec<Effect> = targets
            .into_iter()
            .map(|target| self.run(Purpose::Clear, target, Action::KillPredecessors, QUICK_MS))
            .collect();
        if effects.is_empty() {
            effects = self.start_work(context);
        }
        effects
    }

    pub(super) fn clear_ended(
        &mut self,
        server: &ServerId,
        end: &StepEnd,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        if !end.is_done() {
            self.left_behind.insert(server.clone(), format!("a predecessor's session may live on: {end}"));
        }
        if self.waiting_for(Purpose::Clear) {
            return Vec::new();
        }
        self.start_work(context)
    }

    // ---- Revoke, and the fence from every node beside it.

    pub(super) fn start_revoke(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Revoke, context.now_ms);
        let revoked: Vec<Revoked> = self.usable(self.recovery.revoked.clone());
        let mut effects = Vec::new();
        if !planted(Mistake::FenceAfterPromote) {
            let step = Step { target: self.recovery.old_primary.clone(), action: Action::Fence };
            effects.push(Effect::FenceEverywhere { step, deadline_ms: self.policy.revoke_deadline_ms });
            context.fencers.iter().for_each(|node| self.fences.asked(*node));
        }
        for Revoked { target, channel } in revoked {
            self.touched.insert(target.server.clone());
            let deadline = self.policy.revoke_deadline_ms + SLOW_STOP_MS;
            effects.push(self.run(Purpose::Revoke, target, Action::StopReceiver { channel }, deadline));
        }
        effects.extend(self.maybe_decide(context));
        effects
    }

    /// Servers on which a predecessor's session may live on are no candidates and are not touched.
    fn usable(&self, revoked: Vec<Revoked>) -> Vec<Revoked> {
        revoked.into_iter().filter(|r| !self.left_behind.contains_key(&r.target.server)).collect()
    }

    /// Revocation is over when every receiver's stop ended, or at its deadline when those that ended are enough, or a moment
    /// after the first that ended later; the fence
    /// when every node's attempt ended or its own short deadline passed. Then, and only then, the sets are judged.
    pub(super) fn maybe_decide(&mut self, context: &Context<'_>) -> Vec<Effect> {
        if !matches!(self.stage, Stage::Revoke | Stage::Fence) {
            return Vec::new();
        }
        if let Some(how) = self.alive_and_fenced() {
            return self.start_undo(how, context);
        }
        if self.waiting_for_stops(context) && !self.stops_are_overdue(context) {
            return Vec::new();
        }
        let reading = [Purpose::Read, Purpose::Fence, Purpose::KillWriters];
        if reading.into_iter().any(|purpose| self.waiting_for(purpose)) {
            return Vec::new();
        }
        if self.stage == Stage::Revoke && !self.fence_settled(context) {
            return Vec::new();
        }
        match &self.decision {
            Some(decision) if !planted(Mistake::DecidedAnewBySuccessor) => {
                self.resume_decision(decision.clone(), context)
            }
            _ => self.start_decide(context),
        }
    }

    /// A witness that tries to connect to a silent host stops slowly (MySQL): it is waited for only where the decision needs
    /// it, or a person asked: the primary may be alive then, and have sent it more since it was looked at.
    fn waiting_for_stops(&self, context: &Context<'_>) -> bool {
        let witness = context.state.clusters.get(&self.recovery.cluster).and_then(|c| c.witness.as_ref());
        let witness = witness.filter(|_| self.recovery.requested_by.is_none());
        let mut stopping = self.running.values().filter(|r| r.purpose == Purpose::Revoke);
        stopping.any(|r| witness.is_none_or(|w| w.target.server != r.step.target.server))
    }

    /// Whether one that is still being stopped may hold what this decision would lose.
    fn may_miss(&self, decision: &Decision) -> bool {
        let mut stopping = self.running.values().filter(|r| r.purpose == Purpose::Revoke);
        stopping.any(|r| {
            let mark = self.sets.marks.get(&r.step.target.server);
            !decision.lost.is_empty() || mark.is_some_and(|mark| !decision.must_hold.contains(&mark.held))
        })
    }

    fn stops_are_overdue(&self, context: &Context<'_>) -> bool {
        let together = self.late_stop_ms.is_none_or(|at| context.now_ms >= at + SLOW_STOPS_APART_MS);
        self.revocation_is_late(context) && (together || planted(Mistake::FirstSlowStopWins))
    }

    pub(super) fn note_late_stop(&mut self, context: &Context<'_>) {
        if self.stage == Stage::Revoke && self.revocation_is_late(context) {
            self.late_stop_ms.get_or_insert(context.now_ms);
        }
    }

    fn revocation_is_late(&self, context: &Context<'_>) -> bool {
        context.now_ms.saturating_sub(self.since_ms) >= self.policy.revoke_deadline_ms
    }

    fn fence_settled(&self, context: &Context<'_>) -> bool {
        let all = context.fencers.iter().all(|node| self.fence_ends.contains_key(node));
        let fenced = self.fence_ends.values().any(StepEnd::is_done);
        let waited = context.now_ms.saturating_sub(self.since_ms) >= self.policy.fence_deadline_ms;
        all || fenced || waited
    }

    /// A fence that succeeded in an automatic failover means that the primary lives: nothing may be promoted (P4).
    fn alive_and_fenced(&self) -> Option<String> {
        if self.recovery.kind != Kind::Failover {
            return None;
        }
        let node = self.fence_ends.iter().find(|(_, end)| end.is_done()).map(|(node, _)| node)?;
        Some(format!("the old primary is alive: node {node} could fence it, and nothing was promoted"))
    }

    // ---- Switchover: the old primary read-only, everybody's sets.

    pub(super) fn start_fence(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Fence, context.now_ms);
        self.fence_and_read(context)
    }

    fn fence_and_read(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.fences.asked(context.node);
        let old = self.recovery.old_primary.clone();
        self.touched.insert(old.server.clone());
        let lock_wait_s = self.policy.switchover_pause_ms.div_ceil(1_000).max(1);
        let deadline = self.policy.switchover_pause_ms + 1_000;
        let mut effects = vec![self.run(Purpose::Fence, old, Action::MakeReadOnly { lock_wait_s }, deadline)];
        for Revoked { target, .. } in self.usable(self.recovery.revoked.clone()) {
            effects.push(self.run(Purpose::Read, target, Action::ReadFacts, QUICK_MS));
        }
        effects
    }

    pub(super) fn switchover_fence_ended(
        &mut self,
        step: &Step,
        end: StepEnd,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        if self.stage != Stage::Fence {
            return Vec::new();
        }
        match end {
            StepEnd::Done(report) => {
                let Some(facts) = report.facts else {
                    return self.start_undo("the old primary's set could not be read".into(), context);
                };
                self.sets.old_primary = Some(facts.executed.clone());
                self.maybe_decide(context)
            }
            other if self.recovery.kill_writers && !self.kill_tried => {
                self.kill_tried = true;
                self.undone.push(format!("read-only at the first try: {other}"));
                vec![self.run(Purpose::KillWriters, step.target.clone(), Action::KillWriters, QUICK_MS)]
            }
            other => self.start_undo(
                format!(
                    "the old primary could not be made read-only within {} ms ({other})",
                    self.policy.switchover_pause_ms
                ),
                context,
            ),
        }
    }

    pub(super) fn retry_fence(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.fence_and_read(context)
    }

    // ---- Decide.

    fn start_decide(&mut self, context: &Context<'_>) -> Vec<Effect> {
        // The other nodes' marks came in after it began.
        self.sets.marks = context.known.marks.clone();
        match choose::decide(context.state, &self.recovery, &self.sets) {
            // Whoever is still being stopped may be the one that is needed.
            Err(_) if self.waiting_for(Purpose::Revoke) => Vec::new(),
            Ok(decision) if self.may_miss(&decision) && !self.stops_are_overdue(context) => Vec::new(),
            Ok(decision) => {
                self.enter(Stage::Decide, context.now_ms);
                self.decided_ms = context.now_ms;
                self.decision = Some(decision.clone());
                vec![Effect::Propose(Change::DecidePromotion {
                    recovery: self.recovery.id,
                    decision: Box::new(decision),
                })]
            }
            Err(refusal) => self.start_undo(refusal.to_string(), context),
        }
    }

    /// A successor goes by the committed decision when the candidate is there and still holds what it must.
    fn resume_decision(&mut self, decision: Decision, context: &Context<'_>) -> Vec<Effect> {
        if let Some(why) = self.acknowledged_since(&decision, context) {
            return self.start_undo(why, context);
        }
        let candidate = &decision.candidate;
        let holds = self.sets.facts.get(&candidate.server).is_some_and(|facts| {
            let detached = facts.channels.is_empty();
            let held = if detached { facts.executed.clone() } else { facts.in_hand() };
            held.contains(&decision.must_hold) || self.is_switchover()
        });
        if !holds && self.waiting_for(Purpose::Revoke) {
            return Vec::new();
        }
        self.enter(Stage::Decide, context.now_ms);
        self.decided_ms = context.now_ms;
        match holds {
            true => self.start_drain(context),
            false => self.start_undo(
                format!("the chosen server {} is not there with what it held", candidate.address),
                context,
            ),
        }
    }

    // ---- Commit: intent and detachment side by side.

    pub(super) fn start_commit(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Commit, context.now_ms);
        let decision = self.decided();
        self.touched.insert(decision.candidate.server.clone());
        let action = Action::Detach { channel: decision.channel.clone(), until: decision.must_hold.clone() };
        let mut effects = Vec::new();
        if !self.intent_committed {
            effects.push(Effect::Propose(Change::RecordIntent { recovery: self.recovery.id }));
        }
        effects.push(self.run(Purpose::Detach, decision.candidate, action, QUICK_MS + 5_000));
        effects
    }

    pub(super) fn detach_ended(&mut self, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        if self.stage != Stage::Commit {
            return Vec::new();
        }
        if end.is_done() {
            self.detached = true;
            return self.maybe_promote(context);
        }
        self.writable_tries += 1;
        if self.writable_tries < WRITABLE_TRIES {
            let decision = self.decided();
            let action =
                Action::Detach { channel: decision.channel.clone(), until: decision.must_hold.clone() };
            return vec![self.run(Purpose::Detach, decision.candidate, action, QUICK_MS + 5_000)];
        }
        self.finish(Ending::Failed, format!("the candidate could not be detached: {end}"), context)
    }

    pub(super) fn maybe_promote(&mut self, context: &Context<'_>) -> Vec<Effect> {
        if self.stage != Stage::Commit || !self.intent_committed || !self.detached {
            return Vec::new();
        }
        self.enter(Stage::Writable, context.now_ms);
        self.writable_tries = 0;
        vec![self.writable_step()]
    }

    fn writable_step(&mut self) -> Effect {
        let candidate = self.decided().candidate;
        let must_hold = self.decided().must_hold;
        self.run(Purpose::Writable, candidate, Action::MakeWritable { must_hold }, QUICK_MS)
    }

    pub(super) fn writable_ended(&mut self, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        if !end.is_done() {
            self.writable_tries += 1;
            return match self.writable_tries < WRITABLE_TRIES {
                true => vec![self.writable_step()],
                false => self.finish(
                    Ending::Failed,
                    format!("the candidate could not be made writable: {end}"),
                    context,
                ),
            };
        }
        if !self.policy.verify_by_write {
            return self.start_publish(context);
        }
        self.enter(Stage::Verify, context.now_ms);
        self.writable_tries = 0;
        vec![self.verify_step()]
    }

    fn verify_step(&mut self) -> Effect {
        let candidate = self.decided().candidate;
        let action =
            Action::VerifyWrite { recovery: self.recovery.id.to_string(), epoch: self.recovery.epoch + 1 };
        self.run(Purpose::Verify, candidate, action, QUICK_MS)
    }

    pub(super) fn verify_ended(&mut self, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        let must_hold = self.decided().must_hold;
        let lost =
            end.facts().map(|facts| must_hold.subtract(&facts.executed)).filter(|lost| !lost.is_empty());
        if let Some(lost) = lost {
            let why = format!("the candidate is set writable, and has lost {lost} since it was drained");
            return self.finish(Ending::Failed, why, context);
        }
        if end.is_done() {
            return self.start_publish(context);
        }
        self.writable_tries += 1;
        match self.writable_tries < WRITABLE_TRIES {
            true => vec![self.verify_step()],
            false if planted(Mistake::PublishedUnverified) => self.start_publish(context),
            false => self.finish(
                Ending::Failed,
                format!("the candidate is set writable, but a write could not be proven: {end}"),
                context,
            ),
        }
    }

    fn start_publish(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Publish, context.now_ms);
        let mut effects = vec![Effect::Propose(Change::Publish { recovery: self.recovery.id })];
        if planted(Mistake::RepointedBeforePublished) {
            effects.extend(self.start_repoint(context));
        }
        effects
    }

    // ---- Re-point.

    pub(super) fn start_repoint(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Repoint, context.now_ms);
        let decision = self.decided();
        let done: BTreeSet<ServerId> = self.repointed.clone();
        let mut effects = Vec::new();
        for sibling in decision.siblings.iter().filter(|s| !done.contains(&s.target.server)) {
            if sibling.target.server == self.recovery.old_primary.server && decision.semi_sync_acks.is_some()
            {
                let action = Action::DisableSemiSyncSource;
                effects.push(self.run(Purpose::Repoint, sibling.target.clone(), action, QUICK_MS));
                continue;
            }
            effects.push(self.repoint_step(&decision, sibling));
        }
        if effects.is_empty() {
            return self.finish_succeeded(context);
        }
        effects
    }

    fn repoint_step(&mut self, decision: &Decision, sibling: &Revoked) -> Effect {
        let old = sibling.target.server == self.recovery.old_primary.server;
        let acker = decision.semi_sync_acks.is_some();
        // A former MariaDB primary has no slave position, or a stale one: it resumes from its own binlog's end.
        let position = old.then(|| decision.must_hold.position().to_string());
        let channel = if old { String::new() } else { sibling.channel.clone() };
        let action = self.point_at(&decision.candidate, &channel, acker.then_some(true), position);
        self.run(Purpose::Repoint, sibling.target.clone(), action, POINT_MS)
    }

    pub(super) fn repoint_ended(
        &mut self,
        server: &ServerId,
        action: &Action,
        end: StepEnd,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let decision = self.decided();
        match (action, end) {
            (Action::DisableSemiSyncSource, _) => {
                if let Some(sibling) = decision.siblings.iter().find(|s| &s.target.server == server) {
                    effects.push(self.repoint_step(&decision, sibling));
                }
            }
            (_, StepEnd::Done(_)) => {
                self.repointed.insert(server.clone());
                self.left_behind.remove(server);
            }
            (_, end) => {
                self.left_behind.insert(server.clone(), end.to_string());
            }
        }
        if !self.waiting_for(Purpose::Repoint) {
            effects.extend(self.finish_succeeded(context));
        }
        effects
    }

    fn finish_succeeded(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let decision = self.decided();
        let mut reason = format!("{} is the primary", decision.candidate.address);
        if !decision.lost.is_empty() {
            reason += &format!("; known lost: {}", decision.lost);
        }
        if decision.unprotected.is_some() {
            reason += "; unprotected: semi-sync is off";
        }
        if !self.left_behind.is_empty() {
            reason += &format!("; {} left behind", self.left_behind.len());
        }
        self.finish(Ending::Succeeded, reason, context)
    }

    pub(super) fn finish(&mut self, ending: Ending, reason: String, context: &Context<'_>) -> Vec<Effect> {
        // A predecessor that died past the point of no return may have sent it too.
        let told = self.stage >= Stage::Writable || self.resumed && self.intent_committed;
        let candidate_open = ending == Ending::Failed && told && self.stage < Stage::Repoint;
        self.enter(Stage::Finish, context.now_ms);
        let reason = match (ending, self.fences.open()) {
            (Ending::Failed, _) if candidate_open => format!(
                "{reason}; {} may take writes, or may yet: it is fenced as soon as it answers",
                self.decided().candidate.address
            ),
            (Ending::Failed, true) => {
                format!(
                    "{reason}; the old primary is fenced, or may be once it answers: nothing opens it again"
                )
            }
            _ => reason,
        };
        self.ending = Some((ending, reason.clone()));
        vec![Effect::Propose(Change::FinishRecovery {
            recovery: self.recovery.id,
            ending,
            reason,
            left_behind: self.left_behind.clone().into_iter().collect(),
            repointed: self.repointed.iter().cloned().collect(),
            candidate_open,
        })]
    }

    // ---- Shared.

    pub(super) fn decided(&self) -> Decision {
        self.decision.clone().expect("stages from Drain on are entered with a decision")
    }

    pub(super) fn point_at(
        &self,
        source: &Target,
        channel: &str,
        semi_sync_replica: Option<bool>,
        gtid_slave_pos: Option<String>,
    ) -> Action {
        Action::Point {
            channel: channel.to_owned(),
            options: SourceOptions {
                source: source.address.clone(),
                heartbeat_ms: self.policy.heartbeat_ms,
                connect_retry_s: self.policy.connect_retry_s,
                gtid_slave_pos,
            },
            semi_sync_replica,
            wait: true,
        }
    }
}
