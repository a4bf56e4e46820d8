//! Draining: the candidate applies what it received before it may be made writable. What becomes of one that does not
//! by the deadline is policy: it is waited for, passed over for the next one, or the recovery is given up.

use super::{Context, Effect, Machine, Purpose, Stage};
use crate::{
    core::{
        plan::{
            next,
            step::{Action, StepEnd},
        },
        replicated::{Change, recovery::PassedOver},
    },
    model::policy::DrainPolicy,
};

/// Pause before a drain that was refused (a broken applier) is tried again.
const AGAIN_MS: u64 = 1_000;

impl Machine {
    pub(super) fn start_drain(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.enter(Stage::Drain, context.now_ms);
        vec![self.drain_step()]
    }

    fn drain_step(&mut self) -> Effect {
        self.drain_again_ms = None;
        let decision = self.decided();
        let deadline = match self.is_switchover() {
            true => self.policy.switchover_pause_ms,
            false => self.policy.drain_deadline_ms,
        };
        let action = Action::Drain { channel: decision.channel.clone(), until: decision.must_hold.clone() };
        self.run(Purpose::Drain, decision.candidate, action, deadline)
    }

    pub(super) fn drain_ended(&mut self, end: StepEnd, context: &Context<'_>) -> Vec<Effect> {
        if self.stage != Stage::Drain {
            return Vec::new();
        }
        if end.is_done() {
            return self.start_ackers(context);
        }
        let waited = context.now_ms.saturating_sub(self.since_ms);
        let may_wait = !self.is_switchover()
            && self.policy.drain_policy != DrainPolicy::Refuse
            && waited < self.policy.drain_max_ms;
        if !may_wait {
            let candidate = self.decided().candidate.address;
            return self.start_undo(
                format!("{candidate} did not apply what it received within {waited} ms ({end})"),
                context,
            );
        }
        if self.policy.drain_policy == DrainPolicy::NextCandidate
            && let Some(next) = self.propose_next(&end, context)
        {
            return vec![next];
        }
        match end {
            StepEnd::Refused { .. } => {
                self.drain_again_ms = Some(context.now_ms + AGAIN_MS);
                Vec::new()
            }
            _ => vec![self.drain_step()],
        }
    }

    pub(super) fn drain_again(&mut self, context: &Context<'_>) -> Vec<Effect> {
        match self.drain_again_ms.is_some_and(|at| context.now_ms >= at) {
            true => vec![self.drain_step()],
            false => Vec::new(),
        }
    }

    // ---- The next candidate, where policy wants it and one holds as much.

    /// `None`: nobody else may be chosen; the present one is waited for.
    fn propose_next(&mut self, end: &StepEnd, context: &Context<'_>) -> Option<Effect> {
        let why =
            format!("it did not apply what it received within {} ms ({end})", self.policy.drain_deadline_ms);
        // The decision that counts is the one this process goes by: its own copy is as committed.
        self.recovery.decision = self.decision.clone();
        let decision = next::choose(context.state, &self.recovery, &self.sets, &why).ok()?;
        self.next = Some(decision.clone());
        Some(Effect::Propose(Change::NextCandidate {
            recovery: self.recovery.id,
            why,
            decision: Box::new(decision),
        }))
    }

    /// It is committed.
    pub(super) fn drain_next(&mut self) -> Vec<Effect> {
        let Some(next) = self.next.take() else { return Vec::new() };
        let before = self.decided().candidate.server;
        self.recovery
            .passed_over
            .push(PassedOver { server: before, why: "it did not apply in time what it received".into() });
        self.decision = Some(next);
        vec![self.drain_step()]
    }
}
