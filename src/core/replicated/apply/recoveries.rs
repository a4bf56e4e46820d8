//! The life of a recovery as the log sees it: gate, decisions, publication, end, block.

use super::{Context, Done, members::unknown};
use crate::core::{
    agreement,
    analysis::{Class, Code, Finding, Verdict},
    replicated::{
        audit::EventKind,
        cluster::{Cluster, Durability, MemberState},
        command::StartRecovery,
        orders::{OrderStage, StandingOrder},
        recovery::{Decision, Ending, Kind, PassedOver, Phase, Recovery, StepRecord, Testimony, Waiver},
        refusal::Refusal,
        state::{Block, State},
    },
};
use crate::{
    mistake::{self, Mistake, planted},
    model::server::ServerId,
};

/// Step records kept per recovery.
const STEPS_KEPT: usize = 200;

impl State {
    pub(super) fn report_verdict(
        &mut self,
        context: &mut Context<'_>,
        verdict: &Verdict,
    ) -> Result<Done, Refusal> {
        if !self.clusters.contains_key(&verdict.cluster) {
            return Err(unknown("cluster", &verdict.cluster.0));
        }
        self.note_verdict(context, verdict);
        Ok(Done::default())
    }

    /// Keeps the newest verdict of each node; an older one changes nothing.
    fn note_verdict(&mut self, context: &mut Context<'_>, verdict: &Verdict) {
        let of_cluster = self.verdicts.entry(verdict.cluster.clone()).or_default();
        let old = of_cluster.get(&verdict.node);
        let newer = old.is_none_or(|o| o.incarnation != verdict.incarnation || o.sequence < verdict.sequence);
        if !newer {
            return;
        }
        let changed = old.is_none_or(|o| o.label() != verdict.label());
        of_cluster.insert(verdict.node, verdict.clone());
        if verdict.finding == Finding::Healthy
            && let Some(cluster) = self.clusters.get_mut(&verdict.cluster)
            && verdict.epoch == cluster.epoch
            && let Some(witness) = &mut cluster.witness
        {
            witness.answered = true;
        }
        if changed {
            let why = verdict.failure().map(|(_, _, e)| format!(": {}", e.text)).unwrap_or_default();
            let text = format!("node {} says {}{why}", verdict.node, verdict.label());
            self.audit(context, EventKind::Verdict, Some(&verdict.cluster), None, None, text);
        }
    }

    /// The gate of P2, P3 and design §4. Everything it refuses, it refuses on every node alike.
    pub(super) fn start_recovery(
        &mut self,
        context: &mut Context<'_>,
        start: &StartRecovery,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_checked(&start.cluster, start.generation)?;
        self.check_subject(cluster, start)?;
        self.check_slot(cluster, start)?;
        self.check_not_paused(cluster, start)?;
        let mut code = start.code;
        if start.kind != Kind::Switchover && !start.waived.contains(&Waiver::Verdict) {
            code = Some(self.check_evidence(start)?);
        }
        self.check_rate(cluster, start)?;
        let member = cluster.primary_member().ok_or_else(|| unknown("server", &start.subject.0))?;
        let old_primary = member.target();
        for testimony in &start.evidence {
            self.note_verdict(context, &testimony.verdict);
        }
        let id = context.index;
        let by_operator = start.kind != Kind::Failover;
        let recovery = Recovery {
            id,
            cluster: start.cluster.clone(),
            kind: start.kind,
            class: start.class,
            code,
            epoch: start.epoch,
            old_primary,
            requested_by: by_operator.then(|| context.command.by.clone()),
            waived: start.waived.clone(),
            to: start.to.clone(),
            kill_writers: start.kill_writers,
            evidence: start.evidence.clone(),
            revoked: start.revoked.clone(),
            semi_sync: start.semi_sync.clone(),
            owner: (context.command.node, context.command.term),
            side_effects: false,
            phase: Phase::Started,
            decision: None,
            steps: Vec::new(),
            started_ms: self.log_time_ms,
            started_wall_ms: context.command.wall_ms,
            ending: None,
            reason: String::new(),
            ended_ms: None,
            ended_wall_ms: None,
            left_behind: Vec::new(),
            acknowledged: None,
            undo: None,
            supersedes: self.clusters[&start.cluster].slot,
            passed_over: Vec::new(),
            voters: self.voters.keys().copied().collect(),
        };
        let what = match start.kind {
            Kind::Failover => "failover",
            Kind::Forced => "forced failover",
            Kind::Switchover => "switchover",
        };
        let text = format!(
            "{what} {id} of primary {} started{}",
            recovery.old_primary.address,
            code.map(|c| format!(", {c}, {} verdicts", start.evidence.len())).unwrap_or_default()
        );
        let server = recovery.old_primary.address.to_string();
        if let Some(holder) = recovery.supersedes {
            self.supersede(context, holder, id);
        }
        self.recoveries.insert(id, recovery);
        self.cluster_mut(&start.cluster)?.slot = Some(id);
        if start.kind == Kind::Failover {
            let now = self.log_time_ms;
            self.starts.push_back(now);
        }
        self.audit(context, EventKind::RecoveryStarted, Some(&start.cluster), Some(server), Some(id), text);
        Ok(Done { id: Some(id), ..Done::default() })
    }

