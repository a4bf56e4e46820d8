//! P9, I9: one vote a node and term, and what was acknowledged to an operator stays in the log. The model log keeps the
//! first by construction; this sees that it does.

use std::collections::BTreeMap;

use super::Check;
use crate::{raft::Load, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Votes {
    votes: BTreeMap<(u64, u64), u64>,
    /// Requests that were acknowledged, with their index.
    acknowledged: BTreeMap<String, u64>,
}

impl Check for Votes {
    fn id(&self) -> &'static str {
        "P9 one vote, no acknowledged change lost"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        match event {
            Event::Voted { node, term, for_node } => match self.votes.insert((*node, *term), *for_node) {
                Some(other) if other != *for_node => {
                    Err(format!("node {node} votes for {other} and {for_node} in term {term}"))
                }
                _ => Ok(()),
            },
            Event::OperatorTold { request, index: Some(index), .. } => {
                self.acknowledged.insert(request.clone(), *index);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        for (request, index) in &self.acknowledged {
            let entry = world.group.committed.get(*index as usize - 1);
            let holds = entry.is_some_and(|entry| match &entry.load {
                Load::Command(command) => command.request_id.as_ref() == Some(request),
                _ => false,
            });
            if !holds {
                return Err(format!(
                    "request {request} was acknowledged at log index {index} and is not there"
                ));
            }
        }
        Ok(())
    }
}
