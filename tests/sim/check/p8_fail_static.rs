//! P8, I20: the primary on record is never fenced but under a recovery that runs: not by a node that comes back, not by
//! a standing order of another epoch.

use quorate::core::replicated::{Ending, Recovery};

use super::Check;
use crate::{fleet::Statement, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct FailStatic;

impl Check for FailStatic {
    fn id(&self) -> &'static str {
        "P8 a primary nobody replaces is left alone"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        let Event::Sent { node, server, permit, action, statements, .. } = event else { return Ok(()) };
        let fences = |statement: &Statement| {
            matches!(
                statement,
                Statement::ReadOnly(true) | Statement::SuperReadOnly(true) | Statement::OfflineMode(true)
            )
        };
        if *action != "fence" || !statements.iter().any(fences) || world.primary() != Some(*server) {
            return Ok(());
        }
        let running = permit.recovery.parse().ok().and_then(|id| world.group.state.recoveries.get(&id));
        // One that failed past its point of no return says that its primary may be fenced, by what was begun before.
        // Where a fence's fate was unknown, a failover may take its recovery's place; what was sent to a frozen server under
        // the one goes on when it thaws, while the other replaces that server.
        let replaced = |recovery: &Recovery| {
            let mut running = world.group.state.recoveries.values().filter(|other| other.running());
            running.any(|other| other.supersedes == Some(recovery.id))
        };
        let may = |recovery: &Recovery| {
            recovery.running() || recovery.ending == Some(Ending::Failed) || replaced(recovery)
        };
        match running.is_some_and(may) {
            true => Ok(()),
            false => Err(format!(
                "node {node} fences server {}, the primary, under {}, which does not run",
                server.0, permit.recovery
            )),
        }
    }
}
