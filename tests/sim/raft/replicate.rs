//! Replication, commitment, application, snapshots.

use std::sync::Arc;

use quorate::raft::Committed;

use super::{Asker, Config, Entry, Load, Snapshot, apply, decode, encode};
use crate::{
    trace::Event,
    world::{POISON, World},
};

/// Entries in one message at most.
const BATCH: usize = 64;
/// A snapshot under way is not sent again before this, milliseconds.
const SNAPSHOT_AGAIN_MS: u64 = 1_000;

#[derive(Clone)]
struct Append {
    term: u64,
    prev: (u64, u64),
    entries: Vec<Arc<Entry>>,
    commit: u64,
    seq: u64,
}

impl World {
    /// A leader's own entry; returns its index.
    pub(super) fn append_own(&mut self, node: u64, entry: Entry) -> u64 {
        let disk = &mut self.nodes.get_mut(&node).expect("a node").disk;
        let index = disk.push(Arc::new(entry));
        self.broadcast(node);
        self.advance_commit(node);
        index
    }

    /// Sends everybody what they lack; every message is a heartbeat too.
    pub(super) fn broadcast(&mut self, node: u64) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        live.seq += 1;
        let peers: Vec<u64> = live.peers.keys().copied().collect();
        for peer in peers {
            self.send_append(node, peer);
        }
    }

    pub(super) fn heartbeat(&mut self, node: u64, term: u64) {
        let now = self.now;
        let timing = self.group.timing;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let process = entry.process.as_mut().expect("it runs");
        if !process.raft.leads() || entry.disk.term != term {
            return;
        }
        let boot = process.boot;
        if self.majority_heard_since(node) + timing.election_max_ms * 5 / 2 < now {
            // Nobody has answered for long: it leads no more, as far as it knows.
            self.note(Event::StepsDown { node, term });
            return self.follow(node, term, None);
        }
        self.broadcast(node);
        self.process_after(node, boot, timing.heartbeat_ms, move |world| world.heartbeat(node, term));
    }

    /// The time since when a majority has answered this leader.
    pub(super) fn majority_heard_since(&self, node: u64) -> u64 {
        let entry = &self.nodes[&node];
        let live = &entry.process.as_ref().expect("it runs").raft;
        let config = entry.disk.config();
        let at = |voter: &u64| match voter == &node {
            true => self.now,
            false => live.peers.get(voter).map_or(0, |peer| peer.acked_ms),
        };
        nth_largest(config.voters.keys().map(at).collect())
    }

    fn send_append(&mut self, node: u64, to: u64) {
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        let (term, commit, seq) = (entry.disk.term, live.commit, live.seq);
        let peer = live.peers.get_mut(&to).expect("a peer");
        if peer.next <= entry.disk.log.base() {
            let recent = peer.snapshot_ms.is_some_and(|at| now < at + SNAPSHOT_AGAIN_MS);
            let snapshot = entry.disk.snapshot.clone().expect("what is compacted is in a snapshot");
            if !recent {
                peer.snapshot_ms = Some(now);
                self.send_leading(node, to, move |world, to| {
                    world.take_snapshot(to, node, term, seq, &snapshot)
                });
            }
            return;
        }
        let prev_index = peer.next - 1;
        let prev = (prev_index, entry.disk.log.term_at(prev_index).expect("held"));
        let entries = entry.disk.log.from(peer.next, BATCH);
        peer.next += entries.len() as u64;
        let append = Append { term, prev, entries, commit, seq };
        self.send_leading(node, to, move |world, to| world.take_append(to, node, &append));
    }

    /// What a leader's word does besides its content; false where it is of an old term.
    fn heed(&mut self, node: u64, from: u64, term: u64) -> bool {
        let now = self.now;
        let known = self.nodes[&node].disk.term;
        if term < known {
            self.send(node, from, move |world, to| {
                if known > world.nodes[&to].disk.term {
                    world.follow(to, known, None);
                }
            });
            return false;
        }
        let live = &self.nodes[&node].process.as_ref().expect("it runs").raft;
        if term > known || live.leader != Some(from) {
            self.follow(node, term, Some(from));
        } else {
            self.arm_election(node);
        }
        self.process(node).expect("it runs").raft.heard_ms = now;
        true
    }

    fn take_append(&mut self, node: u64, from: u64, append: &Append) {
        if !self.heed(node, from, append.term) {
            return;
        }
        let entry = self.nodes.get_mut(&node).expect("a node");
        let disk = &mut entry.disk;
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        let (prev, prev_term) = append.prev;
        let agrees = prev < disk.log.base() || disk.log.term_at(prev) == Some(prev_term);
        let matched = match agrees {
            true => {
                let mut index = prev;
                for new in &append.entries {
                    index += 1;
                    if index <= disk.log.base() || disk.log.term_at(index) == Some(new.term) {
                        continue;
                    }
                    if index <= disk.log.last().0 {
                        assert!(index > live.commit, "a committed entry is overwritten: a fault of the rig");
                        disk.truncate(index);
                        live.pending.retain(|at, _| *at < index);
                    }
                    disk.push(new.clone());
                }
                Ok(index)
            }
            // Where it may try next.
            false => Err(disk.log.last().0.min(prev.saturating_sub(1)).max(live.commit)),
        };
        if let Ok(index) = matched {
            live.commit = live.commit.max(append.commit.min(index));
        }
        let (seq, term, sync_ms, boot) =
            (append.seq, append.term, entry.sync_ms, entry.process.as_ref().map_or(0, |p| p.boot));
        self.tell_leadership(node);
        self.apply_ready(node);
        let wait = if append.entries.is_empty() || sync_ms == 0 { 0 } else { self.rng.range(0, sync_ms + 1) };
        self.process_after(node, boot, wait, move |world| {
            world.send(node, from, move |world, to| world.heard_append(to, node, term, seq, matched));
        });
    }

    fn heard_append(&mut self, node: u64, from: u64, term: u64, seq: u64, matched: Result<u64, u64>) {
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        if !live.leads() || entry.disk.term != term {
            return;
        }
        let Some(peer) = live.peers.get_mut(&from) else { return };
        peer.acked_ms = now;
        peer.acked_seq = peer.acked_seq.max(seq);
        match matched {
            Ok(index) => {
                peer.matched = peer.matched.max(index);
                peer.next = peer.next.max(peer.matched + 1);
                peer.snapshot_ms = None;
            }
            Err(hint) => peer.next = (hint + 1).max(peer.matched + 1),
        }
        self.advance_commit(node);
        self.settle_barriers(node);
        if matched.is_err() {
            self.send_append(node, from);
        }
    }

    pub(super) fn advance_commit(&mut self, node: u64) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        let last = entry.disk.log.last().0;
        let matched = |voter: &u64| match voter == &node {
            true => last,
            false => live.peers.get(voter).map_or(0, |peer| peer.matched),
        };
        let most = nth_largest(entry.disk.config().voters.keys().map(matched).collect());
        if most > live.commit && entry.disk.log.term_at(most) == Some(entry.disk.term) {
            live.commit = most;
            self.apply_ready(node);
        }
    }

    /// Applies what is committed, at once or after the node's lag.
    fn apply_ready(&mut self, node: u64) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let lag = entry.apply_lag_ms;
        let process = entry.process.as_mut().expect("it runs");
        let boot = process.boot;
        if process.raft.applied >= process.raft.commit || process.raft.applying {
            return;
        }
        if lag == 0 {
            return self.apply_all(node);
        }
        process.raft.applying = true;
        let lag = self.rng.range(0, lag + 1);
        self.process_after(node, boot, lag, move |world| {
            world.process(node).expect("it runs").raft.applying = false;
            world.apply_all(node);
        });
    }

    fn apply_all(&mut self, node: u64) {
        loop {
            let entry = &self.nodes[&node];
            let live = &entry.process.as_ref().expect("it runs").raft;
            let index = live.applied + 1;
            if index > live.commit {
                break;
            }
            let next = entry.disk.log.get(index).expect("what is committed is held").clone();
            self.note_model_committed(index, &next);
            self.apply_one(node, index, &next);
        }
        self.retire(node);
        self.compact(node);
    }

    fn apply_one(&mut self, node: u64, index: u64, entry: &Arc<Entry>) {
        let live = &mut self.process(node).expect("it runs").raft;
        let outcome = apply(&mut live.replica.state.lock().expect(POISON), index, entry);
        live.applied = index;
        live.replica.applied.tell(index);
        let answer = live.pending.remove(&index);
        if let (Some((term, answer)), Some(outcome)) = (answer, outcome)
            && term == entry.term
        {
            let _ = answer.send(Ok(Committed { index, term, outcome }));
        }
        self.compare(node, index);
    }

    /// I10: the state of a node is that of the log, now and then looked at closely.
    fn compare(&mut self, node: u64, index: u64) {
        if index + 1 != self.group.next_index() || !self.rng.chance(4) {
            return;
        }
        self.compare_now(node);
    }

    /// The same, always; where the node has applied all.
    pub fn compare_now(&mut self, node: u64) {
        let index = self.applied(node);
        let Some(process) = self.nodes.get(&node).and_then(|n| n.process.as_ref()) else { return };
        if index == 0 || index + 1 != self.group.next_index() {
            return;
        }
        let equal = match &process.member {
            Some(member) => member.raft.read(|state| *state == self.group.state),
            None => *process.raft.replica.state.lock().expect(POISON) == self.group.state,
        };
        self.note(Event::Compared { node, index, equal });
    }

    fn compact(&mut self, node: u64) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let (every, keep) = entry.snapshot_every;
        let live = &entry.process.as_ref().expect("it runs").raft;
        if every == 0
            || entry.disk.log.len() < every + keep
            || live.applied <= entry.disk.log.base() + keep as u64
        {
            return;
        }
        let index = live.applied;
        let bytes = encode(&live.replica.state.lock().expect(POISON));
        let term = entry.disk.log.term_at(index).expect("held");
        let config = entry.disk.config_at(index);
        entry.disk.snapshot = Some(Arc::new(Snapshot { index, term, config, bytes }));
        entry.disk.log.compact(index - keep as u64);
        self.note(Event::SnapshotMade { node, index });
    }

    fn take_snapshot(&mut self, node: u64, from: u64, term: u64, seq: u64, snapshot: &Arc<Snapshot>) {
        if !self.heed(node, from, term) {
            return;
        }
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        if snapshot.index > live.commit {
            *live.replica.state.lock().expect(POISON) = decode(&snapshot.bytes);
            live.commit = snapshot.index;
            live.applied = snapshot.index;
            live.pending.clear();
            live.replica.applied.tell(snapshot.index);
            entry.disk.begin_behind(snapshot.clone());
            self.note(Event::SnapshotInstalled { node, index: snapshot.index });
            self.tell_leadership(node);
            self.compare_now(node);
        }
        let index = snapshot.index;
        self.send(node, from, move |world, to| world.heard_append(to, node, term, seq, Ok(index)));
    }

    /// Asks a majority whether this node still leads; its answer is a read index.
    pub(super) fn ask_majority(&mut self, node: u64, asker: Asker) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        if !live.leads() {
            return self.answer_read(node, asker, None);
        }
        let index = live.commit.max(live.led_from);
        live.barriers.push(super::Barrier { seq: live.seq + 1, index, asker });
        self.broadcast(node);
        self.settle_barriers(node);
    }

    fn settle_barriers(&mut self, node: u64) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        if live.barriers.is_empty() {
            return;
        }
        let acked = |voter: &u64| match voter == &node {
            true => live.seq,
            false => live.peers.get(voter).map_or(0, |peer| peer.acked_seq),
        };
        let seq = nth_largest(entry.disk.config().voters.keys().map(acked).collect());
        let ready: Vec<super::Barrier> = live.barriers.extract_if(.., |barrier| barrier.seq <= seq).collect();
        for barrier in ready {
            self.answer_read(node, barrier.asker, Some(barrier.index));
        }
    }

    fn answer_read(&mut self, node: u64, asker: Asker, index: Option<u64>) {
        match asker {
            Asker::Here(reply) => {
                let _ = reply.send(index);
            }
            Asker::Node { node: to, boot, id } => self.send(node, to, move |world, to| {
                world.as_process(to, boot, move |world| {
                    let live = &mut world.process(to).expect("it runs").raft;
                    if let Some(reply) = live.asked.remove(&id) {
                        let _ = reply.send(index);
                    }
                });
            }),
        }
    }

    /// A leader that is no member any more leads no more, once that is committed.
    fn retire(&mut self, node: u64) {
        let entry = &self.nodes[&node];
        let live = &entry.process.as_ref().expect("it runs").raft;
        let removed = |config: &Config| !config.voters.is_empty() && !config.voters.contains_key(&node);
        let settled = entry.disk.configs.last().is_some_and(|(at, c)| *at <= live.commit && removed(c));
        if live.leads() && settled {
            let term = entry.disk.term;
            self.follow(node, term, None);
        }
    }
}

impl World {
    /// Proposes an entry that is not a command, as the leader.
    pub(super) fn append_config(&mut self, node: u64, config: Config) -> u64 {
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let term = entry.disk.term;
        let last = entry.disk.log.last().0;
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        for voter in config.voters.keys().filter(|voter| **voter != node) {
            let fresh = super::Progress { next: last + 1, acked_ms: now, ..Default::default() };
            live.peers.entry(*voter).or_insert(fresh);
        }
        let index = self.append_own(node, Entry { term, load: Load::Config(config.clone()) });
        if let Some(process) = self.process(node) {
            process.raft.peers.retain(|peer, _| config.voters.contains_key(peer));
            self.tell_leadership(node);
        }
        index
    }
}

/// The value that a majority of them reach.
fn nth_largest(mut of: Vec<u64>) -> u64 {
    if of.is_empty() {
        return 0;
    }
    of.sort_unstable_by(|a, b| b.cmp(a));
    of[of.len() / 2]
}
