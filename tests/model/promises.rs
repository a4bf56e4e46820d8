//! The promises, asked at the moments at which they could be broken: a permit is given, an entry is applied, a statement
//! lands, a server's switches change.

use std::collections::BTreeSet;

use quorate::core::{
    plan::step::{Action, Step},
    replicated::{Change, Command, Ending, Kind, Outcome, Phase, Recovery, State, command::StartRecovery},
};

use crate::{
    samples,
    servers::{self, Life, SERVERS},
    world::{Flight, Origin, Place, World},
};

impl World {
    fn recovery(&self, id: u64) -> Option<&Recovery> {
        self.state.value.recoveries.get(&id)
    }

    /// P1, P4: a step is permitted by a recovery that runs, and only to its owner.
    pub fn check_permit(&mut self, node: usize, id: u64, term: u64, step: &Step) {
        let owner = (Self::node_id(node), term);
        let Some(recovery) = self.recovery(id).filter(|r| r.running()) else {
            return self.breaks(format!("P1: {step} is permitted under recovery {id}, which does not run"));
        };
        if recovery.owner != owner {
            let is = recovery.owner;
            self.breaks(format!(
                "P4: {step} is permitted to node {} in term {term}; {is:?} owns recovery {id}",
                owner.0
            ));
        }
    }

