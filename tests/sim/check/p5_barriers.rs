//! P5, I13: revoked before decided, decided and drained before writable, intent before writable, published before the
//! rest is re-pointed.

use std::collections::{BTreeMap, BTreeSet};

use quorate::{
    core::{
        plan::step::Target,
        replicated::{Change, Kind, Phase, Recovery},
    },
    model::server::ServerId,
};

use super::{Check, account::changed};
use crate::{
    fleet::{ServerNo, Statement},
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct Barriers {
    /// Whose receiver was to be stopped, done or unknown by its deadline, for which recovery.
    revoked: BTreeSet<(u64, ServerId)>,
    /// When each recovery started, true time.
    started: BTreeMap<u64, u64>,
    /// When a node last had no session to a server for a step, and asked for one: what it then cannot have it cannot use.
    sought: BTreeMap<(u64, ServerNo), u64>,
}

impl Check for Barriers {
    fn id(&self) -> &'static str {
        "P5 barriers in order"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Event::SessionSought { node, server } = event {
            self.sought.insert((*node, *server), at);
        }
        if let Some((Change::StartRecovery(_), id)) = changed(event) {
            self.started.entry(id).or_insert(at);
        }
        if let Event::StepBegan { step, permit, .. } = event
            && step.action.name() == "stop_receiver"
            && let Ok(id) = permit.recovery.parse()
        {
            self.revoked.insert((id, step.target.server.clone()));
        }
        if let Some((Change::DecidePromotion { recovery, .. }, _)) = changed(event) {
            return self.decided(world, *recovery);
        }
        let Event::Sent { node, server, permit, action, target, statements, .. } = event else {
            return Ok(());
        };
        let Some(recovery) =
            permit.recovery.parse().ok().and_then(|id| world.group.state.recoveries.get(&id))
        else {
            return Ok(());
        };
        let who = format!("node {node}, recovery {}, server {}", recovery.id, server.0);
        match *action {
            "make_writable" if statements.iter().any(|s| matches!(s, Statement::ReadOnly(false))) => {
                writable(world, recovery, *server, target).map_err(|why| format!("{who}: {why}"))
            }
            "point" if statements.iter().any(|s| matches!(s, Statement::ChangeSource(..))) => {
                let back = |s: &Statement| match s {
                    Statement::ChangeSource(_, change) => change.source == recovery.old_primary.address,
                    _ => false,
                };
                if statements.iter().any(back) {
                    // An undo: whom it followed, it may follow again.
                    return Ok(());
                }
                pointed(recovery, target).map_err(|why| format!("{who}: {why}"))
            }
            _ => Ok(()),
        }
    }
}

impl Barriers {
    fn decided(&self, world: &World, id: u64) -> Result<(), String> {
        let Some(recovery) = world.group.state.recoveries.get(&id) else { return Ok(()) };
        if recovery.kind == Kind::Switchover {
            return Ok(());
        }
        let tried = |target: &Target| {
            self.revoked.contains(&(id, target.server.clone())) || self.was_sought(world, recovery, target)
        };
        match recovery.revoked.iter().find(|revoked| !tried(&revoked.target)) {
            None => Ok(()),
            Some(missed) => {
                Err(format!("recovery {id} is decided and {} was never revoked", missed.target.address))
            }
        }
    }
}

impl Barriers {
    /// Whether the node that drives a recovery asked for a session to a server since that began: a step without one ends
    /// before it begins.
    fn was_sought(&self, world: &World, recovery: &Recovery, target: &Target) -> bool {
        let sought =
            world.server_at(&target.address).and_then(|server| self.sought.get(&(recovery.owner.0, server)));
        sought.is_some_and(|at| self.started.get(&recovery.id).is_some_and(|started| started <= at))
    }
}

fn writable(world: &World, recovery: &Recovery, server: ServerNo, target: &ServerId) -> Result<(), String> {
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
