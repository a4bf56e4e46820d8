//! Losses of power that wait for the moment in which they matter: while a vote or an entry is on its way to the disk, or
//! just after it was promised.

use super::platter::Crash;
use crate::{fault::Undo, world::World};

/// What a trap waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spring {
    /// A node's next sync: the power is lost meanwhile.
    Sync(u64),
    /// The next sync of anybody's vote.
    Vote,
    /// A node's next sync: its process is killed meanwhile and started again; the power is lost when it has acknowledged
    /// so many appends.
    Killed(u64, u64),
    /// The rest of these.
    Acknowledged(u64, u64),
    /// Nothing any more.
    Sprung,
}

/// One of them.
pub struct Trap {
    number: u64,
    spring: Spring,
    caught: Option<u64>,
}

impl World {
    /// Lays one. Its undoing starts whom it caught.
    pub(super) fn lay_trap(&mut self, spring: Spring) -> Undo {
        let number = self.traps.last().map_or(0, |trap| trap.number) + 1;
        self.traps.push(Trap { number, spring, caught: None });
        Box::new(move |world| {
            let at = world.traps.iter().position(|trap| trap.number == number);
            let trap = world.traps.remove(at.expect("a trap is taken away once"));
            if let Some(node) = trap.caught {
                world.start_node(node);
            }
            trap.caught.is_some()
        })
    }

    /// A sync that takes so long has begun.
    pub(super) fn sync_began(&mut self, node: u64, boot: u64, vote: bool, took_ms: u64) {
        let meets = |trap: &&mut Trap| match trap.spring {
            Spring::Sync(of) | Spring::Killed(of, _) => of == node,
            Spring::Vote => vote,
            Spring::Acknowledged(..) | Spring::Sprung => false,
        };
        let Some(trap) = self.traps.iter_mut().find(meets) else { return };
        trap.caught = Some(node);
        let (number, was) = (trap.number, std::mem::replace(&mut trap.spring, Spring::Sprung));
        let after_ms = self.rng.range(0, took_ms + 2);
        self.after(after_ms, move |world| {
            if !world.lives(node, boot) {
                return;
            }
            let Spring::Killed(_, acks) = was else {
                world.end_process(node, Crash::Power);
                return;
            };
            world.kill_node(node);
            world.start_node(node);
            if let Some(trap) = world.traps.iter_mut().find(|trap| trap.number == number) {
                trap.spring = Spring::Acknowledged(node, acks);
            }
        });
    }

    /// A node has told a leader that it holds its log.
    pub(super) fn append_acknowledged(&mut self, node: u64) {
        let meets = |trap: &&mut Trap| matches!(trap.spring, Spring::Acknowledged(of, _) if of == node);
        let Some(trap) = self.traps.iter_mut().find(meets) else { return };
        let Spring::Acknowledged(_, left) = &mut trap.spring else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            trap.spring = Spring::Sprung;
            self.after(1, move |world| {
                world.end_process(node, Crash::Power);
            });
        }
    }
}
