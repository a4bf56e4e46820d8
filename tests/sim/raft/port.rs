//! The model log as the actors of one process have it.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use quorate::{
    core::replicated::{Change, Command, State},
    raft::{Committed, Leadership, Membership, NodeInfo, ProposeError, ReadError},
    server::ports::Log,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{Asker, Entry, Load, Replica};
use crate::{
    fault::Point,
    world::{POISON, Sim, World},
};

/// [`Log`] of one process.
pub struct SimLog {
    sim: Sim,
    node: u64,
    boot: u64,
    incarnation: Arc<str>,
    answer_within: Duration,
    replica: Arc<Replica>,
}

impl SimLog {
    /// Of the process that runs now.
    pub fn new(world: &World, node: u64) -> Self {
        let entry = &world.nodes[&node];
        let process = entry.process.as_ref().expect("it runs");
        Self {
            sim: world.handle.clone(),
            node,
            boot: process.boot,
            incarnation: entry.incarnation.clone(),
            answer_within: Duration::from_millis(world.group.timing.answer_ms()),
            replica: process.raft.replica.clone(),
        }
    }

    async fn read_index(&self) -> Result<u64, ReadError> {
        let (reply, answer) = oneshot::channel();
        let (node, boot) = (self.node, self.boot);
        let asked = self.sim.with(|world| world.ask_read(node, boot, reply));
        let leader = asked?;
        match answer.await {
            Ok(Some(index)) => Ok(index),
            _ if leader == node => Err(ReadError::NoQuorum),
            _ => Err(ReadError::LeaderUnreachable { leader, what: "no read index".into() }),
        }
    }
}

impl Log for SimLog {
    fn node_id(&self) -> u64 {
        self.node
    }

    fn incarnation(&self) -> &str {
        &self.incarnation
    }

    fn look(&self, reader: &mut dyn FnMut(&State)) {
        reader(&self.replica.state.lock().expect(POISON));
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.replica.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership.subscribe()
    }

    // A receiver is a channel of its own here; who only looks needs none.
    fn leads(&self) -> Leadership {
        self.replica.leadership.now()
    }

    fn applied_now(&self) -> u64 {
        self.replica.applied.now()
    }

    fn membership(&self) -> Membership {
        let config = self.replica.config.lock().expect(POISON);
        let info = |id: &u64, incarnation: &Arc<str>| NodeInfo {
            node_addr: format!("node{id}:1"),
            client_addr: format!("node{id}:2"),
            incarnation: incarnation.to_string(),
            datacenter: None,
        };
        Membership {
            voters: config.voters.keys().copied().collect(),
            nodes: config.voters.iter().map(|(id, i)| (*id, info(id, i))).collect(),
            ..Membership::default()
        }
    }

    fn propose(&self, term: u64, command: Command) -> BoxFuture<'_, Result<Committed, ProposeError>> {
        let deadline = Instant::now() + self.answer_within;
        async move {
            let (node, boot) = (self.node, self.boot);
            if let Some(held) = self.sim.with(|world| world.held_up(node, &command)) {
                self.sim.clock().sleep(held).await;
            }
            let answer = self.sim.with(|world| world.propose(node, boot, term, command))?;
            let unknown = |what: &str| Err(ProposeError::Unknown { what: what.into() });
            match self.sim.clock().by(deadline, answer).await {
                Some(Ok(result)) => result,
                Some(Err(_)) => unknown("another leader's entry took its place"),
                None => unknown("no answer in time"),
            }
        }
        .boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        let deadline = Instant::now() + self.answer_within;
        async move {
            let clock = self.sim.clock();
            let index = clock.by(deadline, self.read_index()).await.ok_or(ReadError::NoQuorum)??;
            let mut applied = self.applied();
            let reached = clock.by(deadline, applied.wait_for(|applied| *applied >= index)).await;
            match reached {
                Some(Ok(_)) => Ok(index),
                _ => Err(ReadError::Behind { index, applied: self.replica.applied.now() }),
            }
        }
        .boxed()
    }
}

impl World {
    /// How long a proposal is on its way to this node's Raft.
    fn held_up(&mut self, node: u64, command: &Command) -> Option<Duration> {
        let hold = self.nodes.get_mut(&node)?.hold.as_mut()?;
        let is_held = matches!(command.change, Change::StartRecovery(_));
        hold.met |= is_held;
        is_held.then(|| Duration::from_millis(hold.ms))
    }

    fn propose(
        &mut self,
        node: u64,
        boot: u64,
        term: u64,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Committed, ProposeError>>, ProposeError> {
        if !self.lives(node, boot) {
            return Err(ProposeError::Unknown { what: "this process is gone".into() });
        }
        let lease = self.group.timing.election_max_ms;
        let entry = &self.nodes[&node];
        let live = &entry.process.as_ref().expect("it lives").raft;
        if !live.leads() || entry.disk.term != term {
            return Err(ProposeError::NotLeader { leader: live.leader });
        }
        if self.majority_heard_since(node) + lease < self.now {
            return Err(ProposeError::NoQuorum);
        }
        self.note_proposal(node, term, &command);
        if matches!(command.change, Change::StartRecovery(_)) {
            self.point_reached(Point::Proposed);
        }
        let (reply, answer) = oneshot::channel();
        let index = self.nodes[&node].disk.log.last().0 + 1;
        self.process(node).expect("it lives").raft.pending.insert(index, (term, reply));
        self.append_own(node, Entry { term, load: Load::Command(command) });
        Ok(answer)
    }

    /// Asks whoever leads, as far as this node knows, for a read index; returns who was asked.
    fn ask_read(
        &mut self,
        node: u64,
        boot: u64,
        reply: oneshot::Sender<Option<u64>>,
    ) -> Result<u64, ReadError> {
        if !self.lives(node, boot) {
            return Err(ReadError::Stopped { what: "this process is gone".into() });
        }
        let live = &mut self.process(node).expect("it lives").raft;
        if live.leads() {
            self.ask_majority(node, Asker::Here(reply));
            return Ok(node);
        }
        let leader = live.leader.filter(|leader| *leader != node).ok_or(ReadError::NoLeader)?;
        live.next_ask += 1;
        let id = live.next_ask;
        live.asked.insert(id, reply);
        self.send(node, leader, move |world, to| world.ask_majority(to, Asker::Node { node, boot, id }));
        Ok(leader)
    }
}
