//! What people set: acknowledgements, switches, downtime, maintenance, promotion rules, policy.

use super::{Context, Done, members::unknown};
use crate::{
    core::replicated::{
        audit::EventKind,
        command::{AckScope, Switch},
        recovery::Acknowledgement,
        refusal::Refusal,
        state::{Pause, Rule, State},
    },
    model::{
        policy::{Policy, PromotionRule},
        server::{ClusterId, ServerId},
    },
};

impl State {
    pub(super) fn acknowledge(
        &mut self,
        context: &mut Context<'_>,
        scope: &AckScope,
        comment: &str,
    ) -> Result<Done, Refusal> {
        if comment.trim().is_empty() {
            return Err(Refusal::Invalid("an acknowledgement needs a comment".into()));
        }
        if let AckScope::Recovery(id) = scope
            && !self.recoveries.contains_key(id)
        {
            return Err(unknown("recovery", &id.to_string()));
        }
        if let AckScope::Cluster(id) = scope
            && !self.clusters.contains_key(id)
        {
            return Err(unknown("cluster", &id.0));
        }
        let now = self.log_time_ms;
        let by = context.command.by.clone();
        let wanted = |id: u64, cluster: &ClusterId| match scope {
            AckScope::Recovery(one) => *one == id,
            AckScope::Cluster(one) => one == cluster,
            AckScope::All => true,
        };
        let mut acknowledged = Vec::new();
        for recovery in self.recoveries.values_mut() {
            let open = !recovery.running() && recovery.acknowledged.is_none();
            if open && wanted(recovery.id, &recovery.cluster) {
                recovery.acknowledged =
                    Some(Acknowledgement { by: by.clone(), comment: comment.to_owned(), at_ms: now });
                acknowledged.push((recovery.id, recovery.cluster.clone()));
            }
        }
        let mut lifted = Vec::new();
        for block in self.blocks.values_mut() {
            if block.lifted.is_none() && wanted(block.recovery, &block.cluster) {
                block.lifted = Some((by.clone(), comment.to_owned(), now));
                lifted.push((block.recovery, block.cluster.clone()));
            }
        }
        for (id, cluster) in &acknowledged {
            if let Some(cluster) = self.clusters.get_mut(cluster) {
                cluster.failed_attempts = 0;
                cluster.retry_not_before_ms = 0;
            }
            let text = format!("recovery {id} acknowledged: {comment}");
            self.audit(context, EventKind::Acknowledged, Some(cluster), None, Some(*id), text);
        }
        for (id, cluster) in &lifted {
            let text = format!("the block of recovery {id} was lifted: {comment}");
            self.audit(context, EventKind::Unblocked, Some(cluster), None, Some(*id), text);
        }
        if matches!(scope, AckScope::All) {
            self.starts.clear();
        }
        Ok(Done { id: None, acknowledged: acknowledged.into_iter().map(|(id, _)| id).collect() })
    }

    pub(super) fn set_recoveries(
        &mut self,
        context: &mut Context<'_>,
        id: Option<&ClusterId>,
        enabled: bool,
        why: &str,
    ) -> Result<Done, Refusal> {
        if !enabled && why.trim().is_empty() {
            return Err(Refusal::Invalid("say why recoveries are disabled".into()));
        }
        let switch =
            Switch { enabled, by: context.command.by.clone(), why: why.to_owned(), at_ms: self.log_time_ms };
        let scope = match id {
            Some(id) => {
                self.cluster_mut(id)?.recoveries = switch;
                format!("of cluster {id}")
            }
            None => {
                self.recoveries_switch = switch;
                "of all clusters".to_owned()
            }
        };
        let what = if enabled { "enabled" } else { "disabled" };
        let because = if why.trim().is_empty() { String::new() } else { format!(": {why}") };
        let text = format!("automatic recoveries {scope} {what}{because}");
        self.audit(context, EventKind::Switched, id, None, None, text);
        Ok(Done::default())
    }

    pub(super) fn set_downtime(
        &mut self,
        context: &mut Context<'_>,
        server: &ServerId,
        for_ms: Option<u64>,
        why: &str,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_of(server).ok_or_else(|| unknown("server", &server.0))?;
        let (id, address) = (cluster.id.clone(), cluster.members[server].address.to_string());
        let text = match for_ms {
            Some(for_ms) => {
                let pause = self.pause(context, for_ms, why)?;
                self.downtimes.insert(server.clone(), pause);
                format!("{address} is in downtime for {} s: {why}", for_ms / 1_000)
            }
            None => {
                self.downtimes.remove(server);
                format!("the downtime of {address} was ended")
            }
        };
        self.audit(context, EventKind::Maintenance, Some(&id), Some(address), None, text);
        Ok(Done::default())
    }

    pub(super) fn set_maintenance(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        for_ms: Option<u64>,
        why: &str,
    ) -> Result<Done, Refusal> {
        if !self.clusters.contains_key(id) {
            return Err(unknown("cluster", &id.0));
        }
        let text = match for_ms {
            Some(for_ms) => {
                let pause = self.pause(context, for_ms, why)?;
                self.maintenance.insert(id.clone(), pause);
                format!("the cluster is in maintenance for {} s: {why}", for_ms / 1_000)
            }
            None => {
                self.maintenance.remove(id);
                "the maintenance of the cluster was ended".to_owned()
            }
        };
        self.audit(context, EventKind::Maintenance, Some(id), None, None, text);
        Ok(Done::default())
    }

    fn pause(&self, context: &Context<'_>, for_ms: u64, why: &str) -> Result<Pause, Refusal> {
        if for_ms == 0 || why.trim().is_empty() {
            return Err(Refusal::Invalid("give a duration above zero and a reason".into()));
        }
        Ok(Pause {
            by: context.command.by.clone(),
            why: why.to_owned(),
            until_ms: self.log_time_ms.saturating_add(for_ms),
        })
    }

    pub(super) fn set_promotion_rule(
        &mut self,
        context: &mut Context<'_>,
        server: &ServerId,
        rule: PromotionRule,
        for_ms: Option<u64>,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_of(server).ok_or_else(|| unknown("server", &server.0))?;
        let (id, address) = (cluster.id.clone(), cluster.members[server].address.to_string());
        match rule {
            PromotionRule::Neutral => {
                self.rules.remove(server);
            }
            rule => {
                let until_ms = for_ms.map(|f| self.log_time_ms.saturating_add(f));
                self.rules.insert(server.clone(), Rule { rule, by: context.command.by.clone(), until_ms });
            }
        }
        let text = format!("promotion rule of {address}: {rule}");
        self.audit(context, EventKind::Policy, Some(&id), Some(address), None, text);
        Ok(Done::default())
    }

    pub(super) fn set_policy(
        &mut self,
        context: &mut Context<'_>,
        version: u64,
        policy: &Policy,
    ) -> Result<Done, Refusal> {
        if version != self.policy_version {
            return Err(Refusal::Outdated {
                what: "policy version".into(),
                then: version,
                now: self.policy_version,
            });
        }
        policy.check().map_err(Refusal::Invalid)?;
        let changes = self.policy.changes(policy).join(", ");
        self.policy = policy.clone();
        self.policy_version += 1;
        for cluster in self.clusters.values_mut() {
            cluster.generation += 1;
        }
        let text = match changes.as_str() {
            "" => format!("policy version {}: nothing differs", self.policy_version),
            _ => format!("policy version {}: {changes}", self.policy_version),
        };
        self.audit(context, EventKind::Policy, None, None, None, text);
        Ok(Done::default())
    }
}
