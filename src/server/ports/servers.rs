//! The database servers over their own protocol: probers, single readings, the executor.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Probe, Servers};
use crate::{
    core::plan::step::{Step, StepEnd, Target},
    executor::{Executor, Permit},
    model::{address::Address, facts::ServerFacts, server::ServerId},
    probe::{self, ProbeEvent, ProbeHandle, ProbeSettings, ProbeTarget},
    session::{Account, ReadError},
};

/// Bound of reading one server.
const READ: Duration = Duration::from_secs(3);

/// The servers this node's account can log in to.
pub struct SqlServers {
    executor: Arc<Executor>,
    account: Arc<Account>,
    node: u64,
}

impl SqlServers {
    /// Probes and reads as `account`, for node `node`; steps are `executor`'s.
    pub fn new(executor: Executor, account: Account, node: u64) -> Self {
        Self { executor: Arc::new(executor), account: Arc::new(account), node }
    }
}

impl Servers for SqlServers {
    fn watch(
        &self,
        target: ProbeTarget,
        settings: ProbeSettings,
        events: mpsc::Sender<ProbeEvent>,
    ) -> Box<dyn Probe> {
        Box::new(probe::spawn(target, self.account.clone(), self.node, settings, events))
    }

    fn read(&self, address: &Address) -> BoxFuture<'_, Result<ServerFacts, ReadError>> {
        let address = address.clone();
        async move {
            let reading = probe::read_once(&address, &self.account, self.node, true, READ).await?;
            Ok(reading.facts)
        }
        .boxed()
    }

    fn prepare(&self, target: &Target) {
        self.executor.prepare(target);
    }

    fn forget(&self, server: &ServerId) {
        self.executor.forget(server);
    }

    fn drop_all(&self) {
        self.executor.drop_all();
    }

    fn drop_busy(&self) {
        self.executor.drop_busy();
    }

    fn set_nodes(&self, nodes: Vec<u64>) {
        self.executor.set_nodes(nodes);
    }

    fn open(&self, target: &Target, deadline: Duration) -> BoxFuture<'static, Result<Instant, String>> {
        let (executor, target) = (self.executor.clone(), target.clone());
        async move { executor.open(&target, deadline).await }.boxed()
    }

    fn run(&self, permit: Permit, step: Step, deadline: Duration) -> BoxFuture<'static, StepEnd> {
        let executor = self.executor.clone();
        async move { executor.run(&permit, &step, deadline).await }.boxed()
    }
}

impl Probe for ProbeHandle {
    fn urgent(&self, bound: Duration) -> oneshot::Receiver<ProbeEvent> {
        self.urgent(bound)
    }

    fn reprobe(&self) {
        self.reprobe();
    }

    fn inventory_now(&self) {
        self.inventory_now();
    }

    fn set(&self, settings: ProbeSettings) {
        self.set(settings);
    }

    fn discard(&self) {
        self.discard();
    }
}
