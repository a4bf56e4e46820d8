//! The one way a recovery moves: an event in, effects out.

use super::{Context, Effect, Event, Machine, Purpose, Stage};
use crate::core::{
    plan::step::{StepEnd, Target},
    replicated::{Outcome, recovery::Phase},
};
use crate::mistake::{Mistake, planted};

impl Machine {
    /// Advances by one event.
    pub fn advance(&mut self, event: Event, context: &Context<'_>) -> Vec<Effect> {
        if self.stage == Stage::Over {
            return Vec::new();
        }
        match event {
            Event::Begin { resumed } => self.begin(resumed, context),
            Event::StepEnded { id, end, began_ms } => self.step_ended(id, end, began_ms, context),
            Event::FenceEnded { node, end } => self.fence_ended(node, end, context),
            Event::Committed { outcome } => self.committed(outcome, context),
            Event::PrimaryAnswers { how } => self.primary_answers(how, context),
            Event::Cancel { why } => self.cancelled(why, context),
            Event::Tick => self.tick(context),
        }
    }

    fn begin(&mut self, resumed: bool, context: &Context<'_>) -> Vec<Effect> {
        assert_eq!(self.stage, Stage::New, "a recovery begins once in a process");
        self.resumed = resumed;
        self.sets = context.known.clone();
        if resumed || self.recovery.supersedes.is_some() {
            self.fences.inherited();
            // Whatever a predecessor may have touched is undone with the rest.
            self.touched = self.recovery.revoked.iter().map(|r| r.target.server.clone()).collect();
        }
        match resumed {
            true => self.start_clear(context),
            false => match self.touched_by_others(context) {
                targets if targets.is_empty() => self.start_work(context),
                targets => self.clear(targets, context),
            },
        }
    }

    /// Where a statement of another node may still start a receiver that is stopped here: what it supersedes may have been
    /// undone by that node, and a witness may have been called by it.
    fn touched_by_others(&self, context: &Context<'_>) -> Vec<Target> {
        let superseding = self.recovery.supersedes.is_some();
        let undone = self.recovery.revoked.iter().filter(|_| superseding).map(|r| r.target.clone());
        undone.chain(self.foreign_witness(context)).collect()
    }

    /// A witness that another leader called: a statement of its may still start a receiver that is stopped here.
    fn foreign_witness(&self, context: &Context<'_>) -> Option<Target> {
        let cluster = context.state.clusters.get(&self.recovery.cluster)?;
        let witness = cluster.witness.as_ref().filter(|w| w.owner != self.recovery.owner && !w.settled)?;
        Some(witness.target.clone())
    }

    /// The first stage by committed phase.
    pub(super) fn start_work(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let undoable = self.recovery.phase < Phase::Intent;
        // Given up once, it is never gone on with.
        let given_up = self.recovery.undo.as_ref().map(|undo| undo.why.clone());
        if let Some(why) = given_up.or(self.cancel_pending.take()).filter(|_| undoable) {
            return self.start_undo(why, context);
        }
        match (self.recovery.phase, self.is_switchover()) {
            (Phase::Started | Phase::Decided, false) => self.start_revoke(context),
            (Phase::Started | Phase::Decided, true) => self.start_fence(context),
            (Phase::Intent, _) => self.start_commit(context),
            (Phase::Published, _) => self.start_repoint(context),
            (Phase::Ended, _) => self.over(),
        }
    }

