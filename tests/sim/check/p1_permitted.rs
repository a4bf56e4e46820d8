//! P1, P7, I1, I4: every statement of a step that changes a server rests on an entry that is in the log, was applied by the
//! node that sends it, names that server, and still allows it; and is sent while its permit holds.

use std::collections::BTreeSet;

use quorate::core::replicated::Change;

use super::{Check, account::done};
use crate::{
    fleet::{ServerNo, Statement},
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct Permitted {
    /// Indexes of the entries that allow steps, and took effect.
    allowed: BTreeSet<u64>,
}

impl Check for Permitted {
    fn id(&self) -> &'static str {
        "P1 no statement without a committed permit"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Some((index, command, _)) = done(event)
            && allows(&command.change)
        {
            self.allowed.insert(index);
        }
        let Event::Sent { node, server, permit, in_time, target, action, statements, .. } = event else {
            return Ok(());
        };
        let Some(change) = statements.iter().find(|statement| changes(statement)) else { return Ok(()) };
        let who = format!("node {node} sends {change:?} ({action}) to server {}", server.0);
        if !in_time {
            return Err(format!("{who} after its permit has expired"));
        }
        let applied = world.applied(*node);
        if permit.log_index == 0 || applied < permit.log_index {
            return Err(format!("{who} under log index {}, and has applied {applied}", permit.log_index));
        }
        if !self.allowed.contains(&permit.log_index) {
            return Err(format!("{who} under log index {}, which allows nothing", permit.log_index));
        }
        is_member(world, *server, &target.0).map_err(|why| format!("{who}: {why}"))
    }
}

/// What a session sets for itself, asks or marks changes no server.
pub fn changes(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::Ping
            | Statement::Sleep(_)
            | Statement::LockWaitTimeout(_)
            | Statement::MaxStatementTime(_)
            | Statement::CheckIdentity(_)
            | Statement::GuardNoWaiting
            | Statement::AskProfile
            | Statement::ReadFacts(_)
            | Statement::TakeMark(_)
            | Statement::MarkHolders(_)
            | Statement::ListClients
            | Statement::ListTableLocks
            | Statement::WaitForGtids(..)
    )
}

/// Only these allow a change: a start, a publication and the end of a recovery whose candidate may take writes (each issues
/// a standing order), the call of a witness. One that was refused allows nothing (P7).
fn allows(change: &Change) -> bool {
    matches!(
        change,
        Change::StartRecovery(_)
            | Change::Publish { .. }
            | Change::FinishRecovery { candidate_open: true, .. }
            | Change::CallWitness(_)
    )
}

fn is_member(world: &World, server: ServerNo, target: &str) -> Result<(), String> {
    let address = &world.fleet.server(server).spec.address;
    let member = world.group.state.member_at(address).map(|(_, member)| member);
    match member {
        Some(member) if member.server.0 == target => Ok(()),
        _ => Err(format!("the step is for {target}")),
    }
}
