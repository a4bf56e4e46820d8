//! P9: what a proposer is told to be in the log is there, at that index and of that term, and stays there. In tier A the
//! model log keeps this by construction.

use std::{collections::BTreeMap, sync::Arc};

use quorate::core::replicated::Command;

use super::Check;
use crate::{raft::Load, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Proposals {
    told: BTreeMap<u64, (u64, Arc<Command>)>,
}

impl Check for Proposals {
    fn id(&self) -> &'static str {
        "P9 what was acknowledged is in the log"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        let Event::Proposed { index, term, command, .. } = event else { return Ok(()) };
        self.told.insert(*index, (*term, command.clone()));
        holds(world, *index, *term, command)
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        self.told.iter().try_for_each(|(index, (term, command))| holds(world, *index, *term, command))
    }
}

fn holds(world: &World, index: u64, term: u64, command: &Command) -> Result<(), String> {
    let name = command.change.name();
    match world.group.entry(index) {
        None => Err(format!("{name} was acknowledged at log index {index}, which nobody has applied")),
        Some(entry) if entry.term == term && entry.load == Load::Command(command.clone()) => Ok(()),
        Some(entry) => Err(format!(
            "{name} was acknowledged at log index {index} of term {term}; there is another entry, of term {}",
            entry.term
        )),
    }
}
