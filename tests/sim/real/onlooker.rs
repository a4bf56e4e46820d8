//! What an onlooker sees of the product's Raft without asking it: the entries on its disks as they are applied, the
//! votes it answers with, who leads.

use std::{ops::Bound, sync::Arc};

use quorate::raft::{Leadership, ports::Tree};

use super::{
    body::Piece,
    platter::{Crash, Lost},
    words,
};
use crate::{raft::Entry, trace::Event, world::World};

/// The call by which a vote is asked for.
const VOTE: &str = "/quorate.raft.v1.Raft/Vote";
/// The call that carries entries.
const APPEND: &str = "/quorate.raft.v1.Raft/Append";
/// Key of a snapshot's head.
const HEAD: &[u8] = b"h";

impl World {
    /// A node has applied everything up to `index`.
    pub(super) fn seen_applied(&mut self, node: u64, boot: u64, index: u64) {
        if self.lives(node, boot) {
            self.catch_up_to(node, index);
        }
    }

    /// Looks at what a node has applied by now.
    pub(super) fn catch_up(&mut self, node: u64) {
        self.catch_up_to(node, self.applied(node));
    }

    fn catch_up_to(&mut self, node: u64, index: u64) {
        let Some(member) = self.process(node).and_then(|process| process.member.as_mut()) else { return };
        let from = member.seen.map_or(0, |seen| seen + 1);
        if index < from || index == 0 {
            return;
        }
        member.seen = Some(index);
        let mut by_snapshot = false;
        for at in from..=index {
            match self.entry_on_disk(node, at) {
                // Its own entries may still lie under a snapshot that it was given; none of them was applied.
                Some(entry) if self.overlaid(node, at, &entry) => by_snapshot = true,
                Some(entry) => self.note_applied(node, at, entry),
                None if at < self.group.next_index() => by_snapshot = true,
                None => self.broken(
                    "state machine safety",
                    format!("node {node} has applied index {at}, which nobody has seen"),
                ),
            }
        }
        // After a restart it begins with its own.
        if by_snapshot && from > 0 {
            self.note(Event::SnapshotInstalled { node, index });
        }
        self.remember_members(node);
        if index + 1 == self.group.next_index() && self.rng.chance(4) {
            self.compare_now(node);
        }
    }

    /// An entry was applied by a node: by the first that does so, it is known to be committed.
    fn note_applied(&mut self, node: u64, index: u64, entry: Entry) {
        match self.group.entry(index) {
            Some(known) if **known == entry => {}
            Some(known) => {
                let what = format!(
                    "node {node} has applied another entry at index {index} (term {}) than was committed (term {})",
                    entry.term, known.term
                );
                self.broken("state machine safety", what);
            }
            None => self.note_committed(index, &Arc::new(entry)),
        }
    }

    /// A node that was opened holds no other entry where it knows that one is committed.
    pub(super) fn compare_disk(&mut self, node: u64) {
        for index in 0..self.group.next_index().min(self.applied(node) + 1) {
            if let Some(entry) = self.entry_on_disk(node, index)
                && !self.overlaid(node, index, &entry)
            {
                self.note_applied(node, index, entry);
            }
        }
    }

    /// Whether another entry than this one was committed, and the node has that one in its snapshot.
    fn overlaid(&self, node: u64, index: u64, entry: &Entry) -> bool {
        let other = self.group.entry(index).is_some_and(|known| **known != *entry);
        let head = self.nodes.get(&node).and_then(|entry| entry.home.platter.get(Tree::Snap, HEAD));
        other && in_snapshot(head) >= Some(index)
    }

    fn entry_on_disk(&self, node: u64, index: u64) -> Option<Entry> {
        let platter = &self.nodes.get(&node)?.home.platter;
        let (from, to) = (index.to_be_bytes().to_vec(), (index + 1).to_be_bytes().to_vec());
        let mut pairs = platter.range(Tree::Log, Bound::Included(from), Bound::Excluded(to)).into_iter();
        let (key, value) = pairs.next()?;
        // Parts that no head counts mean nothing.
        (key.len() == size_of::<u64>()).then_some(())?;
        let parts: Vec<Vec<u8>> = pairs.map(|(_, value)| value).collect();
        Some(words::entry(index, &value, &parts))
    }

    fn remember_members(&mut self, node: u64) {
        let known = self.known_members(node);
        if let Some(entry) = self.nodes.get_mut(&node).filter(|_| !known.is_empty()) {
            entry.home.known = known;
        }
    }