    fn check_subject(&self, cluster: &Cluster, start: &StartRecovery) -> Result<(), Refusal> {
        if cluster.epoch != start.epoch {
            return Err(Refusal::Outdated {
                what: "primary epoch".into(),
                then: start.epoch,
                now: cluster.epoch,
            });
        }
        if cluster.primary.as_ref() != Some(&start.subject) {
            return Err(unknown("primary", &start.subject.0));
        }
        if start.kind == Kind::Failover && !start.waived.is_empty() {
            return Err(Refusal::Invalid("only an operator waives rules, by name".into()));
        }
        if start.class != Class::Primary {
            return Err(Refusal::Invalid("only the primary class is repaired by this version".into()));
        }
        let revoked_known = start.revoked.iter().all(|r| cluster.members.contains_key(&r.target.server));
        match revoked_known {
            true => Ok(()),
            false => Err(Refusal::Invalid("a revoked server is no member".into())),
        }
    }

    fn check_slot(&self, cluster: &Cluster, start: &StartRecovery) -> Result<(), Refusal> {
        self.slot_refusal(cluster, start.kind).map_or(Ok(()), Err)
    }

    fn check_not_paused(&self, cluster: &Cluster, start: &StartRecovery) -> Result<(), Refusal> {
        if start.kind == Kind::Switchover || start.waived.contains(&Waiver::Disabled) {
            return Ok(());
        }
        self.automatic_pause(cluster).map_or(Ok(()), Err)
    }

    fn check_evidence(&self, start: &StartRecovery) -> Result<Code, Refusal> {
        let question = self.question(&start.cluster, start.epoch, &start.subject);
        let agreed = agreement::agree(&question, &start.evidence)?;
        match agreed.class == start.class {
            true => Ok(agreed.code),
            false => Err(Refusal::Invalid(format!("the voters agree on class {}", agreed.class))),
        }
    }

    fn check_rate(&self, cluster: &Cluster, start: &StartRecovery) -> Result<(), Refusal> {
        self.rate_refusal(cluster, start.kind, start.class, &start.waived).map_or(Ok(()), Err)
    }

    pub(super) fn take_over(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        evidence: &[Testimony],
    ) -> Result<Done, Refusal> {
        let owner = (context.command.node, context.command.term);
        let recovery = self.running_mut(id)?;
        if recovery.owner.1 > owner.1 {
            return Err(wrong(recovery, "the leader of a newer term"));
        }
        let recovery = recovery.clone();
        self.check_takeover(&recovery, evidence)?;
        let voters = self.voters.keys().copied().collect();
        let recovery = self.running_mut(id)?;
        recovery.owner = owner;
        if !evidence.is_empty() {
            recovery.evidence = evidence.to_vec();
            recovery.voters = voters;
        }
        let cluster = recovery.cluster.clone();
        let text = format!("node {} takes recovery {id} over in phase {}", owner.0, recovery.phase);
        self.audit(context, EventKind::TakenOver, Some(&cluster), None, Some(id), text);
        Ok(Done { id: Some(id), ..Done::default() })
    }

    pub(super) fn decide_promotion(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        decision: &Decision,
    ) -> Result<Done, Refusal> {
        let recovery = self.owned_mut(context, id)?;
        if recovery.phase != Phase::Started || recovery.undo.is_some() {
            return Err(wrong(recovery, "started, and not given up"));
        }
        let (cluster, old_primary) = (recovery.cluster.clone(), recovery.old_primary.server.clone());
        self.check_decision(&cluster, &old_primary, decision)?;
        self.take_decision(context, id, decision)?;
        Ok(Done { id: Some(id), ..Done::default() })
    }

