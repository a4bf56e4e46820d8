//! Every node's part of a standing order: a replaced primary that answers is fenced at once, by whoever hears it first.
//!
//! Each execution follows a read barrier (P1): a node that cannot reach the leader fences nobody.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    core::{
        plan::step::{Action, Step},
        replicated::{Change, OrderStage, StandingOrder},
    },
    executor::Permit,
    mistake::{Mistake, planted},
    model::server::ServerId,
    server::{group::SELF, tools::Tools},
};

/// Bound of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Fences returned servers.
#[derive(Clone)]
pub struct Fencer {
    tools: Tools,
    busy: Arc<Mutex<BTreeSet<u64>>>,
}

impl Fencer {
    /// A fencer of this node.
    pub fn new(tools: Tools) -> Self {
        Self { tools, busy: Arc::default() }
    }

    /// A server answered that an order may be about.
    pub fn answered(&self, server: &ServerId, writable: bool) {
        let order = self.tools.read(|state| state.order_of(server).cloned());
        let Some(order) = order.filter(|o| writable || o.stage == OrderStage::Waiting) else { return };
        if planted(Mistake::ReturnedPrimaryLeftWritable) {
            return;
        }
        if !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(order.id) {
            return;
        }
        let this = self.clone();
        self.tools.start(async move {
            let id = order.id;
            this.fence(order).await;
            this.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    async fn fence(&self, order: StandingOrder) {
        let confirmed = match self.tools.barrier_over_session(&order.target, ATTEMPT).await {
            Ok(began) => began,
            Err(error) => {
                tracing::warn!(server = %order.target.address, error, "a returned primary cannot be fenced by this node");
                return;
            }
        };
        let stands = self.tools.read(|state| {
            let primary = state.clusters.get(&order.cluster).and_then(|c| c.primary.clone());
            state.orders.contains_key(&order.id) && primary.as_ref() != Some(&order.target.server)
        });
        if !stands {
            return;
        }
        let term = self.tools.leads().term;
        let permit = Permit::new(format!("order {}", order.id), order.id, term, confirmed, ATTEMPT);
        let step = Step { target: order.target.clone(), action: Action::Fence };
        let end = self.tools.ports.servers.run(permit, step.clone(), ATTEMPT).await;
        tracing::warn!(order = order.id, step = %step, end = %end, "a returned primary");
        if end.is_done() && order.stage == OrderStage::Waiting {
            let change = Change::AdvanceOrder { order: order.id, stage: OrderStage::Fenced };
            if let Err(error) = self.tools.group.submit(change, SELF, None).await {
                tracing::warn!(order = order.id, %error, "its fencing is not recorded yet");
            }
        }
    }
}
