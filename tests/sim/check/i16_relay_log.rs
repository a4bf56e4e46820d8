//! I16: a step never takes a transaction from a server's hands: what it had received or executed before the step it has
//! after it, but for what the decision names as lost.

use std::collections::BTreeMap;

use quorate::model::{gtid::GtidSet, server::Flavor};

use super::{Check, p1_permitted::changes};
use crate::{
    fleet::{ServerNo, server::Process},
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct RelayLog {
    /// By node and server: what was in hand before the first change of a step, and when its process began.
    before: BTreeMap<(u64, ServerNo), (GtidSet, u64)>,
    /// Somebody else stops receivers and starts them, which deletes relay log where the applier stands as well (MariaDB).
    meddled: bool,
}

impl Check for RelayLog {
    fn id(&self) -> &'static str {
        "I16 what was received is not thrown away"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Fault { what, .. } if what.starts_with("StopReceiver") => {
                self.meddled = true;
                self.before.clear();
            }
            Event::FaultOver { .. } if self.meddled => self.before.clear(),
            Event::Sent { node, server, action, statements, .. }
                if matches!(*action, "stop_receiver" | "detach" | "point" | "restart_receiver" | "drain")
                    && statements.iter().any(changes) =>
            {
                let started = world.fleet.server(*server).started_ms;
                self.before.entry((*node, *server)).or_insert_with(|| (in_hand(world, *server), started));
            }
            Event::StepEnded { node, step, permit, .. } => {
                let Some(server) = world.server_at(&step.target.address) else { return Ok(()) };
                let Some((before, started)) = self.before.remove(&(*node, server)) else { return Ok(()) };
                // Its machine may have failed since, in this very millisecond too, and taken what was not on its disk.
                let now = world.fleet.server(server);
                if now.started_ms != started || matches!(now.process, Process::Down | Process::Starting(_)) {
                    return Ok(());
                }
                let mut gone = before.subtract(&in_hand(world, server));
                let recovery =
                    permit.recovery.parse().ok().and_then(|id| world.group.state.recoveries.get(&id));
                if let Some(decision) = recovery.and_then(|recovery| recovery.decision.as_ref()) {
                    gone = gone.subtract(&decision.lost);
                }
                if !gone.is_empty() && !passed(world, server, &gone) {
                    return Err(format!("{step} of node {node} takes {gone} from server {}", server.0));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// MariaDB tells what it received as a position, the last one of a domain: what lies before it was received too.
fn passed(world: &World, server: ServerNo, gone: &GtidSet) -> bool {
    world.fleet.server(server).channels.iter().any(|channel| {
        let mut both = gone.clone();
        both.merge(&channel.received);
        gone.flavor() == Flavor::MariaDb && both.position() == channel.received.position()
    })
}

/// What a server has executed or received.
pub fn in_hand(world: &World, server: ServerNo) -> GtidSet {
    let server = world.fleet.server(server);
    let mut all = server.log.executed_as_read();
    for channel in &server.channels {
        all.merge(&channel.received);
        // MariaDB's position names the newest only, whichever server wrote it.
        channel.relay.iter().for_each(|(_, txn)| all.merge(&txn.gtid));
    }
    all
}
