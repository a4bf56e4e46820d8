//! Committing, losing and changing leaders; and what the leader's task does about running recoveries
//! (`server::leader::recoveries`).

use quorate::core::{
    analysis::Class,
    replicated::{
        Change, Kind, MemberState, Outcome, Phase, Recovery,
        command::{AckScope, StartRecovery},
        recovery::{Revoked, Waiver},
    },
};

use crate::{
    memo::{self, Kept, Running},
    samples,
    servers::Life,
    world::{Pending, Sender, World},
};

/// A client's name for its wish.
const REQUEST: &str = "r1";

impl World {
    /// The leader's first proposal is committed.
    pub fn commit(&mut self) {
        let pending = self.pending.remove(0);
        let outcome = self.apply(pending.node, pending.term, &pending.change, pending.request_id);
        self.hear(&pending, &outcome);
    }

    /// Whoever proposed it, and still leads, hears of it.
    fn hear(&mut self, pending: &Pending, outcome: &Outcome) {
        if !self.confirms(pending.node) {
            return;
        }
        match (&pending.sender, outcome) {
            (Sender::Driver, _) => self.hear_commit(pending.node, outcome),
            (Sender::Start, Outcome::Done { id, .. }) => self.begin(pending.node, *id, pending.since_ms),
            (Sender::TakeOver { cancel }, Outcome::Done { id, .. }) => {
                let state = self.state.clone();
                if let Some(recovery) = state.value.recoveries.get(id).filter(|r| r.running()) {
                    self.drive(pending.node, recovery, true, *cancel);
                }
            }
            _ => {}
        }
    }

    /// A start of this leader's is committed.
    fn begin(&mut self, node: usize, id: u64, proposed_ms: u64) {
        let drives = self.nodes[node].driver.as_ref().is_some_and(|driver| driver.recovery == id);
        let state = self.state.clone();
        let ours = |r: &&Recovery| r.driven_by(Self::node_id(node), self.term);
        let recovery = state.value.recoveries.get(&id).filter(ours);
        let Some(recovery) = recovery.filter(|_| !drives) else { return };
        let late = self.now_ms - proposed_ms > state.value.policy.start_within_ms;
        if !(late && recovery.kind == Kind::Failover) {
            self.drive(node, recovery, false, false);
        }
    }

    /// Applies an entry on every node that hears of it.
    pub fn apply(
        &mut self,
        node: usize,
        term: u64,
        change: &Kept<Change>,
        request_id: Option<&str>,
    ) -> Outcome {
        self.index += 1;
        let applied = memo::apply(self.index, &self.state, change, node, term, request_id, self.now_ms);
        if let Some(broken) = &applied.broken {
            self.breaks(broken.clone());
        }
        self.check_applied(&applied.state.value, &change.value, &applied.outcome);
        self.state = applied.state.clone();
        for node in self.nodes.iter_mut().filter(|node| !node.cut_off) {
            node.seen = self.state.clone();
        }
        applied.outcome.clone()
    }

    /// Another term: of what the old leader had proposed the first `kept` entries are in the new one's log and are committed
    /// with its first; the rest is lost.
    pub fn elect(&mut self, node: usize, kept: usize) {
        let old = std::mem::take(&mut self.pending);
        for pending in old.into_iter().take(kept) {
            self.apply(pending.node, pending.term, &pending.change, pending.request_id);
        }
        self.step_down(node);
        self.term += 1;
        self.leader = Some(node);
        self.nodes[node].believes = Some(self.term);
    }

    /// The node learns that its term is over; everything it drove ends.
    pub fn step_down(&mut self, node: usize) {
        self.stop_driving(node);
        self.stop_rejoining(node);
        self.nodes[node].believes = None;
        self.nodes[node].cut_off = false;
        self.nodes[node].seen = self.state.clone();
    }

    /// The running recovery that the leader neither drives nor is about to take over.
    pub fn orphan(&self) -> Option<Running> {
        let leader = self.leader?;
        let starting = |p: &Pending| matches!(p.sender, Sender::Start | Sender::TakeOver { .. });
        let recovery = self.brief().running?;
        let drives = self.nodes[leader].driver.as_ref().is_some_and(|d| d.recovery == recovery.id);
        (!drives && !self.pending.iter().any(starting)).then_some(recovery)
    }

