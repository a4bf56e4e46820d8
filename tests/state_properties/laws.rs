//! What must hold between the state before a command and the state after it. Each law is a function with a sentence.

use std::collections::{BTreeMap, BTreeSet};

use quorate::core::{
    analysis::{Class, Finding},
    replicated::{
        Change, Command, Ending, EventKind, Kind, MemberState, Outcome, Phase, Refusal, State,
        command::{CallWitness, StartRecovery},
        recovery::Testimony,
    },
};

use quorate::model::server::{ClusterId, ServerId};

use crate::generate::Entry;

/// Checks all laws; the error is the sentence of the one that is broken.
pub fn check(
    before: &State,
    entry: &Entry,
    index: u64,
    outcome: &Outcome,
    after: &State,
) -> Result<(), String> {
    let step = Step { before, index, outcome, after };
    step.log_time_never_goes_back()?;
    step.a_cluster_has_one_running_recovery_and_its_slot_names_it()?;
    step.epochs_and_generations_only_grow(entry)?;
    step.a_recovery_moves_along_the_drawing()?;
    step.primaries_are_members_and_no_order_stands_against_them()?;
    step.a_server_belongs_to_one_cluster_and_a_name_to_one()?;
    step.histories_are_bounded_and_in_order()?;
    step.what_has_ended_is_audited_once()?;
    step.what_waits_for_time_has_a_tick_to_come()?;
    if let Entry::Command(command) = entry {
        step.a_refusal_changes_nothing_but_time(command)?;
        step.a_request_takes_effect_once(command)?;
        step.what_is_over_is_gone(command)?;
        if let (Change::TakeOver { recovery, evidence }, Outcome::Done { .. }) = (&command.change, outcome)
            && !step.repeated(command)
        {
            step.a_takeover_before_the_first_side_effect_brings_a_majority_or_nothing(*recovery, evidence)?;
        }
        if let (Change::CallWitness(call), Outcome::Done { .. }) = (&command.change, outcome)
            && !step.repeated(command)
        {
            step.a_witness_is_called_once_and_only_where_a_failover_could_start(call)?;
        }
        if let (Change::StartRecovery(start), Outcome::Done { .. }) = (&command.change, outcome)
            && !step.repeated(command)
        {
            step.no_automatic_start_within_a_block(start)?;
            step.no_automatic_start_while_paused(start)?;
            step.no_start_without_a_majority(start)?;
            step.only_what_is_being_undone_is_superseded_and_only_by_a_failover(start)?;
        }
    }
    Ok(())
}

struct Step<'a> {
    before: &'a State,
    index: u64,
    outcome: &'a Outcome,
    after: &'a State,
}

type Law = Result<(), String>;

fn law(holds: bool, sentence: impl Into<String>) -> Law {
    if holds { Ok(()) } else { Err(sentence.into()) }
}

