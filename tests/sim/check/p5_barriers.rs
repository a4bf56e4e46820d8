//! P5, I13: revoked before decided, decided and drained before writable, intent before writable, published before the
//! rest is re-pointed.

use std::collections::BTreeSet;

use quorate::{
    core::replicated::{Change, Kind, Phase, Recovery},
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
}

impl Check for Barriers {
    fn id(&self) -> &'static str {
        "P5 barriers in order"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
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
        let missing =
            recovery.revoked.iter().find(|r| !self.revoked.contains(&(id, r.target.server.clone())));
        match missing {
            None => Ok(()),
            Some(missed) => {
                Err(format!("recovery {id} is decided and {} was never revoked", missed.target.address))
            }
        }
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