    /// Only before the point of no return, and only where nothing is given up by it; a server that was passed over once
    /// is not chosen again.
    pub(super) fn next_candidate(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        why: &str,
        decision: &Decision,
    ) -> Result<Done, Refusal> {
        let recovery = self.owned_mut(context, id)?;
        if recovery.phase != Phase::Decided || recovery.undo.is_some() || recovery.kind == Kind::Switchover {
            return Err(wrong(recovery, "a failover that is decided, and not given up"));
        }
        let Some(before) = recovery.decision.clone() else { return Err(wrong(recovery, "decided")) };
        let again = |server: &ServerId| recovery.passed_over.iter().any(|p| &p.server == server);
        let chosen = &decision.candidate.server;
        if chosen == &before.candidate.server || again(chosen) {
            return Err(Refusal::Invalid(format!("{} was passed over", decision.candidate.address)));
        }
        decision.keeps(&before, recovery.semi_sync.is_some()).map_err(Refusal::Invalid)?;
        let (cluster, old_primary) = (recovery.cluster.clone(), recovery.old_primary.server.clone());
        self.check_decision(&cluster, &old_primary, decision)?;
        let passed = PassedOver { server: before.candidate.server.clone(), why: why.to_owned() };
        self.owned_mut(context, id)?.passed_over.push(passed);
        let address = before.candidate.address.to_string();
        let text = format!("{address} is passed over: {why}");
        self.audit(context, EventKind::Decided, Some(&cluster), Some(address), Some(id), text);
        self.take_decision(context, id, decision)?;
        Ok(Done { id: Some(id), ..Done::default() })
    }

    fn take_decision(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        decision: &Decision,
    ) -> Result<(), Refusal> {
        let recovery = self.owned_mut(context, id)?;
        recovery.phase = Phase::Decided;
        recovery.side_effects = true;
        recovery.decision = Some(decision.clone());
        let cluster = recovery.cluster.clone();
        // The command that makes a server a candidate revokes the standing orders against it.
        self.orders.retain(|_, order| order.target.server != decision.candidate.server);
        let loss = if decision.lost.is_empty() {
            "nothing known lost".into()
        } else {
            format!("lost: {}", decision.lost)
        };
        let address = decision.candidate.address.to_string();
        let text = format!("{address} is to be promoted; {loss}");
        self.audit(context, EventKind::Decided, Some(&cluster), Some(address.clone()), Some(id), text);
        if let Some(why) = &decision.unprotected {
            self.audit(context, EventKind::Alert, Some(&cluster), Some(address), Some(id), why.clone());
        }
        Ok(())
    }

    pub(super) fn record_intent(&mut self, context: &mut Context<'_>, id: u64) -> Result<Done, Refusal> {
        let recovery = self.owned_mut(context, id)?;
        if !matches!(recovery.phase, Phase::Decided | Phase::Intent) || recovery.undo.is_some() {
            return Err(wrong(recovery, "decided, and not given up"));
        }
        recovery.phase = Phase::Intent;
        let cluster = recovery.cluster.clone();
        let server = recovery.decision.as_ref().map(|d| d.candidate.address.to_string());
        let text = "point of no return: the candidate may be made writable".to_owned();
        self.audit(context, EventKind::Intent, Some(&cluster), server, Some(id), text);
        Ok(Done { id: Some(id), ..Done::default() })
    }

    /// The cluster's record changes hands: new primary, new epoch; and from here on the old primary is to be fenced
    /// whenever it returns.
    pub(super) fn publish(&mut self, context: &mut Context<'_>, id: u64) -> Result<Done, Refusal> {
        let recovery = self.owned_mut(context, id)?;
        if recovery.phase != Phase::Intent {
            return Err(wrong(recovery, "past its point of no return"));
        }
        let Some(decision) = recovery.decision.clone() else {
            return Err(wrong(recovery, "decided"));
        };
        recovery.phase = Phase::Published;
        let (cluster_id, old, kind) = (recovery.cluster.clone(), recovery.old_primary.clone(), recovery.kind);
        let (epoch, semi_sync) = (recovery.epoch, recovery.semi_sync.is_some());
        let durability = durability_of(recovery, &decision);
        let new = decision.candidate.clone();
        self.compare_anew(&cluster_id);
        let cluster = self.cluster_mut(&cluster_id)?;
        cluster.primary = Some(new.server.clone());
        cluster.epoch += 1;
        cluster.generation += 1;
        cluster.primary_since = Some(decision.must_hold.to_string());
        // Its receiver is re-pointed with the others.
        cluster.witness = None;
        if let Some(member) = cluster.members.get_mut(&new.server) {
            member.source = None;
            member.channels = 0;
            member.state = MemberState::Normal;
        }
        if let Some(member) = cluster.members.get_mut(&old.server)
            && kind != Kind::Switchover
        {
            member.state = MemberState::Replaced;
        }
        if kind != Kind::Switchover {
            let order = StandingOrder {
                id: context.index,
                cluster: cluster_id.clone(),
                target: old,
                epoch,
                recovery: id,
                semi_sync,
                stage: OrderStage::Waiting,
                since_ms: self.log_time_ms,
            };
            self.orders.insert(context.index, order);
        }
        let address = new.address.to_string();
        let text = format!("{address} is the primary and accepts writes");
        self.audit(context, EventKind::Published, Some(&cluster_id), Some(address), Some(id), text);
        if let Some(durability) = durability {
            self.set_durability(context, &cluster_id, &durability)?;
        }
        Ok(Done { id: Some(id), ..Done::default() })
    }

