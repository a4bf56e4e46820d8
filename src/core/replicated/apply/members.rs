//! Clusters and members: adoption, change, removal.

use super::{Context, Done};
use crate::{
    core::replicated::{
        audit::EventKind,
        cluster::{Cluster, Durability, Member, MemberState},
        refusal::Refusal,
        state::State,
    },
    model::server::{ClusterId, Flavor, ServerId},
};

/// What a discovery wants taken under care (`Change::AdoptCluster`).
pub(super) struct Adoption<'a> {
    pub(super) alias: &'a Option<String>,
    pub(super) flavor: Flavor,
    pub(super) primary: &'a Option<ServerId>,
    pub(super) members: &'a [Member],
    pub(super) durability: &'a Durability,
}

impl State {
    pub(super) fn adopt_cluster(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        wish: &Adoption<'_>,
    ) -> Result<Done, Refusal> {
        let &Adoption { alias, flavor, primary, members, durability } = wish;
        if self.clusters.contains_key(id) {
            return Err(exists("cluster", &id.0, None));
        }
        if let Some(other) = self.clusters.values().find(|c| c.alias.as_ref() == Some(&id.0)) {
            return Err(exists("alias", &id.0, Some(other.id.clone())));
        }
        if members.is_empty() {
            return Err(Refusal::Invalid("a cluster needs at least one member".into()));
        }
        self.check_alias(alias, None)?;
        for member in members {
            if let Some(other) = self.cluster_of(&member.server) {
                return Err(exists("server", &member.server.0, Some(other.id.clone())));
            }
            check_id(&member.server)?;
        }
        let listed = |server: &ServerId| members.iter().any(|m| &m.server == server);
        if primary.as_ref().is_some_and(|p| !listed(p)) {
            return Err(Refusal::Invalid("the primary is not among the members".into()));
        }
        let cluster = Cluster {
            alias: alias.clone(),
            primary: primary.clone(),
            members: members.iter().map(|m| (m.server.clone(), m.clone())).collect(),
            durability: durability.clone(),
            ..Cluster::new(id.clone(), flavor)
        };
        let text = format!(
            "adopted cluster {} with {} members, primary {}, {durability}",
            cluster.name(),
            members.len(),
            cluster.primary_member().map(|m| m.address.to_string()).unwrap_or_else(|| "unclear".into())
        );
        self.clusters.insert(id.clone(), cluster);
        self.audit(context, EventKind::Discovered, Some(id), None, None, text);
        Ok(Done::default())
    }

    pub(super) fn update_members(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        generation: u64,
        members: &[Member],
        why: &str,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_checked(id, generation)?;
        if let Some(slot) = cluster.slot {
            return Err(Refusal::SlotHeld { what: "recovery".into(), id: slot });
        }
        for member in members {
            check_id(&member.server)?;
            if let Some(other) = self.cluster_of(&member.server).filter(|other| &other.id != id) {
                return Err(exists("server", &member.server.0, Some(other.id.clone())));
            }
        }
        let cluster = self.cluster_mut(id)?;
        for member in members {
            let mut member = member.clone();
            if let Some(known) = cluster.members.get(&member.server)
                && sets_aside(&known.state, &member.state)
            {
                member.state = known.state.clone();
            }
            cluster.members.insert(member.server.clone(), member);
        }
        cluster.generation += 1;
        self.audit(context, EventKind::Discovered, Some(id), None, None, why.to_owned());
        Ok(Done::default())
    }

    pub(super) fn set_primary(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        generation: u64,
        primary: &ServerId,
        durability: &Durability,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_checked(id, generation)?;
        if cluster.primary.is_some() {
            return Err(Refusal::Invalid(
                "the cluster has a primary; only a recovery or a switchover changes it".into(),
            ));
        }
        let Some(member) = cluster.members.get(primary) else {
            return Err(unknown("server", &primary.0));
        };
        let address = member.address.to_string();
        let cluster = self.cluster_mut(id)?;
        cluster.primary = Some(primary.clone());
        cluster.durability = durability.clone();
        cluster.epoch += 1;
        cluster.generation += 1;
        let text = format!("{address} is the primary, {durability}");
        self.audit(context, EventKind::Discovered, Some(id), Some(address), None, text);
        Ok(Done::default())
    }

    /// Only where there was a primary, nothing holds the slot, and the new one is in service. What was judged of the old
    /// primary falls with its epoch.
    pub(super) fn follow_primary(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        generation: u64,
        primary: &ServerId,
        why: &str,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_checked(id, generation)?;
        if let Some(slot) = cluster.slot {
            return Err(Refusal::SlotHeld { what: "recovery".into(), id: slot });
        }
        if cluster.primary.is_none() || cluster.primary.as_ref() == Some(primary) {
            return Err(Refusal::Invalid("the primary of the record is none, or the same".into()));
        }
        let Some(member) = cluster.members.get(primary) else {
            return Err(unknown("server", &primary.0));
        };
        if member.state != MemberState::Normal {
            return Err(Refusal::Invalid(format!("{} is not in service", member.address)));
        }
        let address = member.address.to_string();
        self.compare_anew(id);
        let cluster = self.cluster_mut(id)?;
        cluster.primary = Some(primary.clone());
        cluster.epoch += 1;
        cluster.generation += 1;
        cluster.primary_since = None;
        cluster.witness = None;
        if let Some(member) = cluster.members.get_mut(primary) {
            member.source = None;
            member.channels = 0;
        }
        // A standing order never stands against a primary.
        self.orders.retain(|_, order| &order.target.server != primary);
        self.audit(context, EventKind::Alert, Some(id), Some(address), None, why.to_owned());
        Ok(Done::default())
    }

