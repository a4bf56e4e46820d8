//! Undoing: what was stopped is started again, what was fenced is opened, who was pointed elsewhere is pointed back.
//! Says what could not be undone (P7).

use super::{Context, Effect, Machine, Purpose, Stage};
use crate::{
    core::{
        plan::step::{Action, Step, StepEnd, Target},
        replicated::recovery::{Ending, Revoked},
    },
    model::server::ServerId,
};

/// How long undoing may take before the recovery ends with what could not be undone named.
const UNDO_MAX_MS: u64 = 15_000;
/// Bound of one undo step.
const UNDO_STEP_MS: u64 = 4_000;
/// A dead old primary cannot be opened; one that does not answer is not waited for long.
const UNFENCE_MS: u64 = 1_500;

impl Machine {
    pub(super) fn start_undo(&mut self, why: String, context: &Context<'_>) -> Vec<Effect> {
        assert!(self.stage < Stage::Commit, "past its point of no return a recovery only goes forward");
        self.cancel = Some(why);
        self.running.clear();
        self.enter(Stage::Undo, context.now_ms);
        let mut effects = Vec::new();
        let old = self.recovery.old_primary.clone();
        let unfence =
            Action::Unfence { semi_sync_acks: self.recovery.semi_sync.as_ref().map(|(acks, _)| *acks) };
        effects.push(self.run(Purpose::Undo, old.clone(), unfence, UNFENCE_MS));
        for revoked in self.recovery.revoked.clone() {
            if self.touched.contains(&revoked.target.server) {
                let action = self.undo_action(&revoked, &old);
                effects.push(self.run(Purpose::Undo, revoked.target, action, UNDO_STEP_MS));
            }
        }
        effects
    }

    /// Whoever may have been pointed at the candidate, or detached, is pointed back; the others' receivers start.
    fn undo_action(&self, revoked: &Revoked, old: &Target) -> Action {
        let moved = self.decision.as_ref().is_some_and(|d| {
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

    pub(super) fn undo_ended(&mut self, step: &Step, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        if !end.is_done() {
            self.undone.push(format!("{step} {end}"));
        }
        self.maybe_finish_undo(context)
    }

    pub(super) fn maybe_finish_undo(&mut self, context: &Context<'_>) -> Vec<Effect> {
        if self.stage != Stage::Undo {
            return Vec::new();
        }
        let over_time = context.now_ms.saturating_sub(self.since_ms) > UNDO_MAX_MS;
        if self.waiting_for(Purpose::Undo) && !over_time {
            return Vec::new();
        }
        let mut reason = self.cancel.clone().unwrap_or_default();
        if !self.undone.is_empty() {
            reason += &format!("; could not be undone: {}", self.undone.join("; "));
        }
        self.finish(Ending::Cancelled, reason, context)
    }
}
