//! P5, I13: revoked, and the fence attempted, before decided; drained before the point of no return; that and the ackers
//! before writable; a write proven before published; published before the rest is re-pointed. A switchover fences before it
//! decides.

use std::collections::{BTreeMap, BTreeSet};

use quorate::{
    core::{
        plan::step::{Step, StepEnd},
        replicated::{Change, Kind, Phase, Recovery},
    },
    model::server::ServerId,
};

use super::{Check, account::done};
use crate::{
    fleet::{ServerNo, Statement},
    trace::{Event, Permitted},
    world::World,
};

/// Steps of one name on one server for one recovery.
type Steps = BTreeSet<(u64, &'static str, ServerId)>;

/// See above.
#[derive(Default)]
pub struct Barriers {
    /// Steps that began: what they are to bring about is done, or unknown by its deadline.
    begun: Steps,
    /// When a node last wanted a session to a server, true time, and no step of its began there since: each step begins with
    /// its session, and gets no further where the server cannot be reached.
    wanted: BTreeMap<(u64, ServerId), u64>,
    /// When each recovery started, true time.
    started: BTreeMap<u64, u64>,
    /// Steps that were done.
    done: Steps,
    /// Who follows the candidate, by recovery.
    followers: BTreeMap<u64, BTreeSet<ServerId>>,
}

impl Check for Barriers {
    fn id(&self) -> &'static str {
        "P5 barriers in order"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Opening { node, server } => drop(self.wanted.insert((*node, server.clone()), at)),
            Event::StepBegan { node, step, permit } => self.began(*node, step, permit),
            Event::StepEnded { step, permit, end: StepEnd::Done(_), .. } => self.ended(step, permit),
            Event::Sent { node, server, permit, action, target, statements, .. } => {
                let recovery = permit.recovery.parse().ok();
                if let Some(recovery) = recovery.and_then(|id| world.group.state.recoveries.get(&id)) {
                    let sent = self.sent(world, recovery, *server, (*action, target), statements);
                    let who = || format!("node {node}, recovery {}, server {}", recovery.id, server.0);
                    return sent.map_err(|why| format!("{}: {why}", who()));
                }
            }
            _ => {}
        }
        let Some((_, command, id)) = done(event) else { return Ok(()) };
        let change = &command.change;
        if let Change::StartRecovery(_) = change {
            self.started.entry(id).or_insert(at);
        }
        let (Change::DecidePromotion { recovery, .. }
        | Change::RecordIntent { recovery }
        | Change::Publish { recovery }) = change
        else {
            return Ok(());
        };
        let Some(recovery) = world.group.state.recoveries.get(recovery) else { return Ok(()) };
        let passed = match change {
            // Taken out of the group it fences nothing itself, and whom it asked may never have heard it.
            Change::DecidePromotion { .. } if !world.group.state.voters.contains_key(&command.node) => Ok(()),
            Change::DecidePromotion { .. } => self.decided(recovery),
            Change::RecordIntent { .. } => self.on_candidate(recovery, "drain"),
            _ if world.group.state.policy.verify_by_write => self.on_candidate(recovery, "verify_write"),
            _ => Ok(()),
        };
        passed.map_err(|why| format!("{} of recovery {}: {why}", change.name(), recovery.id))
    }
}

impl Barriers {
    fn began(&mut self, node: u64, step: &Step, permit: &Permitted) {
        self.wanted.remove(&(node, step.target.server.clone()));
        if let Ok(recovery) = permit.recovery.parse() {
            if step.action.name() == "kill_predecessors" {
                // What one leader saw gone, the next looks for anew.
                self.done.remove(&(recovery, step.action.name(), step.target.server.clone()));
            }
            self.begun.insert((recovery, step.action.name(), step.target.server.clone()));
        }
    }

    /// Whether a step began there, or was tried in vain.
    fn tried(&self, recovery: u64, step: &'static str, server: &ServerId) -> bool {
        let since = self.started.get(&recovery).copied().unwrap_or(0);
        let in_vain = self.wanted.iter().any(|((_, to), at)| to == server && *at >= since);
        in_vain || self.begun.contains(&(recovery, step, server.clone()))
    }

    fn ended(&mut self, step: &Step, permit: &Permitted) {
        let Ok(recovery) = permit.recovery.parse() else { return };
        self.done.insert((recovery, step.action.name(), step.target.server.clone()));
        if step.action.name() == "point" {
            self.followers.entry(recovery).or_default().insert(step.target.server.clone());
        }
    }

