//! Undoing: what was stopped is started again, what was fenced is opened, who was pointed elsewhere is pointed back.
//! Says what could not be undone (P7). The replicas have a bounded time; the old primary has not: as long as a fence may
//! still land there the recovery is not ended, and that server is shown as *fence unknown*. Only a failover supersedes it.

use super::{Context, Effect, Machine, Purpose, Stage};
use crate::{
    core::{
        plan::step::{Action, Step, StepEnd, Target},
        replicated::{
            Change, MemberState,
            recovery::{Ending, Revoked},
        },
    },
    mistake::{Mistake, planted},
    model::{gtid::GtidSet, server::ServerId},
};

/// How long the replicas may take before what could not be undone there is named.
const UNDO_MAX_MS: u64 = 15_000;
/// Bound of one undo step.
const UNDO_STEP_MS: u64 = 4_000;
/// Pause before a step that did not end well is tried again.
const UNDO_AGAIN_MS: u64 = 500;
/// Bound of one step of opening the old primary; an attempt that ends is begun again.
const REOPEN_MS: u64 = 1_500;

/// A replica on which the undoing has not ended well so far.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    /// What is to be done there.
    step: Step,
    /// How the last attempt ended.
    end: String,
    /// When the next one begins, monotonic milliseconds; `None` while one is under way.
    next_ms: Option<u64>,
}

impl Machine {
    pub(super) fn start_undo(&mut self, why: String, context: &Context<'_>) -> Vec<Effect> {
        assert!(self.stage < Stage::Commit, "past its point of no return a recovery only goes forward");
        self.cancel = Some(why.clone());
        // What is still under way is not waited for, but for the fence: its end tells whether there is one.
        self.running.retain(|_, running| running.purpose == Purpose::Fence);
        self.enter(Stage::Undo, context.now_ms);
        let fence_unknown = self.fences.open();
        let mut effects =
            vec![Effect::Propose(Change::BeginUndo { recovery: self.recovery.id, why, fence_unknown })];
        let old = self.recovery.old_primary.clone();
        for revoked in self.recovery.revoked.clone() {
            let seen = self.sets.facts.contains_key(&revoked.target.server);
            let forgotten = !seen && planted(Mistake::UndoForgetsUnknownStops);
            if self.touched.contains(&revoked.target.server) && !forgotten {
                let action = self.undo_action(&revoked, &old);
                effects.push(self.run(Purpose::Undo, revoked.target, action, UNDO_STEP_MS));
            }
        }
        effects.extend(self.reopen(context));
        effects
    }

    // ---- The old primary, on which a fence may have landed or may yet land.

    /// Begins an attempt to open it, where one is due: first the sessions of all nodes are seen gone.
    fn reopen(&mut self, context: &Context<'_>) -> Option<Effect> {
        let fence_ms = if self.is_switchover() { 0 } else { self.policy.revoke_deadline_ms };
        if !self.fences.try_now(context.now_ms, fence_ms) {
            return None;
        }
        let old = self.recovery.old_primary.clone();
        Some(self.run(Purpose::Reopen, old, Action::KillPredecessors, REOPEN_MS))
    }

    pub(super) fn reopen_ended(
        &mut self,
        step: &Step,
        end: StepEnd,
        began_ms: u64,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        if end.is_done() && step.action == Action::KillPredecessors {
            if !self.fences.open() {
                // Every fence was refused meanwhile: there is nothing to open.
                self.fences.left_alone();
                return self.maybe_finish_undo(context);
            }
            let semi_sync_acks = self.recovery.semi_sync.as_ref().map(|(acks, _)| *acks);
            let must_hold = self.written_by_old_primary(context);
            let action = Action::Unfence { semi_sync_acks, must_hold };
            return vec![self.run(Purpose::Reopen, step.target.clone(), action, REOPEN_MS)];
        }
        let mut effects = Vec::new();
        if self.fences.tried(&end, context.now_ms) {
            effects.push(Effect::Record(vec![self.record(context, step, &end, began_ms)]));
        }
        effects.extend(self.maybe_finish_undo(context));
        effects
    }

    /// What the old primary wrote, as far as it or any member in service was seen to hold it: what stands on others is not
    /// the cluster's.
    fn written_by_old_primary(&self, context: &Context<'_>) -> GtidSet {
        let Target { server: old, identity, .. } = &self.recovery.old_primary;
        let cluster = context.state.clusters.get(&self.recovery.cluster);
        let in_service = |server: &ServerId| {
            let member = cluster.and_then(|cluster| cluster.members.get(server));
            server == old || member.is_some_and(|member| member.state == MemberState::Normal)
        };
        let held = self.sets.facts.iter().filter(|(server, _)| in_service(server));
        let held = held.map(|(_, facts)| facts.in_hand());
        let marks =
            self.sets.marks.iter().chain(&context.known.marks).filter(|(server, _)| in_service(server));
        let seen = held.chain(marks.map(|(_, mark)| mark.held.clone())).chain(self.sets.old_primary.clone());
        seen.map(|set| set.written_by(identity))
            .reduce(|mut all, set| {
                all.merge(&set);
                all
            })
            .unwrap_or_else(|| GtidSet::empty(identity.flavor))
    }

