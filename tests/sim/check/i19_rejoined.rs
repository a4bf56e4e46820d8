//! I17, I19: a returned primary is rejoined only where the cluster holds everything that it holds; else it is set aside, and
//! what it alone holds stays there.

use std::collections::BTreeMap;

use quorate::{
    core::replicated::{Change, OrderStage},
    model::address::Address,
};

use super::{Check, account::changed};
use crate::{trace::Event, world::World};

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

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        let Some((Change::AdvanceOrder { order, stage }, _)) = changed(event) else { return Ok(()) };
        if let Some(order) = world.group.state.orders.get(order) {
            self.targets.insert(order.id, order.target.address.clone());
        }
        if *stage != OrderStage::Rejoined {
            return Ok(());
        }
        let target = self.targets.get(order).and_then(|address| world.server_at(address));
        // What somebody writes there after it was read, nobody sees in time.
        let target = target.filter(|no| !world.errant.contains_key(no));
        let (Some(target), Some(primary)) = (target, world.primary()) else { return Ok(()) };
        let held = world.fleet.server(target).log.executed_as_read();
        let primary = world.fleet.server(primary);
        let alone = held.subtract(&primary.log.executed_as_read());
        // What the primary has sent and not committed yet is its own.
        let alone = alone.subtract(&alone.written_by(&primary.spec.identity()));
        match alone.is_empty() {
            true => Ok(()),
            false => Err(format!("server {} is rejoined and alone holds {alone}", target.0)),
        }
    }
}