    /// A node says who leads.
    pub(super) fn seen_leader(&mut self, node: u64, now: Leadership) {
        let Some(member) = self.process(node).and_then(|process| process.member.as_mut()) else { return };
        if !now.is_leader || now.term <= member.led {
            return;
        }
        member.led = now.term;
        // Its own vote is one of the majority's.
        self.note_vote(node, now.term, node);
        self.note(Event::Leads { node, term: now.term });
    }

    /// A node's answer leaves it.
    pub(super) fn overhear(&mut self, node: u64, path: &str, asked: Option<&Piece>, answer: &[Piece]) {
        let (Some(Piece::Data(asked)), Some(Piece::Data(answer))) = (asked, answer.first()) else { return };
        match path {
            VOTE => {
                if let Some((term, for_node)) = words::granted(answer) {
                    self.note_vote(node, term, for_node);
                }
            }
            APPEND => {
                if let Some(last) = words::acknowledged(asked, answer) {
                    self.note_acknowledged(node, last);
                }
            }
            _ => {}
        }
    }

    /// A node tells a leader that it has the log up to there.
    fn note_acknowledged(&mut self, node: u64, last: (u64, u64)) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        // A heartbeat may ask for less than what it has acknowledged already.
        entry.home.acknowledged = entry.home.acknowledged.max(Some(last));
        if !self.holds_for_good(node, last) {
            let what = format!(
                "node {node} acknowledges log index {} of term {} before it is durable",
                last.1, last.0
            );
            self.broken("P9 what is promised is durable", what);
        }
        self.append_acknowledged(node);
    }

    /// A node's process is gone: its disk loses what was not durable. What it had told a leader that it holds, and had
    /// not given up since, it must hold on to.
    pub fn crash_disk(&mut self, node: u64, how: Crash) {
        let promised = self.nodes[&node].home.acknowledged.filter(|last| self.holds(node, *last));
        let entry = self.nodes.get_mut(&node).expect("a node of the run");
        let lost = entry.home.platter.crash(how, &mut self.rng);
        if let Some((term, index)) = promised.filter(|last| !self.holds(node, *last)) {
            let what =
                format!("node {node} had acknowledged log index {index} of term {term}, and a crash took it");
            self.broken("P9 what was acknowledged survives a crash", what);
        }
        if lost.vote {
            self.counts.reach("unsynced vote lost");
        }
        if lost.entries > 0 {
            self.counts.reach("unsynced entries lost");
        }
        if lost.torn {
            self.counts.reach("mark torn");
        }
        if lost != Lost::default() {
            self.note(Event::LostWrites { node, lost });
        }
    }

    /// Whether a node's disk has the log up to there, in its entries or in its snapshot.
    fn holds(&self, node: u64, (term, index): (u64, u64)) -> bool {
        let platter = &self.nodes[&node].home.platter;
        in_snapshot(platter.get(Tree::Snap, HEAD)) >= Some(index)
            || self.entry_on_disk(node, index).is_some_and(|entry| entry.term == term)
    }

    /// Whether it would still have that after a loss of power.
    fn holds_for_good(&self, node: u64, last: (u64, u64)) -> bool {
        let platter = &self.nodes[&node].home.platter;
        let key = last.1.to_be_bytes();
        in_snapshot(platter.durable(Tree::Snap, HEAD)) >= Some(last.1)
            || self.holds(node, last) && platter.durable(Tree::Log, &key) == platter.get(Tree::Log, &key)
    }

    fn note_vote(&mut self, node: u64, term: u64, for_node: u64) {
        let Some(entry) = self.nodes.get(&node) else { return };
        let vote = entry.home.platter.durable(Tree::Meta, b"vote").map(|value| words::vote(&value));
        // Who follows a leader of that term gives no other vote in it.
        let keeps = |(on_record, to, leads): (u64, Option<u64>, bool)| {
            on_record > term || on_record == term && (leads || to == Some(for_node))
        };
        if !vote.is_some_and(keeps) {
            let what = format!("node {node} votes for {for_node} in term {term} before that is durable");
            self.broken("P9 what is promised is durable", what);
        }
        let incarnation = self.nodes.get(&node).map(|entry| entry.incarnation.to_string());
        let bound = self.group.members_ever.get(&node);
        // Before the group is made known to the onlooker nobody is bound.
        if let (Some(mine), Some(bound)) = (&incarnation, bound)
            && mine != bound
        {
            let what = format!("node {node} was {bound}; as {mine} it votes for {for_node} in term {term}");
            self.broken("P9 a wiped node has no vote", what);
        }
        self.note(Event::Voted { node, term, for_node });
    }
}

fn in_snapshot(head: Option<Vec<u8>>) -> Option<u64> {
    head.and_then(|head| words::last_in_snapshot(&head))
}
