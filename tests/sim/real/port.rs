//! The actors' log: the product's own, and what they do with it told to the checks.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use quorate::{
    core::replicated::{Command, State},
    raft::{Committed, Leadership, Membership, ProposeError, Raft, ReadError},
    server::ports::Log,
};
use tokio::{sync::watch, time::Instant};

use crate::{trace::Event, world::Sim};

/// [`Log`] of one process.
pub struct SimRaft {
    /// The product's.
    pub raft: Raft,
    /// The world.
    pub sim: Sim,
    /// Whose.
    pub node: u64,
    /// After this long the product gives up.
    pub answer_within: Duration,
}

impl Log for SimRaft {
    fn node_id(&self) -> u64 {
        self.node
    }

    fn incarnation(&self) -> &str {
        self.raft.incarnation()
    }

    fn look(&self, reader: &mut dyn FnMut(&State)) {
        Log::look(&self.raft, reader);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.raft.applied()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.raft.leadership()
    }

    fn membership(&self) -> Membership {
        self.raft.membership()
    }

    fn propose(&self, term: u64, command: Command) -> BoxFuture<'_, Result<Committed, ProposeError>> {
        async move {
            let proposed = Arc::new(command.clone());
            self.sim.with(|world| world.note_proposal(self.node, term, &command));
            let end = Log::propose(&self.raft, term, command).await;
            match &end {
                Ok(done) => self.sim.with(|world| {
                    world.catch_up(self.node);
                    let (node, index, term) = (self.node, done.index, done.term);
                    world.group.acknowledged = world.group.acknowledged.max(index);
                    world.note(Event::Proposed { node, index, term, command: proposed });
                }),
                Err(ProposeError::Unknown { .. }) => {
                    self.sim.with(|world| world.counts.reach("proposal of unknown fate"));
                }
                Err(_) => {}
            }
            end
        }
        .boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move {
            let acknowledged = self.sim.with(|world| world.group.acknowledged);
            let began = Instant::now();
            let end = Log::read_barrier(&self.raft).await;
            self.sim.with(|world| match &end {
                Ok(index) => {
                    let (node, index, applied) = (self.node, *index, *self.raft.applied().borrow());
                    world.note(Event::Barrier { node, acknowledged, index, applied });
                }
                Err(_) if began.elapsed() >= self.answer_within => {
                    world.counts.reach("read barrier not passed in time");
                }
                Err(_) => {}
            });
            end
        }
        .boxed()
    }
}
