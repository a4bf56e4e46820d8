//! P3, I5: one recovery or operation a cluster at a time, superseded only where its holder was given up; and after a
//! completed automatic one no other starts by itself before its block is over or lifted.

use std::collections::BTreeMap;

use quorate::{
    core::replicated::{Change, Ending, Kind, command::AckScope},
    model::server::ClusterId,
};

use super::{Check, account::done};
use crate::{trace::Event, world::World};

#[derive(Default)]
struct Account {
    running: Option<(u64, bool)>,
    kind: Option<Kind>,
    blocked_until: u64,
}

/// See above.
#[derive(Default)]
pub struct OneSlot {
    clusters: BTreeMap<ClusterId, Account>,
    /// Which cluster a recovery is of.
    of: BTreeMap<u64, ClusterId>,
    log_ms: u64,
}

impl Check for OneSlot {
    fn id(&self) -> &'static str {
        "P3 one slot, and a block after it"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        self.log_ms = self.log_ms.max(command.at_ms);
        match &command.change {
            // A repeated request takes no effect again: its outcome names the first one.
            Change::StartRecovery(start) if id == index => {
                self.of.insert(id, start.cluster.clone());
                let account = self.clusters.entry(start.cluster.clone()).or_default();
                if let Some((holder, given_up)) = account.running
                    && (!given_up || start.kind == Kind::Switchover)
                {
                    return Err(format!("recovery {id} starts while {holder} holds the slot"));
                }
                account.running = Some((id, false));
                account.kind = Some(start.kind);
                if start.kind == Kind::Failover && self.log_ms < account.blocked_until {
                    let left = account.blocked_until - self.log_ms;
                    return Err(format!("recovery {id} starts by itself {left} ms before the block is over"));
                }
            }
            Change::BeginUndo { recovery, .. } => {
                let account = self.account(*recovery)?;
                if let Some((holder, given_up)) = &mut account.running
                    && holder == recovery
                {
                    *given_up = true;
                }
            }
            Change::FinishRecovery { recovery, ending, .. } => {
                let (log_ms, block_ms) = (self.log_ms, world.group.state.policy.block_for_ms);
                let account = self.account(*recovery)?;
                match account.running {
                    Some((holder, _)) if holder == *recovery => account.running = None,
                    other => return Err(format!("recovery {recovery} ends while the slot holds {other:?}")),
                }
                if *ending == Ending::Succeeded && account.kind == Some(Kind::Failover) {
                    account.blocked_until = log_ms + block_ms;
                }
            }
            Change::Acknowledge { scope, .. } => self.acknowledged(scope),
            Change::ForgetCluster { cluster } => {
                self.clusters.remove(cluster);
            }
            _ => {}
        }
        Ok(())
    }
}

impl OneSlot {
    fn account(&mut self, recovery: u64) -> Result<&mut Account, String> {
        let cluster = self.of.get(&recovery).ok_or_else(|| format!("recovery {recovery} never started"))?;
        Ok(self.clusters.entry(cluster.clone()).or_default())
    }

    fn acknowledged(&mut self, scope: &AckScope) {
        let only = match scope {
            AckScope::All => None,
            AckScope::Cluster(cluster) => Some(cluster.clone()),
            AckScope::Recovery(id) => self.of.get(id).cloned(),
        };
        for (cluster, account) in &mut self.clusters {
            if only.as_ref().is_none_or(|only| only == cluster) {
                account.blocked_until = 0;
            }
        }
    }
}
