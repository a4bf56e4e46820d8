//! I3, L4: where only the view of observers was harmed, nothing is failed over by itself; where one link flaps, at most
//! once.

use std::collections::BTreeSet;

use quorate::core::replicated::{Change, Kind as Recovery};

use super::{Check, account::changed};
use crate::{scenario::Kind, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct FalseFailover {
    published: BTreeSet<u64>,
}

impl Check for FalseFailover {
    fn id(&self) -> &'static str {
        "I3/L4 no false failover"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        match (changed(event), world.kind) {
            (Some((Change::StartRecovery(start), id)), Kind::Observers)
                if start.kind == Recovery::Failover =>
            {
                Err(format!("recovery {id} starts, and the primary was well all the time"))
            }
            (Some((Change::Publish { recovery }, _)), Kind::Flap) => {
                self.published.insert(*recovery);
                match self.published.len() > 1 {
                    true => Err(format!("{} promotions of one flapping link", self.published.len())),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