    pub(super) fn record_steps(&mut self, id: u64, steps: &[StepRecord]) -> Result<Done, Refusal> {
        let Some(recovery) = self.recoveries.get_mut(&id) else {
            return Err(unknown("recovery", &id.to_string()));
        };
        recovery.side_effects = true;
        let room = STEPS_KEPT.saturating_sub(recovery.steps.len());
        recovery.steps.extend(steps.iter().take(room).cloned());
        Ok(Done { id: Some(id), ..Done::default() })
    }

    pub(super) fn finish_recovery(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        ending: Ending,
        reason: &str,
        left_behind: &[(ServerId, String)],
        repointed: &[ServerId],
    ) -> Result<Done, Refusal> {
        let now = self.log_time_ms;
        let recovery = self.owned_mut(context, id)?;
        let past = matches!(recovery.phase, Phase::Intent | Phase::Published);
        if ending == Ending::Succeeded && recovery.phase != Phase::Published {
            return Err(wrong(recovery, "published"));
        }
        if ending == Ending::Cancelled && past {
            return Err(wrong(recovery, "before its point of no return"));
        }
        recovery.phase = Phase::Ended;
        recovery.ending = Some(ending);
        recovery.reason = reason.to_owned();
        recovery.ended_ms = Some(now);
        recovery.ended_wall_ms = Some(context.command.wall_ms);
        recovery.left_behind = left_behind.to_vec();
        let ended = recovery.clone();
        self.release_slot(&ended, repointed);
        // One that was given up was counted then: its undoing may take long.
        if ended.undo.is_none() {
            self.settle_attempts(&ended);
        }
        if ending != Ending::Cancelled || !planted(Mistake::EndNotAudited) {
            let text = format!("{} {id} {}: {reason}", kind_name(ended.kind), ended.state_name());
            self.audit(context, EventKind::RecoveryEnded, Some(&ended.cluster), None, Some(id), text);
        }
        if ending == Ending::Succeeded && ended.kind == Kind::Failover {
            self.block(context, &ended);
        }
        Ok(Done { id: Some(id), ..Done::default() })
    }

    /// A recovery that failed after its candidate may have been told to take writes: whoever hears that server fences it,
    /// for the next recovery may promote another. The record's primary is still the old one.
    pub(super) fn fence_candidate(&mut self, context: &Context<'_>, id: u64) {
        let Some(ended) = self.recoveries.get(&id).filter(|r| r.ending == Some(Ending::Failed)) else {
            return;
        };
        let Some(candidate) = ended.decision.as_ref().map(|decision| decision.candidate.clone()) else {
            return;
        };
        let order = StandingOrder {
            id: context.index,
            cluster: ended.cluster.clone(),
            target: candidate.clone(),
            epoch: ended.epoch,
            recovery: id,
            semi_sync: ended.semi_sync.is_some(),
            stage: OrderStage::Waiting,
            since_ms: self.log_time_ms,
        };
        let Some(cluster) = self.clusters.get_mut(&ended.cluster) else { return };
        if cluster.primary.as_ref() == Some(&candidate.server) {
            return;
        }
        if let Some(member) = cluster.members.get_mut(&candidate.server) {
            member.state = MemberState::Replaced;
            cluster.generation += 1;
            self.orders.insert(order.id, order);
        }
    }

