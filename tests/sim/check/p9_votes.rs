//! P9, I9: one vote a node and term, no vote forgotten over a restart, and what was acknowledged to an operator stays in
//! the log. The model log keeps the first two by construction; this sees that it does. In tier B a vote is what a node
//! answers, and what a leader was elected by.

use std::collections::BTreeMap;

use super::Check;
use crate::{raft::Load, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Votes {
    votes: BTreeMap<(u64, u64), u64>,
    /// The newest term in which a directory has voted, by its name.
    newest: BTreeMap<std::sync::Arc<str>, u64>,
    /// Requests that were acknowledged, with their index.
    acknowledged: BTreeMap<String, u64>,
}

impl Check for Votes {
    fn id(&self) -> &'static str {
        "P9 one vote, no acknowledged change lost"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Voted { node, term, for_node } => {
                if let Some(voter) = world.nodes.get(node) {
                    let newest = self.newest.entry(voter.incarnation.clone()).or_default();
                    *newest = (*newest).max(*term);
                }
                match self.votes.insert((*node, *term), *for_node) {
                    Some(other) if other != *for_node => {
                        Err(format!("node {node} votes for {other} and {for_node} in term {term}"))
                    }
                    _ => Ok(()),
                }
            }
            Event::NodeOpened(node) => {
                let voter = &world.nodes[node];
                let (given, known) = (self.newest.get(&voter.incarnation), voter.home.term_on_disk());
                match given {
                    Some(given) if *given > known => {
                        Err(format!("node {node} has voted in term {given} and remembers term {known}"))
                    }
                    _ => Ok(()),
                }
            }
            Event::OperatorTold { request, index: Some(index), .. } => {
                self.acknowledged.insert(request.clone(), *index);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        for (request, index) in &self.acknowledged {
            let entry = world.group.entry(*index);
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