    /// The leader takes it over; `agreed`: a majority still holds fresh verdicts, where they are asked for.
    pub fn take_over(&mut self, agreed: bool) {
        let Some(recovery) = self.orphan() else { return };
        let (mut evidence, mut cancel) = (Vec::new(), false);
        if recovery.unproven {
            match agreed {
                true => {
                    evidence = [1, 2].map(|node| samples::dead(node, self.epoch(), recovery.old)).to_vec()
                }
                false => cancel = true,
            }
        } else {
            cancel = recovery.kind == Kind::Switchover && recovery.phase < Phase::Intent;
        }
        let change = Change::TakeOver { recovery: recovery.id, evidence };
        self.lead(change, None, Sender::TakeOver { cancel });
    }

    fn epoch(&self) -> u64 {
        samples::cluster(&self.state.value).epoch
    }

    /// The leader's own proposal.
    fn lead(&mut self, change: Change, request_id: Option<&'static str>, sender: Sender) {
        let leader = self.leader.expect("looked at by whoever enabled it");
        self.propose(leader, self.term, memo::change(change), request_id, sender);
    }

    /// The leader proposes a recovery of the scenario's kind, or an automatic failover of a dead primary.
    pub fn start(&mut self, kind: Kind) {
        let change = Change::StartRecovery(Box::new(self.start_of(kind)));
        self.lead(change, (kind != Kind::Failover).then_some(REQUEST), Sender::Start);
    }

    fn start_of(&self, kind: Kind) -> StartRecovery {
        let (cluster, primary) = (samples::cluster(&self.state.value), self.brief().primary);
        let revoked: Vec<Revoked> = cluster
            .replicas_of(&samples::id(primary))
            .filter(|member| member.state == MemberState::Normal)
            .map(|member| Revoked { target: member.target(), channel: member.channel.clone() })
            .collect();
        let ackers = revoked.iter().map(|r| r.target.server.clone()).collect();
        let evidence = match kind {
            Kind::Failover => [1, 2].map(|node| samples::dead(node, cluster.epoch, primary)).to_vec(),
            _ => Vec::new(),
        };
        StartRecovery {
            kind,
            cluster: cluster.id.clone(),
            class: Class::Primary,
            code: None,
            epoch: cluster.epoch,
            generation: cluster.generation,
            subject: samples::id(primary),
            evidence,
            revoked,
            semi_sync: self.servers[primary].acks.map(|acks| (acks, ackers)),
            waived: if kind == Kind::Forced { vec![Waiver::Verdict] } else { Vec::new() },
            to: None,
            kill_writers: true,
        }
    }

    /// Whether a start of this kind makes sense now: of an automatic one verdicts speak, an operator's is asked for once.
    pub fn may_start(&self, kind: Kind) -> bool {
        let brief = self.brief();
        let starting = self.pending.iter().any(|p| p.sender == Sender::Start);
        let free = brief.running.is_none_or(|holder| holder.undoing && kind != Kind::Switchover);
        let silent = self.servers[brief.primary].life != Life::Up;
        let fits = match kind {
            Kind::Failover => silent,
            Kind::Forced => silent && !brief.asked,
            Kind::Switchover => !silent && !brief.asked,
        };
        self.leader.is_some() && self.starts > 0 && !starting && free && fits
    }

    /// An operator's wish is there and its client asks again.
    pub fn may_ask_again(&self) -> bool {
        let starting = self.pending.iter().any(|p| p.sender == Sender::Start);
        self.leader.is_some() && self.term > 1 && self.asks > 0 && self.brief().asked && !starting
    }

    /// A person acknowledges everything, or switches recoveries off.
    pub fn operator(&mut self, switches_off: bool) {
        let change = match switches_off {
            true => Change::SetRecoveries { cluster: None, enabled: false, why: "model".into() },
            false => Change::Acknowledge { scope: AckScope::All, comment: "model".into() },
        };
        let leader = self.leader.expect("looked at by whoever enabled it");
        self.apply(leader, self.term, &memo::change(change), None);
    }
}
