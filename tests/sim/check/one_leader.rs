//! Raft's election safety: a term has one leader at most.

use std::collections::BTreeMap;

use super::Check;
use crate::{trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct OneLeader {
    leaders: BTreeMap<u64, u64>,
}

impl Check for OneLeader {
    fn id(&self) -> &'static str {
        "one leader a term"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        let Event::Leads { node, term } = event else { return Ok(()) };
        match self.leaders.insert(*term, *node) {
            Some(other) if other != *node => Err(format!("nodes {other} and {node} lead in term {term}")),
            _ => Ok(()),
        }
    }
}