    /// After an entry that took effect: what it says of the servers.
    pub fn check_applied(&mut self, state: &State, change: &Change, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Done { .. }) {
            return;
        }
        match change {
            Change::StartRecovery(_) => self.memory.died = false,
            Change::DecidePromotion { recovery, .. } => self.check_decided(state, *recovery),
            Change::Publish { .. } => self.check_published(state),
            Change::FinishRecovery { recovery, ending, reason, .. } => {
                self.check_finished(state, *recovery, *ending, reason);
            }
            _ => {}
        }
    }

    /// P5: every receiver's stop was tried before a failover is decided.
    fn check_decided(&mut self, state: &State, id: u64) {
        let Some(recovery) = state.recoveries.get(&id).filter(|r| r.kind != Kind::Switchover) else { return };
        let tried = |server: usize| self.memory.stop_tried.0 == id && self.memory.stop_tried.1[server];
        let mut revoked = recovery.revoked.iter().map(|r| samples::number(&r.target.server));
        if let Some(server) = revoked.find(|server| !tried(*server)) {
            self.breaks(format!(
                "P5: recovery {id} is decided and {} was never revoked",
                samples::letter(server)
            ));
        }
    }

    fn check_published(&mut self, state: &State) {
        let primary = samples::cluster(state).primary.as_ref().map(samples::number).expect("a primary");
        if self.servers[primary].up() && self.servers[primary].read_only {
            self.breaks(format!(
                "P5: {} is published as the primary and is read-only",
                samples::letter(primary)
            ));
        }
    }

    /// P4, P7: what was cancelled is undone, and no fence may come after; what failed has a reason.
    fn check_finished(&mut self, state: &State, id: u64, ending: Ending, reason: &str) {
        let recovery = &state.recoveries[&id];
        match ending {
            Ending::Succeeded => {}
            Ending::Failed => {
                let candidate = recovery.decision.as_ref().map(|d| samples::number(&d.candidate.server));
                let well = candidate.is_some_and(|c| self.servers[c].up()) && !self.memory.died;
                if well {
                    self.breaks(format!("P4: recovery {id} failed with every server well: {}", reason));
                }
            }
            Ending::Cancelled => self.check_undone(recovery, reason),
        }
    }

    fn check_undone(&mut self, recovery: &Recovery, reason: &str) {
        let old = samples::number(&recovery.old_primary.server);
        let server = self.servers[old];
        if server.life != Life::Dead && server.read_only {
            self.breaks(format!(
                "P4: recovery {} is cancelled and its old primary stands fenced",
                recovery.id
            ));
        }
        let may_fence = |f: &Flight| {
            f.server == old
                && f.under == recovery.id
                && !f.cleared
                && matches!(f.step.action, Action::Fence | Action::MakeReadOnly { .. })
                && (f.place == Place::Sent || f.place == Place::Permitted && f.permitted(self.now_ms))
        };
        if server.life != Life::Dead && self.flights.iter().any(may_fence) {
            self.breaks(format!("P4: recovery {} is cancelled while a fence may still land", recovery.id));
        }
        for revoked in &recovery.revoked {
            let at = samples::number(&revoked.target.server);
            let named = reason.contains(&revoked.target.address.to_string());
            let back = self.servers[at].receives && self.servers[at].source == Some(old);
            if self.servers[at].up() && !back && !named {
                let who = samples::letter(at);
                self.breaks(format!(
                    "P7: recovery {} is cancelled, {who} does not follow again, and nobody says so: {}",
                    recovery.id, reason
                ));
            }
        }
    }

    /// Before a statement takes effect.
    pub fn check_landing(&mut self, flight: &Flight) {
        if flight.cleared {
            return self.breaks(format!(
                "P5: {} of node {} (term {}) lands after another node saw its sessions gone from there",
                flight.step,
                Self::node_id(flight.node),
                flight.term
            ));
        }
        if matches!(flight.origin, Origin::Order { .. } | Origin::Rejoin { .. }) {
            return;
        }
        let Some(recovery) = self.recovery(flight.under).cloned() else { return };
        if recovery.ending == Some(Ending::Cancelled) {
            self.check_after_cancel(flight, &recovery);
        }
        if let Action::MakeWritable { .. } = flight.step.action {
            self.check_writable(flight.server, &recovery);
        }
    }

    /// Nothing of what was undone comes back. A recovery that was superseded has left its fence to the next one.
    fn check_after_cancel(&mut self, flight: &Flight, recovery: &Recovery) {
        let superseded = self.state.value.recoveries.values().any(|r| r.supersedes == Some(recovery.id));
        let old = samples::number(&recovery.old_primary.server);
        let forward = match &flight.step.action {
            Action::Fence | Action::MakeReadOnly { .. } => !superseded,
            Action::StopReceiver { .. } | Action::Detach { .. } | Action::MakeWritable { .. } => true,
            Action::Point { options, .. } => samples::dialled(&options.source) != old,
            _ => false,
        };
        if forward {
            self.breaks(format!("P4: {} lands after recovery {} was cancelled", flight.step, recovery.id));
        }
    }

    /// P5, P6: the candidate of the decision, past the point of no return, with all it must hold; the fence was tried, and
    /// nobody can acknowledge to the old primary any more.
    fn check_writable(&mut self, server: usize, recovery: &Recovery) {
        let who = samples::letter(server);
        let Some(decision) = &recovery.decision else {
            return self.breaks(format!("P5: {who} writable before a decision"));
        };
        let old = samples::number(&recovery.old_primary.server);
        let running = recovery.running();
        if samples::number(&decision.candidate.server) != server {
            return self
                .breaks(format!("P5: {who} writable, and the candidate is {}", decision.candidate.address));
        }
        if running && recovery.phase < Phase::Intent {
            self.breaks(format!("P5: {who} writable in phase {:?}", recovery.phase));
        }
        if !samples::holds(self.servers[server].executed, &decision.must_hold) {
            self.breaks(format!("P5: {who} writable before it was drained"));
        }
        if self.memory.fence_tried != recovery.id {
            self.breaks(format!("P5: {who} writable, and the old primary's fence was never tried"));
        }
        if recovery.kind == Kind::Switchover && self.servers[old].writable() {
            self.breaks(format!("P5: {who} writable while {} takes writes", samples::letter(old)));
        }
        let of_owner = (self.memory.stopped.0, self.memory.stopped.1) == (recovery.id, recovery.owner.1);
        let stopped = |at: &usize| of_owner && self.memory.stopped.2[*at];
        let follows = |at: &usize| {
            self.servers[*at].up() && self.servers[*at].receives && self.servers[*at].source == Some(old)
        };
        if running
            && recovery.kind != Kind::Switchover
            && let Some(at) = (0..SERVERS).find(|at| stopped(at) && follows(at))
        {
            return self.breaks(format!(
                "P5: {who} writable while {} receives from the old primary again",
                samples::letter(at)
            ));
        }
        if let Some((acks, _)) = &recovery.semi_sync
            && recovery.kind != Kind::Switchover
            && servers::ackers(&self.servers, old) >= *acks
        {
            self.breaks(format!("P6: {who} writable while the old primary can get {acks} acknowledgements"));
        }
        let held = self.servers[server].executed.merge(self.servers[server].received);
        if recovery.semi_sync.is_some() && !held.contains(self.memory.acknowledged) {
            self.breaks(format!("P6: {who} writable, and acknowledged writes are missing there"));
        }
    }

    /// I11: who takes writes is the record's primary, the candidate past the point of no return, or under a standing order.
    pub fn check_servers(&mut self) {
        let (brief, servers) = (self.brief(), self.servers);
        for server in (0..SERVERS).filter(|server| servers[*server].writable() && *server != brief.primary) {
            let ordered = brief.orders.iter().any(|(_, of)| *of == server);
            if !ordered && !self.is_candidate(server) {
                self.breaks(format!(
                    "I11: {} takes writes, and nothing says that it may",
                    samples::letter(server)
                ));
            }
        }
    }

    fn is_candidate(&self, server: usize) -> bool {
        let chosen = |r: &Recovery| {
            r.decision.as_ref().is_some_and(|d| samples::number(&d.candidate.server) == server)
        };
        let past = |r: &Recovery| matches!(r.phase, Phase::Intent | Phase::Published);
        self.state.value.recoveries.values().any(|r| past(r) && chosen(r))
    }
}

