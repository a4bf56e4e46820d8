//! The log, as Raft keeps it.

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::Log;
use crate::{
    core::replicated::{Command, State},
    raft::{Committed, Leadership, Membership, ProposeError, Raft, ReadError},
};

impl Log for Raft {
    fn node_id(&self) -> u64 {
        self.node_id()
    }

    fn incarnation(&self) -> &str {
        self.incarnation()
    }

    fn look(&self, reader: &mut dyn FnMut(&State)) {
        self.read(|state| reader(state));
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership()
    }

    fn membership(&self) -> Membership {
        self.membership()
    }

    fn propose(&self, term: u64, command: Command) -> BoxFuture<'_, Result<Committed, ProposeError>> {
        self.propose_as_leader_of(term, command).boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.read_barrier().boxed()
    }
}
