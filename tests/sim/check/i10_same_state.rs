//! I10: a node that has applied an index holds the state that the log makes up to it, however it came there: entry by
//! entry, after a restart, or over a snapshot.

use super::Check;
use crate::{trace::Event, world::World};

/// See above.
pub struct SameState;

impl Check for SameState {
    fn id(&self) -> &'static str {
        "I10 the same state on every node"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        match event {
            Event::Compared { node, index, equal: false } => {
                Err(format!("node {node}'s state at {index} is not what the log makes"))
            }
            _ => Ok(()),
        }
    }
}