impl Step<'_> {
    fn repeated(&self, command: &Command) -> bool {
        command.request_id.as_ref().is_some_and(|id| self.before.requests.contains_key(id))
    }

    fn log_time_never_goes_back(&self) -> Law {
        law(self.after.log_time_ms >= self.before.log_time_ms, "log time went back (P10)")
    }

    fn a_cluster_has_one_running_recovery_and_its_slot_names_it(&self) -> Law {
        let mut running: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for recovery in self.after.recoveries.values().filter(|r| r.running()) {
            running.entry(&recovery.cluster).or_default().push(recovery.id);
        }
        for (cluster, ids) in &running {
            let slot = self.after.clusters.get(*cluster).and_then(|c| c.slot);
            law(
                ids.len() == 1 && slot == Some(ids[0]),
                format!("{cluster}: {ids:?} run, the slot says {slot:?} (P3)"),
            )?;
        }
        for cluster in self.after.clusters.values().filter(|c| c.slot.is_some()) {
            law(
                running.contains_key(&cluster.id),
                format!("{}: a slot is held by nothing that runs", cluster.id),
            )?;
        }
        Ok(())
    }

    fn epochs_and_generations_only_grow(&self, entry: &Entry) -> Law {
        for (id, old) in &self.before.clusters {
            let Some(new) = self.after.clusters.get(id) else { continue };
            law(
                new.epoch >= old.epoch && new.generation >= old.generation,
                format!("{id}: epoch or generation fell"),
            )?;
            let moved = new.primary != old.primary;
            law(!moved || new.epoch == old.epoch + 1, format!("{id}: another primary, not another epoch"))?;
            for (server, was) in &old.members {
                let Some(is) = new.members.get(server) else { continue };
                law(is.source.as_ref() != Some(server), format!("{server} is its own source"))?;
                let released = was.state != MemberState::Normal && is.state == MemberState::Normal;
                let by_discovery =
                    matches!(entry, Entry::Command(c) if matches!(c.change, Change::UpdateMembers { .. }));
                law(
                    !(released && by_discovery),
                    format!("a discovery released {server} from {:?}", was.state),
                )?;
            }
            // The structure generation covers members and edges (design §4).
            let same = new.members == old.members && new.primary == old.primary;
            law(
                same || new.generation > old.generation,
                format!("{id}: the structure changed, its generation not"),
            )?;
        }
        Ok(())
    }

    fn a_recovery_moves_along_the_drawing(&self) -> Law {
        for (id, new) in &self.after.recoveries {
            let Some(old) = self.before.recoveries.get(id) else {
                law(new.phase == Phase::Started && *id == self.index, format!("{id} begins elsewhere"))?;
                continue;
            };
            let legal = matches!(
                (old.phase, new.phase),
                (Phase::Started, Phase::Decided | Phase::Ended)
                    | (Phase::Decided, Phase::Intent | Phase::Ended)
                    | (Phase::Intent, Phase::Published | Phase::Ended)
                    | (Phase::Published, Phase::Ended)
            );
            law(
                old.phase == new.phase || legal,
                format!("{id} goes from {:?} to {:?}", old.phase, new.phase),
            )?;
            law(old.running() || new.ending == old.ending, format!("{id} ended twice, differently (P4)"))?;
            law(
                new.running() == new.ending.is_none(),
                format!("{id} has ended without an ending, or runs with one"),
            )?;
            let undone = new.ending == Some(Ending::Cancelled) && old.phase >= Phase::Intent && old.running();
            law(!undone, format!("{id} was cancelled past its point of no return"))?;
            let gone_on = old.undo.is_some() && old.running() && new.running() && new.phase != old.phase;
            law(!gone_on, format!("{id} was given up and went on"))?;
            law(old.undo.is_none() || new.undo.is_some(), format!("{id} was given up and forgot it"))?;
            let late = new.undo.is_some() && old.undo.is_none() && old.phase >= Phase::Intent;
            law(!late, format!("{id} was given up past its point of no return"))?;
            let owner_fell = new.owner.1 < old.owner.1;
            law(!owner_fell, format!("{id} went to an older term"))?;
            let decided = new.phase > Phase::Started && new.running();
            law(!decided || new.decision.is_some(), format!("{id} is decided without a decision"))?;
            law(old.decision.is_none() || new.decision == old.decision, format!("{id} was decided twice"))?;
            if let (None, Some(decision)) = (&old.decision, &new.decision) {
                let candidate = self.before.clusters[&new.cluster].members.get(&decision.candidate.server);
                let usable = candidate.is_some_and(|m| m.state == MemberState::Normal);
                law(usable, format!("{id} promotes a server that is not in service (P11)"))?;
            }
        }
        let lost = self
            .before
            .recoveries
            .values()
            .find(|r| r.running() && !self.after.recoveries.contains_key(&r.id));
        law(lost.is_none(), format!("a running recovery was forgotten: {:?}", lost.map(|r| r.id)))
    }

    fn primaries_are_members_and_no_order_stands_against_them(&self) -> Law {
        for cluster in self.after.clusters.values() {
            let Some(primary) = &cluster.primary else { continue };
            law(
                cluster.members.contains_key(primary),
                format!("{}: {primary} is primary and no member", cluster.id),
            )?;
            let against = self.after.orders.values().find(|o| &o.target.server == primary);
            law(against.is_none(), format!("an order stands against the primary {primary}"))?;
        }
        for recovery in self.after.recoveries.values().filter(|r| r.running()) {
            let Some(decision) = &recovery.decision else { continue };
            let candidate = &decision.candidate.server;
            let against = self.after.orders.values().find(|o| &o.target.server == candidate);
            law(against.is_none(), format!("an order stands against the candidate {candidate}"))?;
        }
        Ok(())
    }

    fn a_server_belongs_to_one_cluster_and_a_name_to_one(&self) -> Law {
        let mut servers = BTreeSet::new();
        let mut names = BTreeSet::new();
        for cluster in self.after.clusters.values() {
            for (id, member) in &cluster.members {
                law(id == &member.server && servers.insert(id), format!("{id} is a member twice"))?;
            }
            for name in [Some(&cluster.id.0), cluster.alias.as_ref()].into_iter().flatten() {
                let own = cluster.alias.as_ref() == Some(&cluster.id.0);
                law(names.insert(name) || own, format!("`{name}` names two clusters"))?;
            }
        }
        Ok(())
    }

    fn histories_are_bounded_and_in_order(&self) -> Law {
        let state = self.after;
        law(state.audit.len() as u64 <= state.policy.audit_keep, "the audit trail outgrew its policy")?;
        let order: Vec<(u64, u32)> = state.audit.iter().map(|e| (e.index, e.part)).collect();
        law(order.windows(2).all(|w| w[0] < w[1]), "audit entries are not in order of (index, part)")?;
        law(state.requests.len() == state.request_order.len(), "request ids and their order differ")?;
        law(state.starts.len() <= state.recoveries.len() + 300, "starts are not bounded")
    }

    fn what_is_over_is_gone(&self, command: &Command) -> Law {
        let now = self.after.log_time_ms;
        let block = self.after.blocks.values().any(|b| b.lifted.is_none() && b.until_ms <= now);
        let pauses = self.after.downtimes.values().chain(self.after.maintenance.values());
        let pause = pauses.into_iter().any(|p| p.until_ms <= now);
        // A repeated request answers without looking at the clock; a pause of no length ends with the next command.
        let excused = self.repeated(command)
            || matches!(command.change, Change::SetDowntime { .. } | Change::SetMaintenance { .. });
        law(excused || !(block || pause), "a block, downtime or maintenance outlived its end")
    }

    /// What holds automatic recoveries back for a time ends by itself: a leader is told when to let log time pass.
    fn what_waits_for_time_has_a_tick_to_come(&self) -> Law {
        let state = self.after;
        for cluster in state.clusters.values() {
            let waits = match state.automatic_rate(cluster, Class::Primary) {
                Some(Refusal::BackOff { left_ms, .. }) => Some(state.log_time_ms.saturating_add(left_ms)),
                Some(Refusal::Breaker { .. }) => Some(u64::MAX),
                _ => None,
            };
            let due = state.next_expiry();
            law(
                waits.is_none_or(|at| due.is_some_and(|due| due <= at)),
                format!("{}: nothing ends what holds its recovery back", cluster.id),
            )?;
        }
        Ok(())
    }

    fn what_has_ended_is_audited_once(&self) -> Law {
        let ends = |state: &State, id: u64| {
            state
                .audit
                .iter()
                .filter(|e| e.kind == EventKind::RecoveryEnded && e.recovery == Some(id))
                .count()
        };
        for (id, new) in &self.after.recoveries {
            let ended_now = !new.running() && self.before.recoveries.get(id).is_some_and(|old| old.running());
            law(ends(self.after, *id) <= 1, format!("{id} ended twice in the audit trail"))?;
            law(!ended_now || ends(self.after, *id) == 1, format!("the end of {id} was not audited"))?;
        }
        Ok(())
    }

    /// Refused is refused: what differs is what the passing of time alone would have changed.
    fn a_refusal_changes_nothing_but_time(&self, command: &Command) -> Law {
        let Outcome::Refused(refusal) = self.outcome else { return Ok(()) };
        if self.repeated(command) {
            return Ok(());
        }
        let mut waited = self.before.clone();
        waited.apply(self.index, &Command { change: Change::Tick, request_id: None, ..command.clone() });
        let mut after = self.after.clone();
        after.requests = waited.requests.clone();
        after.request_order = waited.request_order.clone();
        law(after == waited, format!("refused ({refusal}), and yet the state changed"))
    }

    fn a_request_takes_effect_once(&self, command: &Command) -> Law {
        let Some(id) = &command.request_id else { return Ok(()) };
        law(
            self.after.requests.get(id) == Some(self.outcome),
            format!("the outcome of request {id} is not remembered"),
        )?;
        if !self.repeated(command) {
            return Ok(());
        }
        law(
            self.before.requests.get(id) == Some(self.outcome),
            format!("request {id} was answered differently"),
        )?;
        let mut untouched = self.before.clone();
        untouched.log_time_ms = self.after.log_time_ms;
        law(&untouched == self.after, format!("request {id} took effect twice"))
    }

    fn no_automatic_start_within_a_block(&self, start: &StartRecovery) -> Law {
        let now = self.after.log_time_ms;
        let standing = self.before.blocks.values().find(|b| {
            b.cluster == start.cluster && b.class == start.class && b.lifted.is_none() && b.until_ms > now
        });
        law(
            start.kind != Kind::Failover || standing.is_none(),
            format!("started within the block {standing:?} (P3)"),
        )
    }

    fn no_automatic_start_while_paused(&self, start: &StartRecovery) -> Law {
        let cluster = &self.before.clusters[&start.cluster];
        let off = !self.before.recoveries_switch.enabled || !cluster.recoveries.enabled;
        law(start.kind != Kind::Failover || !off, "started though recoveries are disabled")?;
        let now = self.after.log_time_ms;
        let maintenance = self.before.maintenance.get(&start.cluster).is_some_and(|p| p.until_ms > now);
        let downtime = self.before.downtimes.get(&start.subject).is_some_and(|p| p.until_ms > now);
        law(
            start.kind != Kind::Failover || !(maintenance || downtime),
            "started during maintenance or downtime",
        )
    }

    /// P2 and P4: fresh evidence of a majority, or none, in which case nothing but cancelling is left.
    fn a_takeover_before_the_first_side_effect_brings_a_majority_or_nothing(
        &self,
        id: u64,
        evidence: &[Testimony],
    ) -> Law {
        let recovery = &self.before.recoveries[&id];
        if recovery.side_effects || recovery.kind != Kind::Failover || evidence.is_empty() {
            return Ok(());
        }
        let agree = self.agreeing(&recovery.cluster, recovery.epoch, &recovery.old_primary.server, evidence);
        law(2 * agree.len() > self.before.voters.len(), format!("taken over on the word of {agree:?} (P4)"))
    }

    /// P3: the slot is free, or its holder was given up and ends cancelled in the same command.
    fn only_what_is_being_undone_is_superseded_and_only_by_a_failover(&self, start: &StartRecovery) -> Law {
        let holder = self.before.clusters[&start.cluster].slot;
        let started = &self.after.recoveries[&self.index];
        law(started.supersedes == holder, format!("{:?} took the slot of {holder:?}", started.supersedes))?;
        let Some(holder) = holder else { return Ok(()) };
        let was = &self.before.recoveries[&holder];
        law(
            was.undo.is_some() && start.kind != Kind::Switchover,
            format!("{holder} was superseded while it ran"),
        )?;
        let ending = self.after.recoveries.get(&holder).map(|r| r.ending);
        law(
            ending == Some(Some(Ending::Cancelled)),
            format!("{holder} was superseded and did not end cancelled"),
        )
    }

    /// Design §3, each rule counted independently of the gate.
    fn a_witness_is_called_once_and_only_where_a_failover_could_start(&self, call: &CallWitness) -> Law {
        let cluster = &self.before.clusters[&call.cluster];
        law(cluster.slot.is_none(), "a witness was called while a recovery ran")?;
        law(
            self.after.automatic_pause(cluster).is_none()
                && self.after.automatic_rate(cluster, Class::Primary).is_none(),
            "a witness was called where no failover could start",
        )?;
        let open = cluster.witness.as_ref().is_some_and(|w| !w.settled || !w.answered);
        law(!open, "a second witness was called in one episode")?;
        let replica = cluster.members.get(&call.replica);
        law(
            replica.is_some_and(|m| m.source == cluster.primary && m.state == MemberState::Normal)
                && call.replica != call.candidate,
            format!("{} is no replica to spare", call.replica),
        )?;
        let voters = &self.before.voters;
        let asking: BTreeSet<u64> = call
            .evidence
            .iter()
            .filter(|t| t.age_ms <= self.before.policy.verdict_fresh_for_ms)
            .map(|t| &t.verdict)
            .filter(|v| voters.get(&v.node) == Some(&v.incarnation) && v.epoch == cluster.epoch)
            .filter(|v| v.failure().is_some_and(|(_, _, e)| e.needs_witness && e.urgent_round_done))
            .map(|v| v.node)
            .collect();
        law(2 * asking.len() > voters.len(), format!("a witness was called on the word of {asking:?} (P2)"))
    }

    /// P2, counted independently of `core::agreement`.
    fn no_start_without_a_majority(&self, start: &StartRecovery) -> Law {
        if start.kind != Kind::Failover {
            return Ok(());
        }
        let agree = self.agreeing(&start.cluster, start.epoch, &start.subject, &start.evidence);
        let voters = self.before.voters.len();
        law(2 * agree.len() > voters, format!("started on the word of {agree:?} of {voters} voters (P2)"))
    }

    /// The voters whose fresh word names a primary's failure.
    fn agreeing(
        &self,
        cluster: &ClusterId,
        epoch: u64,
        subject: &ServerId,
        evidence: &[Testimony],
    ) -> BTreeSet<u64> {
        let voters = &self.before.voters;
        let known = &self.before.clusters[cluster];
        evidence
            .iter()
            .filter(|t| t.age_ms <= self.before.policy.verdict_fresh_for_ms)
            .map(|t| &t.verdict)
            .filter(|v| voters.get(&v.node) == Some(&v.incarnation))
            .filter(|v| &v.cluster == cluster && v.epoch == epoch && v.epoch == known.epoch)
            .filter(|v| &v.subject == subject && Some(subject) == known.primary.as_ref())
            .filter(|v| matches!(&v.finding, Finding::Failure { class: Class::Primary, .. }))
            .map(|v| v.node)
            .collect()
    }
}
