//! `apply`: one command on the state. Total and deterministic: it reads no clock, and no command panics in any state.

mod decisions;
mod members;
mod operators;
mod orders;
mod recoveries;
mod undo;
mod witness;

use super::{
    audit::{AuditEntry, EventKind},
    command::{Change, Command, Outcome},
    refusal::Refusal,
    state::{REQUESTS_KEPT, State},
};
use crate::{
    mistake::{Mistake, planted},
    model::server::ClusterId,
};
use members::Adoption;

/// What applying one command needs at hand.
pub(super) struct Context<'a> {
    pub index: u64,
    pub command: &'a Command,
    part: u32,
}

impl State {
    /// Applies the command of log entry `index`.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        // P10: log time never goes back, whatever a proposer stamps.
        self.log_time_ms = self.log_time_ms.max(command.at_ms);
        if let Some(outcome) = command.request_id.as_ref().and_then(|id| self.requests.get(id))
            && !planted(Mistake::RequestIdNotDeduplicated)
        {
            return outcome.clone();
        }
        let mut context = Context { index, command, part: 0 };
        self.expire(&mut context);
        let outcome = match self.change(&mut context) {
            Ok(done) => Outcome::Done { id: done.id.unwrap_or(index), acknowledged: done.acknowledged },
            Err(refusal) => Outcome::Refused(refusal),
        };
        self.remember_request(command, &outcome);
        self.trim();
        outcome
    }

    fn change(&mut self, context: &mut Context<'_>) -> Result<Done, Refusal> {
        match &context.command.change {
            Change::AdoptCluster { cluster, alias, flavor, primary, members, durability } => {
                let wish = Adoption { alias, flavor: *flavor, primary, members, durability };
                self.adopt_cluster(context, cluster, &wish)
            }
            Change::UpdateMembers { cluster, generation, members, why } => {
                self.update_members(context, cluster, *generation, members, why)
            }
            Change::SetPrimary { cluster, generation, primary, durability } => {
                self.set_primary(context, cluster, *generation, primary, durability)
            }
            Change::FollowPrimary { cluster, generation, primary, why } => {
                self.follow_primary(context, cluster, *generation, primary, why)
            }
            Change::ForgetServer { cluster, server } => self.forget_server(context, cluster, server),
            Change::ForgetCluster { cluster } => self.forget_cluster(context, cluster),
            Change::SetAlias { cluster, alias } => self.set_alias(context, cluster, alias),
            Change::SetDurability { cluster, durability } => {
                self.set_durability(context, cluster, durability)
            }
            Change::ConfirmMember { cluster, server } => self.confirm_member(context, cluster, server),
            Change::ReportVerdict { verdict } => self.report_verdict(context, verdict),
            Change::StartRecovery(start) => self.start_recovery(context, start),
            Change::CallWitness(call) => self.call_witness(context, call),
            Change::SettleWitness { cluster, witness, said } => {
                self.settle_witness(context, cluster, *witness, said)
            }
            Change::TakeOver { recovery, evidence } => self.take_over(context, *recovery, evidence),
            Change::DecidePromotion { recovery, decision } => {
                self.decide_promotion(context, *recovery, decision)
            }
            Change::NextCandidate { recovery, why, decision } => {
                self.next_candidate(context, *recovery, why, decision)
            }
            Change::BeginUndo { recovery, why, fence_unknown } => {
                self.begin_undo(context, *recovery, why, *fence_unknown)
            }
            Change::RecordIntent { recovery } => self.record_intent(context, *recovery),
            Change::Publish { recovery } => self.publish(context, *recovery),
            Change::RecordSteps { recovery, steps } => self.record_steps(*recovery, steps),
            Change::FinishRecovery { recovery, ending, reason, left_behind, repointed, candidate_open } => {
                let done =
                    self.finish_recovery(context, *recovery, *ending, reason, left_behind, repointed)?;
                if *candidate_open {
                    self.fence_candidate(context, *recovery);
                }
                Ok(done)
            }
            Change::AdvanceOrder { order, stage } => self.advance_order(context, *order, stage),
            Change::Acknowledge { scope, comment } => self.acknowledge(context, scope, comment),
            Change::SetRecoveries { cluster, enabled, why } => {
                self.set_recoveries(context, cluster.as_ref(), *enabled, why)
            }
            Change::SetDowntime { server, for_ms, why } => self.set_downtime(context, server, *for_ms, why),
            Change::SetMaintenance { cluster, for_ms, why } => {
                self.set_maintenance(context, cluster, *for_ms, why)
            }
            Change::SetPromotionRule { server, rule, for_ms } => {
                self.set_promotion_rule(context, server, *rule, *for_ms)
            }
            Change::SetPolicy { version, policy } => self.set_policy(context, *version, policy),
            Change::Note { kind, cluster, server, text } => {
                self.audit(context, *kind, cluster.as_ref(), server.clone(), None, text.clone());
                Ok(Done::default())
            }
            Change::Tick => Ok(Done::default()),
            Change::RaiseFeatureLevel { level } => {
                self.feature_level = self.feature_level.max(*level);
                Ok(Done::default())
            }
        }
    }

    fn remember_request(&mut self, command: &Command, outcome: &Outcome) {
        let Some(id) = &command.request_id else { return };
        self.requests.insert(id.clone(), outcome.clone());
        self.request_order.push_back(id.clone());
        while self.request_order.len() > REQUESTS_KEPT {
            if let Some(oldest) = self.request_order.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }

    /// What is over by log time goes.
    fn expire(&mut self, context: &mut Context<'_>) {
        let now = self.log_time_ms;
        let over: Vec<(u64, ClusterId)> = self
            .blocks
            .values()
            .filter(|b| b.lifted.is_none() && b.until_ms <= now)
            .map(|b| (b.recovery, b.cluster.clone()))
            .collect();
        for (recovery, cluster) in over {
            self.blocks.remove(&recovery);
            let text = format!("the block of recovery {recovery} is over");
            self.audit(context, EventKind::Unblocked, Some(&cluster), None, Some(recovery), text);
        }
        self.downtimes.retain(|_, pause| pause.until_ms > now);
        self.maintenance.retain(|_, pause| pause.until_ms > now);
        self.rules.retain(|_, rule| rule.until_ms.is_none_or(|until| until > now));
        let window = self.policy.breaker_window_ms;
        self.starts.retain(|start| start.saturating_add(window) > now);
    }

    /// Keeps the histories within policy.
    fn trim(&mut self) {
        while self.audit.len() as u64 > self.policy.audit_keep {
            self.audit.pop_front();
        }
        let keep = self.policy.recoveries_keep as usize;
        if self.recoveries.len() > keep {
            let surplus = self.recoveries.len() - keep;
            let gone: Vec<u64> = self
                .recoveries
                .values()
                .filter(|r| !r.running() && !self.blocks.contains_key(&r.id))
                .map(|r| r.id)
                .take(surplus)
                .collect();
            for id in gone {
                self.recoveries.remove(&id);
            }
        }
        let horizon = self.log_time_ms.saturating_sub(86_400_000 * 30);
        self.blocks.retain(|_, b| b.lifted.as_ref().is_none_or(|(_, _, at)| *at >= horizon));
    }

    fn audit(
        &mut self,
        context: &mut Context<'_>,
        kind: EventKind,
        cluster: Option<&ClusterId>,
        server: Option<String>,
        recovery: Option<u64>,
        text: String,
    ) {
        self.audit.push_back(AuditEntry {
            index: context.index,
            part: context.part,
            at_ms: self.log_time_ms,
            wall_ms: context.command.wall_ms,
            kind,
            cluster: cluster.cloned(),
            server,
            recovery,
            by: context.command.by.clone(),
            text,
        });
        context.part += 1;
    }
}

/// What a change that took effect has to tell.
#[derive(Debug, Default)]
struct Done {
    id: Option<u64>,
    acknowledged: Vec<u64>,
}
