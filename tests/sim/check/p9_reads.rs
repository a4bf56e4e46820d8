//! P9, I7: a read barrier that was passed lets a reader see everything that anybody had been told of when it began.

use super::Check;
use crate::{trace::Event, world::World};

/// See above.
pub struct Reads;

impl Check for Reads {
    fn id(&self) -> &'static str {
        "P9 no stale read"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        match event {
            Event::Barrier { node, acknowledged, index, applied }
                if index < acknowledged || applied < index =>
            {
                Err(format!(
                    "node {node} passes a barrier at {index} with {applied} applied, when {acknowledged} was acknowledged"
                ))
            }
            _ => Ok(()),
        }
    }
}