    fn decided(&self, recovery: &Recovery) -> Result<(), String> {
        let (id, old) = (recovery.id, &recovery.old_primary);
        if recovery.kind == Kind::Switchover {
            return match self.done.contains(&(id, "make_read_only", old.server.clone())) {
                true => Ok(()),
                false => Err(format!("{} was not seen read-only", old.address)),
            };
        }
        if !self.tried(id, "fence", &old.server) {
            return Err(format!("nobody tried to fence {}", old.address));
        }
        // A successor touches no server on which a predecessor's session may live on: what that one holds is unknown.
        let barred = |server: &ServerId| {
            let cleared = (id, "kill_predecessors", server.clone());
            self.begun.contains(&cleared) && !self.done.contains(&cleared)
        };
        let missed = |server: &ServerId| !self.tried(id, "stop_receiver", server) && !barred(server);
        match recovery.revoked.iter().find(|revoked| missed(&revoked.target.server)) {
            None => Ok(()),
            Some(missed) => Err(format!("{} was never revoked", missed.target.address)),
        }
    }

    fn on_candidate(&self, recovery: &Recovery, step: &'static str) -> Result<(), String> {
        let Some(decision) = &recovery.decision else { return Err("there is no decision".into()) };
        let candidate = &decision.candidate;
        match self.done.contains(&(recovery.id, step, candidate.server.clone())) {
            true => Ok(()),
            false => Err(format!("{step} was never done on {}", candidate.address)),
        }
    }

    fn sent(
        &self,
        world: &World,
        recovery: &Recovery,
        server: ServerNo,
        (action, target): (&str, &ServerId),
        statements: &[Statement],
    ) -> Result<(), String> {
        match action {
            "make_writable" if statements.iter().any(|s| matches!(s, Statement::ReadOnly(false))) => {
                writable(world, recovery, server, target)?;
                self.ackers_follow(recovery)
            }
            "point" if statements.iter().any(|s| matches!(s, Statement::ChangeSource(..))) => {
                let back = |s: &Statement| match s {
                    Statement::ChangeSource(_, change) => change.source == recovery.old_primary.address,
                    _ => false,
                };
                // An undo: whom it followed, it may follow again.
                if statements.iter().any(back) { Ok(()) } else { pointed(recovery, target) }
            }
            _ => Ok(()),
        }
    }

    /// Under semi-sync: its source side is on, and as many as a commit waits for follow the candidate.
    fn ackers_follow(&self, recovery: &Recovery) -> Result<(), String> {
        let Some(decision) = &recovery.decision else { return Ok(()) };
        let Some(acks) = decision.semi_sync_acks else { return Ok(()) };
        let followers = self.followers.get(&recovery.id);
        let ready = decision
            .ackers
            .iter()
            .filter(|acker| followers.is_some_and(|all| all.contains(&acker.target.server)));
        let ready = ready.count();
        if ready < acks as usize {
            return Err(format!("writable with {ready} ackers, and a commit waits for {acks}"));
        }
        self.on_candidate(recovery, "enable_semi_sync_source")
    }
}

fn writable(world: &World, recovery: &Recovery, server: ServerNo, target: &ServerId) -> Result<(), String> {
    if !world.fleet.server(server).runs() || world.strangers.since(server).is_some() {
        // It lands nowhere (what the server held may be lost by now), or on another server, which refuses it (P11).
        return Ok(());
    }
    let Some(decision) = &recovery.decision else { return Err("writable before a decision".into()) };
    if &decision.candidate.server != target {
        return Err(format!("writable, and the candidate is {}", decision.candidate.address));
    }
    if recovery.phase < Phase::Intent {
        return Err(format!("writable in phase {:?}", recovery.phase));
    }
    let has = world.fleet.server(server).log.executed_as_read();
    match has.contains(&decision.must_hold) {
        true => Ok(()),
        false => Err(format!("writable with {has}, and must hold {}", decision.must_hold)),
    }
}

fn pointed(recovery: &Recovery, target: &ServerId) -> Result<(), String> {
    let acker = recovery
        .decision
        .as_ref()
        .is_some_and(|decision| decision.ackers.iter().any(|acker| &acker.target.server == target));
    let published = recovery.phase >= Phase::Published;
    let back = recovery.undo.is_some();
    match published || back || (acker && recovery.phase >= Phase::Decided) {
        true => Ok(()),
        false => Err(format!("re-pointed in phase {:?}", recovery.phase)),
    }
}
