//! What every actor works with: the ports, and the group's voice over them.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{task::JoinHandle, time::Instant};

use super::{group::Group, ports::Ports};
use crate::{
    core::{plan::step::Target, replicated::State},
    raft::Leadership,
};

/// The ports of one node, and its voice in the group.
#[derive(Clone)]
pub struct Tools {
    /// The world.
    pub ports: Ports,
    /// Proposing.
    pub group: Arc<Group>,
}

impl Tools {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { group: Arc::new(Group::new(ports.clone())), ports }
    }

    /// This node's id.
    pub fn node_id(&self) -> u64 {
        self.ports.log.node_id()
    }

    /// What `look` finds in the state as applied here.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.ports.log.read(look)
    }

    /// Who leads now, as far as this node knows.
    pub fn leads(&self) -> Leadership {
        self.ports.log.leads()
    }

    /// A read barrier behind an open session: what a permit for a step there must follow. The session is opened where there
    /// is none. Returns when the barrier began, what the permit names as confirmed; or a sentence.
    pub async fn barrier_over_session(&self, target: &Target, within: Duration) -> Result<Instant, String> {
        self.ports.servers.open(target, within).await?;
        let began = Instant::now();
        self.ports.log.read_barrier().await.map_err(|error| error.to_string())?;
        Ok(began)
    }

    /// Whether it was, since [`Tools::suspended_ms`] was that.
    pub fn was_suspended_since(&self, before_ms: u64) -> bool {
        // The two clocks are read one after the other.
        self.suspended_ms().abs_diff(before_ms) > 100
    }

    /// For how long the machine has been suspended, plus a constant: its monotonic clock stands still then, CLOCK_BOOTTIME goes
    /// on. Milliseconds.
    pub fn suspended_ms(&self) -> u64 {
        self.boottime_ms().saturating_sub(self.now_ms())
    }

    /// Milliseconds of CLOCK_BOOTTIME: what is told from them is as old as it is, though the machine was suspended meanwhile.
    pub fn boottime_ms(&self) -> u64 {
        self.ports.host.boottime_ms()
    }

    /// This process' monotonic milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.ports.host.now_ms()
    }

    /// Ends after `pause`.
    pub fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        self.ports.host.sleep(pause)
    }

    /// What `work` ends with, where that is within `limit` from this call.
    pub fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Option<T>> {
        self.ports.within(limit, work)
    }

    /// What is to be spawned in place of `work`, into a set of tasks for example.
    pub fn task(&self, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        self.ports.task(work)
    }

    /// Starts a task of this node.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.ports.start(work)
    }
}
