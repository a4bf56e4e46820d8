//! Standing orders in the leader's hands: a fenced, returned primary is compared with the present one, then rejoined or
//! quarantined. (Fencing it is every node's business: `server::fencer`.)

use std::time::Duration;

use super::{Leader, Message};
use crate::{
    core::{
        plan::{
            rejoin::{self, Return},
            step::{Action, SourceOptions, Step, StepEnd, Target},
        },
        replicated::{Change, OrderStage, Outcome, StandingOrder},
    },
    executor::Permit,
    model::{facts::ServerFacts, policy::Policy, server::ServerId},
    server::{group::SELF, tools::Tools},
};

/// Bound of one step of a rejoin.
const STEP: Duration = Duration::from_secs(5);
/// Bound of pointing the old primary, its connection included.
const POINT: Duration = Duration::from_secs(15);
/// How often a step under way is asked whether its order still stands.
const ASK: Duration = Duration::from_millis(100);
/// Pause after a rejoin that did not work.
const PAUSE: Duration = Duration::from_secs(2);

const REVOKED: &str = "the standing order was revoked, or a recovery of the cluster runs";

impl Leader {
    pub(super) fn tend_orders(&mut self) {
        let due: Vec<(StandingOrder, Option<Target>, Policy)> = self.tools.read(|state| {
            state
                .orders
                .values()
                .filter(|order| matches!(order.stage, OrderStage::Fenced | OrderStage::Rejoining))
                .filter(|order| !self.orders.contains(&order.id))
                .filter_map(|order| {
                    let cluster = state.clusters.get(&order.cluster).filter(|c| c.slot.is_none())?;
                    let primary = cluster.primary_member().map(|m| m.target());
                    Some((order.clone(), primary, state.policy.clone()))
                })
                .collect()
        });
        for (order, primary, policy) in due {
            let Some(primary) = primary.filter(|p| p.server != order.target.server) else { continue };
            if !policy.rejoin {
                continue;
            }
            self.orders.insert(order.id);
            let worker =
                Rejoin { tools: self.tools.clone(), term: self.leadership.term, order, primary, policy };
            let inbox = self.inbox.clone();
            self.work.spawn(self.tools.task(async move {
                let id = worker.order.id;
                if let Err(why) = worker.work().await {
                    tracing::warn!(order = id, why, "the returned primary is not rejoined yet");
                    if worker.stands() {
                        worker.tools.sleep(PAUSE).await;
                    }
                }
                let _ = inbox.send(Message::OrderDone(id)).await;
            }));
        }
    }
}

struct Rejoin {
    tools: Tools,
    term: u64,
    order: StandingOrder,
    primary: Target,
    policy: Policy,
}

impl Rejoin {
    async fn work(&self) -> Result<(), String> {
        // A session that a predecessor left may still send something.
        self.step(&self.order.target, Action::KillPredecessors, STEP).await?;
        let mut returned = self.facts(&self.order.target).await?;
        if returned.writable() {
            return Err("it is writable again; the fence comes first".into());
        }
        if let Some(channel) = rejoin::follows_another(&returned, &self.primary) {
            let stop = Action::StopReceiver { channel: channel.name.clone() };
            self.step(&self.order.target, stop, STEP).await?;
            returned = self.facts(&self.order.target).await?;
        }
        let primary = self.facts(&self.primary).await?;
        // Of a record that is gone nothing is known.
        let left_behind = self.tools.read(|state| {
            let recovery = state.recoveries.get(&self.order.recovery);
            let others = |(server, _): &(ServerId, String)| *server != self.order.target.server;
            recovery.is_none_or(|recovery| recovery.left_behind.iter().any(others))
        });
        match rejoin::judge(&self.order, left_behind, &returned, &primary) {
            Return::Errant { errant, why } => {
                self.advance(OrderStage::Quarantined { errant: errant.to_string(), why }).await
            }
            Return::Lost { why } => {
                self.advance(OrderStage::Quarantined { errant: String::new(), why }).await
            }
            Return::Contained { gtid_slave_pos } => self.rejoin(gtid_slave_pos, &returned).await,
        }
    }

    async fn rejoin(&self, gtid_slave_pos: Option<String>, returned: &ServerFacts) -> Result<(), String> {
        if self.order.stage != OrderStage::Rejoining {
            self.advance(OrderStage::Rejoining).await?;
        }
        let was_source = returned.semi_sync.source_enabled == Some(true);
        if was_source {
            self.step(&self.order.target, Action::DisableSemiSyncSource, STEP).await?;
        }
        let options = SourceOptions {
            source: self.primary.address.clone(),
            heartbeat_ms: self.policy.heartbeat_ms,
            connect_retry_s: self.policy.connect_retry_s,
            gtid_slave_pos,
        };
        let semi_sync_replica = (was_source && self.order.semi_sync).then_some(true);
        let point = Action::Point { channel: String::new(), options, semi_sync_replica, wait: true };
        match self.step(&self.order.target, point, POINT).await {
            Ok(_) => self.advance(OrderStage::Rejoined).await,
            Err(why) => {
                // Where that is refused, it was compared anew already, or the order is gone.
                let _ = self.advance(OrderStage::Waiting).await;
                Err(why)
            }
        }
    }

    async fn facts(&self, target: &Target) -> Result<ServerFacts, String> {
        let end = self.step(target, Action::ReadFacts, STEP).await?;
        end.facts().cloned().ok_or_else(|| format!("{} gave no facts", target.address))
    }

    /// Whether it is still to be pointed at that primary, and no recovery may choose another.
    fn stands(&self) -> bool {
        self.tools.read(|state| {
            let cluster = state.clusters.get(&self.order.cluster).filter(|cluster| cluster.slot.is_none());
            let primary = cluster.and_then(|cluster| cluster.primary.as_ref());
            state.orders.contains_key(&self.order.id) && primary == Some(&self.primary.server)
        })
    }

    /// Once it is not: it may wait for a connection to a primary that was replaced meanwhile.
    async fn revoked(&self) {
        while self.stands() {
            self.tools.sleep(ASK).await;
        }
    }

    /// Each step after a read barrier of this term, and only while the order stands.
    async fn step(&self, target: &Target, action: Action, deadline: Duration) -> Result<StepEnd, String> {
        let confirmed = self.tools.barrier_over_session(target, deadline).await?;
        if !self.stands() {
            return Err(REVOKED.into());
        }
        let order = self.order.id;
        let permit = Permit::new(format!("order {order}"), order, self.term, confirmed, deadline);
        let step = Step { target: target.clone(), action };
        let end = tokio::select! {
            biased;
            end = self.tools.ports.servers.run(permit, step.clone(), deadline) => end,
            () = self.revoked() => return Err(REVOKED.into()),
        };
        tracing::info!(order = self.order.id, step = %step, end = %end, "step");
        match end.is_done() {
            true => Ok(end),
            false => Err(format!("{step}: {end}")),
        }
    }

    async fn advance(&self, stage: OrderStage) -> Result<(), String> {
        let change = Change::AdvanceOrder { order: self.order.id, stage };
        match self.tools.group.propose(self.term, change, SELF, None).await {
            Ok(committed) => match committed.outcome {
                Outcome::Refused(refusal) => Err(refusal.to_string()),
                _ => Ok(()),
            },
            Err(error) => Err(error.to_string()),
        }
    }
}