/// What an entry may do to the log's own state; `ended`: recoveries whose end was audited.
pub fn of_the_log(
    before: &State,
    after: &State,
    command: &Command,
    outcome: &Outcome,
    ended: Vec<u64>,
) -> Result<(), String> {
    ends_once(before, after, &ended)?;
    one_slot(after)?;
    match (&command.change, outcome) {
        (_, Outcome::Refused(_)) => refusal_changes_nothing(before, after, outcome),
        (Change::StartRecovery(start), _) if after.recoveries.len() > before.recoveries.len() => {
            allowed(before, start)
        }
        _ => Ok(()),
    }
}

/// P2, P3: verdicts of a majority, no block, recoveries switched on.
fn allowed(before: &State, start: &StartRecovery) -> Result<(), String> {
    if start.kind != Kind::Failover {
        return Ok(());
    }
    let nodes: BTreeSet<u64> = start.evidence.iter().map(|t| t.verdict.node).collect();
    let blocked = before.blocks.values().any(|block| block.lifted.is_none());
    match (nodes.len() < 2, blocked, before.recoveries_switch.enabled) {
        (true, _, _) => Err("P2: a start without verdicts of a majority".into()),
        (_, true, _) => Err("P3: a start while a block stands".into()),
        (_, _, false) => Err("I7: a start while recoveries are switched off".into()),
        _ => Ok(()),
    }
}

/// P4: an end is for good, and is audited once.
fn ends_once(before: &State, after: &State, audited: &[u64]) -> Result<(), String> {
    for (id, recovery) in &after.recoveries {
        let was = before.recoveries.get(id).and_then(|r| r.ending);
        let ended = usize::from(was.is_none() && recovery.ending.is_some());
        if was.is_some() && was != recovery.ending {
            return Err(format!("P4: recovery {id} ended {was:?}, and then {:?}", recovery.ending));
        }
        let told = audited.iter().filter(|of| *of == id).count();
        if told != ended {
            return Err(format!("P4: the end of recovery {id} is audited {told} times"));
        }
    }
    Ok(())
}

/// P3: one slot, held by whoever runs.
fn one_slot(state: &State) -> Result<(), String> {
    let running: Vec<u64> = state.recoveries.values().filter(|r| r.running()).map(|r| r.id).collect();
    let slot = samples::cluster(state).slot;
    match running.len() <= 1 && running.first().copied() == slot {
        true => Ok(()),
        false => Err(format!("P3: recoveries {running:?} run, and the slot is held by {slot:?}")),
    }
}

/// P7: a refused command leaves nothing behind but the passing of time and the memory of a request.
fn refusal_changes_nothing(before: &State, after: &State, outcome: &Outcome) -> Result<(), String> {
    let same = before.clusters == after.clusters
        && before.recoveries == after.recoveries
        && before.orders == after.orders
        && before.blocks == after.blocks;
    if same { Ok(()) } else { Err(format!("P7: a refused command changed something: {outcome:?}")) }
}