    pub(super) fn forget_server(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        server: &ServerId,
    ) -> Result<Done, Refusal> {
        let cluster = self.clusters.get(id).ok_or_else(|| unknown("cluster", &id.0))?;
        if let Some(slot) = cluster.slot {
            return Err(Refusal::SlotHeld { what: "recovery".into(), id: slot });
        }
        if cluster.primary.as_ref() == Some(server) {
            return Err(Refusal::Invalid(
                "the primary cannot be forgotten; forget the cluster, or switch over first".into(),
            ));
        }
        let cluster = self.cluster_mut(id)?;
        let Some(member) = cluster.members.remove(server) else {
            return Err(unknown("server", &server.0));
        };
        cluster.generation += 1;
        if cluster.witness.as_ref().is_some_and(|witness| witness.target.server == *server) {
            cluster.witness = None;
        }
        self.orders.retain(|_, order| order.target.server != *server);
        self.downtimes.remove(server);
        self.rules.remove(server);
        let address = member.address.to_string();
        let text = format!("forgot {address}");
        self.audit(context, EventKind::Forgotten, Some(id), Some(address), None, text);
        Ok(Done::default())
    }

    pub(super) fn forget_cluster(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
    ) -> Result<Done, Refusal> {
        let cluster = self.clusters.get(id).ok_or_else(|| unknown("cluster", &id.0))?;
        if let Some(slot) = cluster.slot {
            return Err(Refusal::SlotHeld { what: "recovery".into(), id: slot });
        }
        let text = format!("forgot cluster {} and its {} members", cluster.name(), cluster.members.len());
        let servers: Vec<ServerId> = cluster.members.keys().cloned().collect();
        self.clusters.remove(id);
        self.orders.retain(|_, order| &order.cluster != id);
        self.blocks.retain(|_, block| &block.cluster != id);
        self.verdicts.remove(id);
        self.maintenance.remove(id);
        for server in servers {
            self.downtimes.remove(&server);
            self.rules.remove(&server);
        }
        self.audit(context, EventKind::Forgotten, Some(id), None, None, text);
        Ok(Done::default())
    }

    pub(super) fn set_alias(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        alias: &Option<String>,
    ) -> Result<Done, Refusal> {
        self.check_alias(alias, Some(id))?;
        self.cluster_mut(id)?.alias = alias.clone();
        let text = match alias {
            Some(alias) => format!("cluster {id} is called {alias}"),
            None => format!("cluster {id} has no alias any more"),
        };
        self.audit(context, EventKind::Policy, Some(id), None, None, text);
        Ok(Done::default())
    }

    pub(super) fn set_durability(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        durability: &Durability,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_mut(id)?;
        if &cluster.durability == durability {
            return Ok(Done::default());
        }
        cluster.durability = durability.clone();
        self.audit(context, EventKind::Durability, Some(id), None, None, durability.to_string());
        Ok(Done::default())
    }

    pub(super) fn confirm_member(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        server: &ServerId,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_mut(id)?;
        let Some(member) = cluster.members.get_mut(server) else {
            return Err(unknown("server", &server.0));
        };
        member.state = MemberState::Normal;
        let address = member.address.to_string();
        cluster.generation += 1;
        self.orders.retain(|_, order| order.target.server != *server);
        let text = format!("{address} was confirmed as a member");
        self.audit(context, EventKind::Discovered, Some(id), Some(address), None, text);
        Ok(Done::default())
    }

    pub(super) fn cluster_checked(&self, id: &ClusterId, generation: u64) -> Result<&Cluster, Refusal> {
        let cluster = self.clusters.get(id).ok_or_else(|| unknown("cluster", &id.0))?;
        if cluster.generation != generation {
            return Err(Refusal::Outdated {
                what: "structure generation".into(),
                then: generation,
                now: cluster.generation,
            });
        }
        Ok(cluster)
    }

    pub(super) fn cluster_mut(&mut self, id: &ClusterId) -> Result<&mut Cluster, Refusal> {
        self.clusters.get_mut(id).ok_or_else(|| unknown("cluster", &id.0))
    }

    fn check_alias(&self, alias: &Option<String>, own: Option<&ClusterId>) -> Result<(), Refusal> {
        let Some(alias) = alias else { return Ok(()) };
        let fits = !alias.is_empty()
            && alias.len() <= 64
            && alias.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !fits {
            return Err(Refusal::Invalid(format!(
                "`{alias}` is no alias: use 1 to 64 letters, digits, `-`, `_` or `.`"
            )));
        }
        let taken = self
            .clusters
            .values()
            .find(|c| Some(&c.id) != own && (c.alias.as_deref() == Some(alias.as_str()) || &c.id.0 == alias));
        match taken {
            Some(other) => Err(exists("alias", alias, Some(other.id.clone()))),
            None => Ok(()),
        }
    }
}

/// Whether a member's state outlasts what a discovery says: it may set a member aside, and only a person, a rejoin or a
/// promotion takes it back.
fn sets_aside(known: &MemberState, seen: &MemberState) -> bool {
    match known {
        MemberState::Normal => false,
        MemberState::Changed { .. } => *seen == MemberState::Normal,
        MemberState::Quarantined { .. } | MemberState::Replaced => true,
    }
}

fn check_id(server: &ServerId) -> Result<(), Refusal> {
    match server.0.is_empty() || server.0.len() > 64 {
        true => Err(Refusal::Invalid(format!("`{server}` is no server id"))),
        false => Ok(()),
    }
}

fn exists(what: &str, name: &str, cluster: Option<ClusterId>) -> Refusal {
    Refusal::Exists { what: what.into(), name: name.into(), cluster }
}

pub(super) fn unknown(what: &str, name: &str) -> Refusal {
    Refusal::Unknown { what: what.into(), name: name.into(), near: Vec::new() }
}
