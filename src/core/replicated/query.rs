//! Questions to the state.

use super::{
    cluster::{Cluster, Member},
    orders::StandingOrder,
    recovery::{Kind, Waiver},
    refusal::Refusal,
    state::State,
};
use crate::{
    core::{agreement::Question, analysis::Class},
    mistake::{Mistake, planted},
    model::{
        address::Address,
        near::near,
        policy::PromotionRule,
        server::{ClusterId, ServerId},
    },
};

impl State {
    /// The cluster a server belongs to.
    pub fn cluster_of(&self, server: &ServerId) -> Option<&Cluster> {
        self.clusters.values().find(|c| c.members.contains_key(server))
    }

    /// The member at an address, with its cluster.
    pub fn member_at(&self, address: &Address) -> Option<(&Cluster, &Member)> {
        self.clusters.values().find_map(|c| c.member_at(address).map(|m| (c, m)))
    }

    /// What verdicts are judged about: the primary of a cluster at an epoch, by the rules of this state.
    pub fn question<'a>(&'a self, cluster: &'a ClusterId, epoch: u64, subject: &'a ServerId) -> Question<'a> {
        Question {
            voters: &self.voters,
            cluster,
            epoch,
            subject,
            fresh_for_ms: self.policy.verdict_fresh_for_ms,
            newest: self.verdicts.get(cluster),
        }
    }

    /// The standing order about a server.
    pub fn order_of(&self, server: &ServerId) -> Option<&StandingOrder> {
        self.orders.values().find(|order| &order.target.server == server)
    }

    /// Finds a cluster by id, alias, or the address of a member; suggests near names otherwise.
    pub fn find_cluster(&self, name: &str) -> Result<&Cluster, Refusal> {
        let by_name = self.clusters.values().find(|c| c.id.0 == name || c.alias.as_deref() == Some(name));
        let by_member = || name.parse().ok().and_then(|address| self.member_at(&address)).map(|(c, _)| c);
        by_name.or_else(by_member).ok_or_else(|| {
            let ids = self.clusters.values().flat_map(|c| [Some(c.id.0.clone()), c.alias.clone()]).flatten();
            let names = ids.chain(self.addresses());
            Refusal::Unknown { what: "cluster".into(), name: name.into(), near: near(name, names) }
        })
    }

    /// Finds a member by server id or address; suggests near names otherwise.
    pub fn find_server(&self, name: &str) -> Result<(&Cluster, &Member), Refusal> {
        let id = ServerId(name.to_owned());
        let by_id = || self.clusters.values().find_map(|c| c.members.get(&id).map(|m| (c, m)));
        let by_address = || name.parse().ok().and_then(|address| self.member_at(&address));
        by_id().or_else(by_address).ok_or_else(|| Refusal::Unknown {
            what: "server".into(),
            name: name.into(),
            near: near(name, self.addresses()),
        })
    }

    fn addresses(&self) -> impl Iterator<Item = String> {
        self.clusters.values().flat_map(|c| c.members.values()).map(|m| m.address.to_string())
    }

    /// Promotion rule of a server.
    pub fn rule_of(&self, server: &ServerId) -> PromotionRule {
        self.rules.get(server).map(|r| r.rule).unwrap_or_default()
    }

    /// Datacenter of an address by policy: the full address first, then the host.
    pub fn datacenter_of(&self, address: &Address) -> Option<String> {
        let by = |key: &str| self.policy.datacenters.get(key).cloned();
        by(&address.to_string()).or_else(|| by(&address.host))
    }

    /// Why no automatic recovery of this cluster may start now, as far as switches, downtime and maintenance go.
    pub fn automatic_pause(&self, cluster: &Cluster) -> Option<Refusal> {
        let disabled = |switch: &super::command::Switch, scope: &str| Refusal::RecoveriesDisabled {
            scope: scope.into(),
            by: switch.by.clone(),
            why: switch.why.clone(),
        };
        if !self.recoveries_switch.enabled {
            return Some(disabled(&self.recoveries_switch, "globally"));
        }
        if !cluster.recoveries.enabled && !planted(Mistake::ClusterSwitchIgnored) {
            return Some(disabled(&cluster.recoveries, "for this cluster"));
        }
        let left = |until: u64| until.saturating_sub(self.log_time_ms) / 1_000;
        if let Some(pause) = self.maintenance.get(&cluster.id) {
            return Some(Refusal::Maintenance {
                by: pause.by.clone(),
                why: pause.why.clone(),
                left_s: left(pause.until_ms),
            });
        }
        let primary = cluster.primary.as_ref()?;
        self.downtimes.get(primary).map(|pause| Refusal::Downtime {
            server: primary.clone(),
            by: pause.by.clone(),
            why: pause.why.clone(),
            left_s: left(pause.until_ms),
        })
    }

    /// Why a start of this kind must wait for the holder of the slot. One that was given up and is only being undone gives
    /// way to a failover, automatic or forced: its old primary may stay frozen for hours. Not to a switchover, which
    /// needs a primary that is known to be open.
    pub fn slot_refusal(&self, cluster: &Cluster, kind: Kind) -> Option<Refusal> {
        let holder = cluster.slot.and_then(|id| self.recoveries.get(&id))?;
        if holder.undoing() && kind != Kind::Switchover {
            return None;
        }
        if planted(Mistake::SwitchoverHoldsNoSlot) && holder.kind == Kind::Switchover {
            return None;
        }
        let what = if holder.kind == Kind::Switchover { "switchover" } else { "recovery" };
        Some(Refusal::SlotHeld { what: what.into(), id: holder.id })
    }

    /// The anti-flapping block that stands against a failover of this class, automatic or forced.
    pub fn block_refusal(&self, cluster: &Cluster, class: Class) -> Option<Refusal> {
        let now = self.log_time_ms;
        let standing = self.blocks.values().find(|b| {
            b.cluster == cluster.id && b.class == class && b.lifted.is_none() && b.until_ms > now
        })?;
        Some(Refusal::ClusterBlocked {
            recovery: standing.recovery,
            left_s: (standing.until_ms - now) / 1_000,
        })
    }

    /// Why no recovery of this kind and class may start now, as far as blocks, back-off and breaker go. A forced failover is
    /// held by the block, unless it is waived by name; back-off and breaker pace what starts by itself.
    pub fn rate_refusal(
        &self,
        cluster: &Cluster,
        kind: Kind,
        class: Class,
        waived: &[Waiver],
    ) -> Option<Refusal> {
        match kind {
            Kind::Failover => self.automatic_rate(cluster, class),
            Kind::Forced if waived.contains(&Waiver::Block) => None,
            Kind::Forced => self.block_refusal(cluster, class),
            Kind::Switchover => None,
        }
    }

    /// Why no automatic recovery of this class may start now, as far as blocks, back-off and breaker go.
    pub fn automatic_rate(&self, cluster: &Cluster, class: Class) -> Option<Refusal> {
        let now = self.log_time_ms;
        if let Some(blocked) = self.block_refusal(cluster, class) {
            return Some(blocked);
        }
        if cluster.retry_not_before_ms > now {
            return Some(Refusal::BackOff {
                attempts: cluster.failed_attempts,
                left_ms: cluster.retry_not_before_ms - now,
            });
        }
        let count = self.starts.len() as u32;
        (count >= self.policy.breaker_recoveries).then_some(Refusal::Breaker {
            count,
            limit: self.policy.breaker_recoveries,
            window_s: self.policy.breaker_window_ms / 1_000,
        })
    }

    /// Whether a block stands on a cluster.
    pub fn blocked(&self, cluster: &ClusterId) -> bool {
        self.blocks
            .values()
            .any(|b| &b.cluster == cluster && b.lifted.is_none() && b.until_ms > self.log_time_ms)
    }

    /// When something next expires, log time; a leader proposes a tick then. Back-off and breaker among it: log time only
    /// moves with commands, and while nothing else happens they would hold the next attempt back for ever.
    pub fn next_expiry(&self) -> Option<u64> {
        let blocks = self.blocks.values().filter(|b| b.lifted.is_none()).map(|b| b.until_ms);
        let pauses = self.downtimes.values().chain(self.maintenance.values()).map(|p| p.until_ms);
        let rules = self.rules.values().filter_map(|r| r.until_ms);
        let back_offs =
            self.clusters.values().map(|c| c.retry_not_before_ms).filter(|at| *at > self.log_time_ms);
        let full = self.starts.len() as u64 >= u64::from(self.policy.breaker_recoveries);
        let breaker =
            self.starts.front().filter(|_| full).map(|at| at.saturating_add(self.policy.breaker_window_ms));
        blocks.chain(pauses).chain(rules).chain(back_offs).chain(breaker).min()
    }
}
