//! I17, I19: a returned primary is rejoined only where the cluster holds everything that it holds, and it everything that it
//! wrote itself; else it is set aside, and what it alone holds stays there.

use std::collections::BTreeMap;

use quorate::{
    core::replicated::{Change, OrderStage},
    model::{address::Address, gtid::GtidSet},
};

use super::{Check, account::done};
use crate::{fleet::SimServer, trace::Event, world::World};

/// How long the comparison of two servers and what follows from it take at the most, milliseconds.
const COMPARED_MS: u64 = 5_000;

/// See above.
#[derive(Default)]
pub struct Rejoined {
    /// Whom each standing order is about.
    targets: BTreeMap<u64, Address>,
}

impl Check for Rejoined {
    fn id(&self) -> &'static str {
        "I19 nothing is rejoined away"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        let Some((_, command, _)) = done(event) else { return Ok(()) };
        let Change::AdvanceOrder { order, stage } = &command.change else { return Ok(()) };
        // Compared before it was proposed, however late it is committed.
        let proposed = world.proposed.get(&(command.node, command.term, command.at_ms));
        let proposed = proposed.copied().unwrap_or(at);
        if let Some(order) = world.group.state.orders.get(order) {
            self.targets.insert(order.id, order.target.address.clone());
        }
        let target = self.targets.get(order).and_then(|address| world.server_at(address));
        // What somebody writes there after it was read, nobody sees in time.
        let target = target.filter(|no| !world.errant.contains_key(no));
        // Another server has just been put there.
        let since = |no| world.strangers.since(no);
        let target = target.filter(|no| since(*no).is_none_or(|since| since + COMPARED_MS < proposed));
        // Another server may stand in the primary's place (P11).
        let primary = world.primary().filter(|primary| world.strangers.since(*primary).is_none());
        let (Some(target), Some(primary)) = (target, primary) else { return Ok(()) };
        let server = world.fleet.server(target);
        let held = server.log.executed_as_read();
        let primary = world.fleet.server(primary);
        if primary.power_failed_ms.is_some_and(|failed| failed + COMPARED_MS >= proposed) {
            // It has lost since what it held when they were compared.
            return Ok(());
        }
        // With what is in its binlog and waits for an acknowledgement.
        let mut written = held.clone();
        server.log.entries().iter().for_each(|entry| written.merge(&entry.txn.gtid));
        let lost = primary.log.executed_as_read().written_by(&server.spec.identity()).subtract(&written);
        match stage {
            OrderStage::Quarantined { errant, .. } if errant.is_empty() && lost.is_empty() => {
                return Err(format!("server {} is set aside for what it holds", target.0));
            }
            OrderStage::Rejoined if !lost.is_empty() && knows_its_own(server, &lost) => {
                return Err(format!("server {} is rejoined and will never get its own {lost}", target.0));
            }
            OrderStage::Rejoined => {}
            _ => return Ok(()),
        }
        let alone = held.subtract(&primary.log.executed_as_read());
        // What the primary has sent and not committed yet is its own.
        let alone = alone.subtract(&alone.written_by(&primary.spec.identity()));
        match alone.is_empty() {
            true => Ok(()),
            false => Err(format!("server {} is rejoined and alone holds {alone}", target.0)),
        }
    }
}

/// MariaDB: one whose history holds nothing of its own, and goes on behind those numbers, cannot tell that it lacks some.
fn knows_its_own(server: &SimServer, lost: &GtidSet) -> bool {
    let executed = server.log.executed_as_read();
    let has_come_so_far = executed.is_empty() || lost.passed_at(&executed).contains(lost);
    !executed.written_by(&server.spec.identity()).is_empty() || !has_come_so_far
}