    fn step_ended(&mut self, id: u32, end: StepEnd, began_ms: u64, context: &Context<'_>) -> Vec<Effect> {
        let Some(running) = self.running.remove(&id) else {
            return Vec::new();
        };
        match running.purpose {
            Purpose::Reopen => return self.reopen_ended(&running.step, end, began_ms, context),
            Purpose::Undo => return self.undo_ended(&running.step, &end, began_ms, context),
            _ => {}
        }
        if running.purpose == Purpose::Fence {
            self.fences.ended(context.node, &end);
        }
        let record = Effect::Record(vec![self.record(context, &running.step, &end, began_ms)]);
        let server = running.step.target.server.clone();
        let mut effects = match running.purpose {
            Purpose::Clear => self.clear_ended(&server, &end, context),
            Purpose::Revoke | Purpose::Read => {
                self.note_late_stop(context);
                if let Some(facts) = end.facts() {
                    self.sets.facts.insert(server, facts.clone());
                }
                self.maybe_decide(context)
            }
            Purpose::Fence => self.switchover_fence_ended(&running.step, end, context),
            Purpose::KillWriters => self.retry_fence(context),
            Purpose::Drain => self.drain_ended(end, context),
            Purpose::Acker | Purpose::SemiSyncSource => {
                self.acker_ended(running.purpose, &running.step.target, end, context)
            }
            Purpose::Detach => self.detach_ended(end, context),
            Purpose::Writable => self.writable_ended(end, context),
            Purpose::Verify => self.verify_ended(end, context),
            Purpose::Repoint => self.repoint_ended(&server, &running.step.action, end, context),
            Purpose::Undo | Purpose::Reopen => unreachable!("they were dealt with above"),
        };
        effects.push(record);
        effects
    }

    fn fence_ended(&mut self, node: u64, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        self.fences.ended(node, &end);
        self.fence_ends.insert(node, end);
        match self.stage {
            Stage::Revoke => self.maybe_decide(context),
            _ => Vec::new(),
        }
    }

    fn committed(&mut self, outcome: Outcome, context: &Context<'_>) -> Vec<Effect> {
        if let Outcome::Refused(refusal) = &outcome {
            return self.proposal_refused(refusal.to_string(), context);
        }
        match self.stage {
            Stage::Decide => {
                // The decision that counts is the committed one.
                self.recovery.phase = Phase::Decided;
                match planted(Mistake::DrainSkipped) {
                    true => self.start_ackers(context),
                    false => self.start_drain(context),
                }
            }
            Stage::Drain => self.drain_next(),
            Stage::Commit => {
                self.intent_committed = true;
                self.maybe_promote(context)
            }
            Stage::Publish => {
                self.recovery.phase = Phase::Published;
                self.start_repoint(context)
            }
            Stage::Undo => {
                self.undo_committed = true;
                self.fences.given_up(context.now_ms);
                self.maybe_finish_undo(context)
            }
            Stage::Finish => self.over(),
            _ => Vec::new(),
        }
    }

    /// A refused command of ours: somebody else owns the recovery now, or it was a mistake. Before the point of no
    /// return it is undone by whoever owns it; this process stops.
    fn proposal_refused(&mut self, why: String, _context: &Context<'_>) -> Vec<Effect> {
        self.undone.push(why);
        self.over()
    }

    fn primary_answers(&mut self, how: String, context: &Context<'_>) -> Vec<Effect> {
        if self.stage == Stage::Undo {
            self.fences.hurry();
            return self.maybe_finish_undo(context);
        }
        let clearing = matches!(self.stage, Stage::New | Stage::Clear);
        if clearing
            || self.is_switchover()
            || self.stage >= Stage::Commit
            || self.recovery.requested_by.is_some()
        {
            return Vec::new();
        }
        self.start_undo(format!("the old primary answers ({how}) and nothing was promoted"), context)
    }

    fn cancelled(&mut self, why: String, context: &Context<'_>) -> Vec<Effect> {
        match self.stage {
            Stage::New | Stage::Clear => {
                self.cancel_pending = Some(why);
                Vec::new()
            }
            stage if stage < Stage::Commit => self.start_undo(why, context),
            _ => Vec::new(),
        }
    }

    fn tick(&mut self, context: &Context<'_>) -> Vec<Effect> {
        match self.stage {
            Stage::Revoke => self.maybe_decide(context),
            Stage::Drain => self.drain_again(context),
            Stage::Ackers => self.ackers_settled(context),
            Stage::Undo => self.maybe_finish_undo(context),
            _ => Vec::new(),
        }
    }

    pub(super) fn over(&mut self) -> Vec<Effect> {
        self.stage = Stage::Over;
        vec![Effect::Over]
    }
}
