//! Elections: a pre-vote first, then the vote; one leader a term at most.

use quorate::raft::Leadership;

use super::{Entry, Load, Role};
use crate::{
    net::End,
    trace::Event,
    world::{POISON, World},
};

/// A request for a vote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// Only asks whether it would be given.
    pub(super) pre: bool,
    pub(super) term: u64,
    pub(super) last: (u64, u64),
}

/// What somebody sends, as the product's gate tells it (`raft::gate::Call`): they differ in what an unknown sender may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// From whoever leads: a node that lags may not know it yet.
    Leading,
    /// A candidate's: unknown to one that lags; one that was taken out has no say.
    Voting,
    /// Of members to members.
    Member,
}

impl World {
    /// A process takes its part up.
    pub fn begin_raft(&mut self, node: u64) {
        self.arm_election(node);
    }

    /// Puts the next election off, as after every word of a leader.
    pub(super) fn arm_election(&mut self, node: u64) {
        let max = self.group.timing.election_max_ms;
        let at = self.now + self.rng.range(max / 2, max + 1);
        let Some(process) = self.process(node) else { return };
        process.raft.election_at = at;
        if std::mem::replace(&mut process.raft.timer_armed, true) {
            return;
        }
        let boot = process.boot;
        self.process_after(node, boot, at - self.now, move |world| world.election_timer(node));
    }

    fn election_timer(&mut self, node: u64) {
        let now = self.now;
        let process = self.process(node).expect("timers die with it");
        process.raft.timer_armed = false;
        if process.raft.leads() {
            return;
        }
        if now < process.raft.election_at {
            process.raft.timer_armed = true;
            let (boot, wait) = (process.boot, process.raft.election_at - now);
            return self.process_after(node, boot, wait, move |world| world.election_timer(node));
        }
        self.stand(node, true);
        self.arm_election(node);
    }

