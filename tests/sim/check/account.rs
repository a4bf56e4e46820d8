//! What the log did, read off its entries and their outcomes.

use quorate::core::replicated::{Change, Command, Outcome};

use crate::{raft::Load, trace::Event};

/// A command that took effect, with its index and the id of what it made.
pub fn done(event: &Event) -> Option<(u64, &Command, u64)> {
    match event {
        Event::Committed { index, entry, outcome: Some(Outcome::Done { id, .. }) } => match &entry.load {
            Load::Command(command) => Some((*index, command, *id)),
            _ => None,
        },
        _ => None,
    }
}

/// A change that took effect, with the id of what it made.
pub fn changed(event: &Event) -> Option<(&Change, u64)> {
    done(event).map(|(_, command, id)| (&command.change, id))
}