    fn release_slot(&mut self, ended: &Recovery, repointed: &[ServerId]) {
        let Some(cluster) = self.clusters.get_mut(&ended.cluster) else { return };
        cluster.slot = None;
        if repointed.is_empty() {
            return;
        }
        let primary = cluster.primary.clone();
        for server in repointed.iter().filter(|server| Some(*server) != primary.as_ref()) {
            if let Some(member) = cluster.members.get_mut(server) {
                member.source = primary.clone();
                member.channels = 1;
            }
        }
        cluster.generation += 1;
    }

    /// A completed one clears the count; one that did not complete delays the next attempt, twice as long each time.
    pub(super) fn settle_attempts(&mut self, ended: &Recovery) {
        let (first, most, now) =
            (self.policy.retry_backoff_ms, self.policy.retry_backoff_max_ms, self.log_time_ms);
        let Some(cluster) = self.clusters.get_mut(&ended.cluster) else { return };
        if ended.ending == Some(Ending::Succeeded) {
            cluster.failed_attempts = 0;
            cluster.retry_not_before_ms = 0;
        } else if ended.kind == Kind::Failover {
            cluster.failed_attempts = cluster.failed_attempts.saturating_add(1);
            let doubled = first.saturating_mul(1 << (cluster.failed_attempts - 1).min(16));
            cluster.retry_not_before_ms = now.saturating_add(doubled.min(most));
        }
    }

    fn block(&mut self, context: &mut Context<'_>, ended: &Recovery) {
        if self.policy.block_for_ms == 0 {
            return;
        }
        let block = Block {
            recovery: ended.id,
            cluster: ended.cluster.clone(),
            class: ended.class,
            until_ms: self.block_until_ms(),
            lifted: None,
        };
        self.blocks.insert(ended.id, block);
        let text = format!(
            "further automatic recoveries of class {} are blocked for {} s or until acknowledged",
            ended.class,
            self.policy.block_for_ms / 1_000
        );
        self.audit(context, EventKind::Blocked, Some(&ended.cluster), None, Some(ended.id), text);
    }

    /// Until when a recovery that ends now blocks further ones; log time (P10).
    fn block_until_ms(&self) -> u64 {
        let now_ms = match planted(Mistake::BlockFromLocalClock) {
            true => mistake::local_clock_ms(),
            false => self.log_time_ms,
        };
        let for_ms = match planted(Mistake::BlockTooShort) {
            true => self.policy.block_for_ms / 1_000,
            false => self.policy.block_for_ms,
        };
        now_ms.saturating_add(for_ms)
    }

    fn running_mut(&mut self, id: u64) -> Result<&mut Recovery, Refusal> {
        let recovery = self.recoveries.get_mut(&id).ok_or_else(|| unknown("recovery", &id.to_string()))?;
        match recovery.running() {
            true => Ok(recovery),
            false => Err(wrong(recovery, "running")),
        }
    }

    /// A running recovery, only for the node and term that own it: a stale leader's command changes nothing.
    pub(super) fn owned_mut(&mut self, context: &Context<'_>, id: u64) -> Result<&mut Recovery, Refusal> {
        let by = (context.command.node, context.command.term);
        let recovery = self.running_mut(id)?;
        match recovery.owner == by {
            true => Ok(recovery),
            false => Err(wrong(recovery, "its present owner")),
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Failover => "failover",
        Kind::Forced => "forced failover",
        Kind::Switchover => "switchover",
    }
}

pub(super) fn wrong(recovery: &Recovery, needs: &str) -> Refusal {
    Refusal::WrongPhase {
        recovery: recovery.id,
        is: format!(
            "{}{}, owned by node {} in term {}",
            recovery.phase,
            if recovery.undoing() { " (being undone)" } else { "" },
            recovery.owner.0,
            recovery.owner.1
        ),
        needs: needs.into(),
    }
}

/// What holds from the publication on: whoever follows the new primary with its semi-sync switch on, or none. What held before it
/// was the old primary's. `None` where there was no semi-sync.
fn durability_of(recovery: &Recovery, decision: &Decision) -> Option<Durability> {
    recovery.semi_sync.as_ref()?;
    let Some(acks) = decision.semi_sync_acks else {
        let why = decision.unprotected.clone().unwrap_or_else(|| "semi-sync is off on the primary".into());
        return Some(Durability::Unprotected { why });
    };
    let ackers = decision.ackers.iter().map(|acker| acker.target.server.clone());
    // A switchover points the old primary at the new one.
    let returns = (recovery.kind == Kind::Switchover).then(|| recovery.old_primary.server.clone());
    Some(Durability::SemiSync { acks, ackers: Vec::new() }.with(ackers.chain(returns)))
}