    // ---- The replicas.

    /// Whoever may have been pointed at the candidate, or detached, is pointed back; the others' receivers start.
    fn undo_action(&self, revoked: &Revoked, old: &Target) -> Action {
        // A predecessor may have gone further with one that was passed over since, and what this one superseded may have
        // pointed anybody at a candidate of its own.
        let before = self.resumed && !self.recovery.passed_over.is_empty();
        // Read by this one, behind the end of the other's sessions: it follows the old primary still.
        let stayed = self.sets.facts.get(&revoked.target.server).is_some_and(|facts| {
            let channel = facts.channels.iter().find(|channel| channel.name == revoked.channel);
            channel.is_some_and(|channel| channel.source == old.address)
        });
        let moved = before
            || (self.recovery.supersedes.is_some() && !stayed)
            || self.decision.as_ref().is_some_and(|d| {
                let is = |server: &ServerId| server == &revoked.target.server;
                is(&d.candidate.server) || d.ackers.iter().any(|a| is(&a.target.server))
            });
        match moved {
            true => match self.point_at(old, &revoked.channel, None, None) {
                Action::Point { channel, options, semi_sync_replica, .. } => {
                    Action::Point { channel, options, semi_sync_replica, wait: false }
                }
                other => other,
            },
            false => Action::StartReceiver { channel: revoked.channel.clone() },
        }
    }

    /// A cut or a lost session is no reason to leave a replica as it is while there is time.
    pub(super) fn undo_ended(
        &mut self,
        step: &Step,
        end: &StepEnd,
        began_ms: u64,
        context: &Context<'_>,
    ) -> Vec<Effect> {
        let server = &step.target.server;
        let before = self.unfinished.remove(server);
        let said = end.to_string();
        let is_news = before.is_none_or(|before| before.end != said);
        if !end.is_done() {
            let next_ms = Some(context.now_ms + UNDO_AGAIN_MS);
            self.unfinished.insert(server.clone(), Unfinished { step: step.clone(), end: said, next_ms });
        }
        let mut effects = self.maybe_finish_undo(context);
        if is_news {
            effects.push(Effect::Record(vec![self.record(context, step, end, began_ms)]));
        }
        effects
    }

    /// Tries again, where it is due, what did not end well on a replica.
    fn undo_again(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let mut due = Vec::new();
        for unfinished in self.unfinished.values_mut() {
            if unfinished.next_ms.take_if(|next| context.now_ms >= *next).is_some() {
                due.push(unfinished.step.clone());
            }
        }
        due.into_iter()
            .map(|Step { target, action }| self.run(Purpose::Undo, target, action, UNDO_STEP_MS))
            .collect()
    }

    pub(super) fn maybe_finish_undo(&mut self, context: &Context<'_>) -> Vec<Effect> {
        if self.stage != Stage::Undo {
            return Vec::new();
        }
        let mut effects: Vec<Effect> = self.reopen(context).into_iter().collect();
        let over_time = context.now_ms.saturating_sub(self.since_ms) > UNDO_MAX_MS;
        // As long as it can end in time; or while the old primary is waited for anyway.
        let in_time = context.now_ms.saturating_sub(self.since_ms) + UNDO_STEP_MS <= UNDO_MAX_MS;
        if in_time || self.fences.open() {
            effects.extend(self.undo_again(context));
        }
        let again = !self.unfinished.is_empty() && in_time;
        let replicas = (self.waiting_for(Purpose::Undo) && !over_time) || again;
        // Nothing is sent to the old primary once the recovery has ended (P1): an attempt under way ends first.
        let primary = self.fences.open() || self.waiting_for(Purpose::Reopen);
        if replicas || primary || !self.undo_committed {
            return effects;
        }
        effects.extend(self.finish(Ending::Cancelled, self.undo_reason(), context));
        effects
    }

    fn undo_reason(&self) -> String {
        let mut reason = self.cancel.clone().unwrap_or_default();
        if self.fences.opened() {
            reason += &format!("; {} was seen open", self.recovery.old_primary.address);
        }
        let waiting = self.running.values().filter(|running| running.purpose == Purpose::Undo);
        let unheard = waiting.map(|running| format!("{} has not ended", running.step));
        let ended = self.unfinished.values().filter(|unfinished| unfinished.next_ms.is_some());
        let failed = ended.map(|unfinished| format!("{} {}", unfinished.step, unfinished.end));
        let undone: Vec<String> = self.undone.iter().cloned().chain(failed).chain(unheard).collect();
        if !undone.is_empty() {
            reason += &format!("; could not be undone: {}", undone.join("; "));
        }
        reason
    }
}
