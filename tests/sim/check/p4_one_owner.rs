//! P4, P5: no step of a recovery is begun before it is taken over; and nothing sent in an older term reaches a server
//! from which a later owner has seen the other nodes' sessions gone. What is sent over a session that the server has
//! ended lands nowhere: its sender has not heard of the end yet, and its permit, which is older, still holds.

use std::collections::BTreeMap;

use quorate::{core::plan::step::Action, model::server::ServerId};

use super::{Check, p1_permitted::changes};
use crate::{
    trace::{Event, Permitted},
    world::World,
};

/// See above.
#[derive(Default)]
pub struct OneOwner {
    /// By whom, and in which term, the sessions of all others were last seen gone.
    cleared: BTreeMap<ServerId, (u64, u64)>,
}

impl Check for OneOwner {
    fn id(&self) -> &'static str {
        "P4 one owner"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::StepBegan { node, permit, .. } => owned(world, *node, permit),
            Event::StepEnded { node, step, permit, end }
                if step.action == Action::KillPredecessors && end.is_done() && recovery(permit).is_some() =>
            {
                self.cleared.insert(step.target.server.clone(), (*node, permit.term));
                Ok(())
            }
            Event::Sent { node, session, permit, target, statements, action, .. }
                if recovery(permit).is_some()
                    && statements.iter().any(changes)
                    && session.is_some_and(|session| world.fleet.hears(session)) =>
            {
                match self.cleared.get(target) {
                    Some((by, term)) if by != node && permit.term < *term => Err(format!(
                        "node {node} sends {action} in term {}, over a session that lives, to a server from which node \
                         {by} has seen it gone in term {term}",
                        permit.term
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The recovery that a permit names; standing orders and witnesses have names of their own.
fn recovery(permit: &Permitted) -> Option<u64> {
    permit.recovery.parse().ok()
}

fn owned(world: &World, node: u64, permit: &Permitted) -> Result<(), String> {
    let Some(id) = recovery(permit) else { return Ok(()) };
    let owner = world.reads(node, |state| state.recoveries.get(&id).map(|recovery| recovery.owner));
    match owner.flatten() {
        // The other way round it is about to be stopped: it has just heard of a newer leader.
        Some((_, term)) if term < permit.term => Err(format!(
            "node {node} begins a step of recovery {id} in term {} and has not taken it over from term {term}",
            permit.term
        )),
        _ => Ok(()),
    }
}
