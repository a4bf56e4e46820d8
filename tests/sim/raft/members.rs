//! Membership: one voter at a time, so that any two majorities share a node.

use super::Config;
use crate::{trace::Event, world::World};

impl World {
    /// The first membership, known to all of them from the start.
    pub fn found_group(&mut self, voters: &[u64]) {
        let entry = std::sync::Arc::new(super::Entry {
            term: 1,
            load: super::Load::Config(Config {
                voters: voters.iter().map(|id| (*id, self.nodes[id].incarnation.clone())).collect(),
            }),
        });
        for id in voters {
            let disk = &mut self.nodes.get_mut(id).expect("a node").disk;
            disk.term = 1;
            disk.push(entry.clone());
        }
    }

    /// Takes a voter out through the leader; whether that was begun.
    pub fn remove_voter(&mut self, old: u64) -> bool {
        self.change_voters(|config| config.voters.remove(&old).is_some())
    }

    /// Takes a voter in through the leader; whether that was begun. Ids are never used again.
    pub fn add_voter(&mut self, new: u64) -> bool {
        let incarnation = self.nodes[&new].incarnation.clone();
        if self.group.members_ever.contains_key(&new) {
            return false;
        }
        self.change_voters(|config| config.voters.insert(new, incarnation).is_none())
    }

    fn change_voters(&mut self, change: impl FnOnce(&mut Config) -> bool) -> bool {
        let Some(leader) = self.leader().filter(|leader| self.runs(*leader)) else { return false };
        let entry = &self.nodes[&leader];
        let live = &entry.process.as_ref().expect("it runs").raft;
        // One at a time, and none before this leader's first entry is committed.
        let settled = entry.disk.configs.last().is_none_or(|(at, _)| *at <= live.commit);
        if !settled || live.commit < live.led_from {
            return false;
        }
        let mut config = entry.disk.config().clone();
        if !change(&mut config) {
            return false;
        }
        self.note(Event::Membership { by: leader, voters: config.voters.keys().copied().collect() });
        self.append_config(leader, config);
        true
    }
}