    /// Asks for votes, if it has one itself.
    fn stand(&mut self, node: u64, pre: bool) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        let config = entry.disk.config();
        if config.voters.get(&node) != Some(&entry.incarnation) {
            return;
        }
        let others: Vec<u64> = config.voters.keys().copied().filter(|voter| *voter != node).collect();
        if !pre {
            entry.disk.term += 1;
            entry.disk.voted = Some(node);
        }
        let ask = Ask { pre, term: entry.disk.term + u64::from(pre), last: entry.disk.log.last() };
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        live.role = Role::Candidate;
        live.pre = pre;
        live.votes = [node].into();
        live.leader = None;
        self.tell_leadership(node);
        for voter in others {
            self.send_as(Call::Voting, node, voter, move |world, to| world.asked_for_vote(to, node, ask));
        }
        self.count_votes(node);
    }

    fn asked_for_vote(&mut self, node: u64, from: u64, ask: Ask) {
        if ask.term > self.nodes[&node].disk.term && !ask.pre {
            self.follow(node, ask.term, None);
        }
        let min = self.group.timing.election_max_ms / 2;
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &entry.process.as_ref().expect("it runs").raft;
        let last = entry.disk.log.last();
        let complete = (ask.last.1, ask.last.0) >= (last.1, last.0);
        let granted = match ask.pre {
            true => {
                let quiet = !live.leads() && now.saturating_sub(live.heard_ms) >= min;
                ask.term > entry.disk.term && complete && quiet
            }
            false => {
                let free = entry.disk.voted.is_none_or(|voted| voted == from);
                ask.term == entry.disk.term && complete && free
            }
        };
        if granted && !ask.pre {
            entry.disk.voted = Some(from);
        }
        let term = entry.disk.term;
        if granted && !ask.pre {
            self.note(Event::Voted { node, term, for_node: from });
            self.arm_election(node);
        }
        self.send(node, from, move |world, to| world.heard_vote(to, node, ask, term, granted));
    }

    fn heard_vote(&mut self, node: u64, from: u64, ask: Ask, term: u64, granted: bool) {
        if term > self.nodes[&node].disk.term {
            return self.follow(node, term, None);
        }
        let entry = self.nodes.get_mut(&node).expect("a node");
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        let current = ask.term == entry.disk.term + u64::from(ask.pre);
        if live.role != Role::Candidate || live.pre != ask.pre || !current || !granted {
            return;
        }
        live.votes.insert(from);
        self.count_votes(node);
    }

    fn count_votes(&mut self, node: u64) {
        let entry = &self.nodes[&node];
        let config = entry.disk.config();
        let live = &entry.process.as_ref().expect("it runs").raft;
        let have = live.votes.iter().filter(|voter| config.voters.contains_key(voter)).count();
        if live.role != Role::Candidate || have <= config.voters.len() / 2 {
            return;
        }
        match live.pre {
            true => self.stand(node, false),
            false => self.win(node),
        }
    }

    fn win(&mut self, node: u64) {
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node");
        let term = entry.disk.term;
        let other = self.group.leaders.insert(term, node);
        assert!(other.is_none_or(|other| other == node), "two leaders in term {term}: a fault of the rig");
        let (last, _) = entry.disk.log.last();
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        live.role = Role::Leader;
        live.leader = Some(node);
        live.led_from = last + 1;
        live.peers.clear();
        let peers: Vec<u64> = entry.disk.config().voters.keys().copied().filter(|id| *id != node).collect();
        for peer in peers {
            let progress = super::Progress { next: last + 1, acked_ms: now, ..Default::default() };
            live.peers.insert(peer, progress);
        }
        self.note(Event::Leads { node, term });
        self.tell_leadership(node);
        self.append_own(node, Entry { term, load: Load::Blank });
        self.heartbeat(node, term);
    }

    /// Enters a term as a follower.
    pub(super) fn follow(&mut self, node: u64, term: u64, leader: Option<u64>) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        assert!(term >= entry.disk.term, "terms only rise");
        if term > entry.disk.term {
            entry.disk.term = term;
            entry.disk.voted = None;
        }
        let live = &mut entry.process.as_mut().expect("it runs").raft;
        let led = live.role == Role::Leader;
        live.role = Role::Follower;
        live.leader = leader;
        live.barriers.clear();
        if led && live.proposals() > 0 {
            self.counts.reach("proposal of unknown fate");
        }
        self.tell_leadership(node);
        if led || leader.is_some() {
            self.arm_election(node);
        }
    }

    pub(super) fn tell_leadership(&mut self, node: u64) {
        let entry = &self.nodes[&node];
        let live = &entry.process.as_ref().expect("it runs").raft;
        let now =
            Leadership { term: entry.disk.term, leader: live.leader, is_leader: live.role == Role::Leader };
        live.replica.leadership.tell(now);
        let config = entry.disk.config();
        let mut known = live.replica.config.lock().expect(POISON);
        if *known != *config {
            known.clone_from(config);
        }
    }

    /// Something from one member to another, to happen in the other's process.
    pub(super) fn send(&mut self, from: u64, to: u64, act: impl FnOnce(&mut World, u64) + Send + 'static) {
        self.send_as(Call::Member, from, to, act);
    }

    /// The same from whoever leads.
    pub(super) fn send_leading(
        &mut self,
        from: u64,
        to: u64,
        act: impl FnOnce(&mut World, u64) + Send + 'static,
    ) {
        self.send_as(Call::Leading, from, to, act);
    }

    /// The gate (P9): both ends are named with the incarnation that the membership binds them to; a wiped node is neither
    /// believed nor asked under its old id.
    fn send_as(
        &mut self,
        call: Call,
        from: u64,
        to: u64,
        act: impl FnOnce(&mut World, u64) + Send + 'static,
    ) {
        let entry = &self.nodes[&from];
        let incarnation = entry.incarnation.clone();
        let meant = entry.disk.config().voters.get(&to).cloned();
        self.travel(End::Node(from), End::Node(to), move |world| {
            let Some(entry) = world.nodes.get(&to) else { return };
            let Some(process) = &entry.process else { return };
            let admitted = match entry.disk.config().voters.get(&from) {
                Some(bound) => *bound == incarnation,
                None => {
                    call == Call::Leading || entry.disk.configs.is_empty() || {
                        let ever =
                            entry.disk.configs.iter().any(|(_, config)| config.voters.contains_key(&from));
                        call == Call::Voting && !ever
                    }
                }
            };
            let is_meant = meant.is_none_or(|meant| meant == entry.incarnation);
            let boot = process.boot;
            if admitted && is_meant {
                world.as_process(to, boot, move |world| act(world, to));
            }
        });
    }
}
