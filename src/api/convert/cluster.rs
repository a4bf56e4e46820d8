//! Clusters and members.

use std::collections::{BTreeMap, BTreeSet};

use super::{Addresses, alias_of, severity_name};
use crate::{
    api::{
        backend::{LiveServer, ProblemView},
        status::as_message,
    },
    core::{
        analysis::{Class, observation::AttemptEnd},
        replicated::{
            Cluster, Durability, Member, MemberState, OrderStage, State, Switch,
            orders::quarantine_text,
            state::{Block, Pause},
        },
    },
    model::{
        facts::{Channel, Receiver, ServerFacts},
        policy::Policy,
        server::ServerId,
    },
    proto::v1 as pb,
};

/// A switch with its story.
pub fn switch(switch: &Switch) -> pb::Switch {
    pb::Switch { enabled: switch.enabled, by: switch.by.clone(), why: switch.why.clone() }
}

/// A pause with what is left of it.
pub fn pause(pause: &Pause, now_ms: u64) -> pb::Pause {
    pb::Pause { by: pause.by.clone(), why: pause.why.clone(), left_ms: pause.until_ms.saturating_sub(now_ms) }
}

/// A block with what is left of it.
pub fn block(state: &State, block: &Block) -> pb::Block {
    let now_ms = state.log_time_ms;
    let (lifted_by, lifted_why) = match &block.lifted {
        Some((by, why, _)) => (by.clone(), why.clone()),
        None => Default::default(),
    };
    pb::Block {
        recovery: block.recovery,
        cluster: block.cluster.0.clone(),
        alias: alias_of(state, &block.cluster),
        class: block.class.name().to_owned(),
        left_ms: if block.lifted.is_some() { 0 } else { block.until_ms.saturating_sub(now_ms) },
        lifted: block.lifted.is_some(),
        lifted_by,
        lifted_why,
    }
}

/// Blocks that stand on a cluster.
pub fn standing_blocks(state: &State, cluster: &Cluster) -> Vec<pb::Block> {
    let now = state.log_time_ms;
    let standing = |b: &&Block| b.cluster == cluster.id && b.lifted.is_none() && b.until_ms > now;
    state.blocks.values().filter(standing).map(|b| block(state, b)).collect()
}

/// What stands against an automatic recovery of the primary class, besides the verdicts.
pub fn against(state: &State, cluster: &Cluster) -> Vec<pb::Refusal> {
    let paused = state.automatic_pause(cluster);
    let rated = state.automatic_rate(cluster, Class::Primary);
    paused.into_iter().chain(rated).map(|refusal| as_message(&refusal)).collect()
}

fn durability_mode(durability: &Durability) -> &'static str {
    match durability {
        Durability::Async => "async",
        Durability::SemiSync { .. } => "semi_sync",
        Durability::Unprotected { .. } => "unprotected",
    }
}

fn durability(durability: &Durability, addresses: &Addresses) -> pb::Durability {
    let mode = durability_mode(durability).to_owned();
    match durability {
        Durability::Async => pb::Durability { mode, ..Default::default() },
        Durability::SemiSync { acks, ackers } => pb::Durability {
            mode,
            acks: *acks,
            ackers: ackers.iter().map(|server| addresses.name(server)).collect(),
            why: String::new(),
        },
        Durability::Unprotected { why } => pb::Durability { mode, why: why.clone(), ..Default::default() },
    }
}

/// A problem, for people.
pub fn problem(cluster: &Cluster, problem: &ProblemView) -> pb::Problem {
    let addresses = Addresses::of(Some(cluster));
    pb::Problem {
        cluster: cluster.id.0.clone(),
        alias: cluster.alias.clone().unwrap_or_default(),
        code: problem.code.to_string(),
        class: problem.class.name().to_owned(),
        severity: severity_name(problem.severity).to_owned(),
        server: problem.server.as_ref().map(|s| addresses.name(s)).unwrap_or_default(),
        text: problem.text.clone(),
        nodes: problem.nodes.clone(),
        repair: if problem.repaired { "replace_primary" } else { "nothing" }.to_owned(),
    }
}

/// One line of a list.
pub fn summary(state: &State, cluster: &Cluster, problems: &[ProblemView]) -> pb::ClusterSummary {
    pb::ClusterSummary {
        cluster: cluster.id.0.clone(),
        alias: cluster.alias.clone().unwrap_or_default(),
        flavor: cluster.flavor.to_string(),
        primary: cluster.primary_member().map(|m| m.address.to_string()).unwrap_or_default(),
        primary_epoch: cluster.epoch,
        members: cluster.members.len() as u32,
        problems: problems.iter().map(|p| p.code.to_string()).collect(),
        blocked: state.blocked(&cluster.id),
        recovery: cluster.slot,
        recoveries_enabled: state.recoveries_switch.enabled && cluster.recoveries.enabled,
        durability: durability_mode(&cluster.durability).to_owned(),
    }
}

/// Everything about one cluster.
pub fn whole(
    state: &State,
    cluster: &Cluster,
    live: &BTreeMap<ServerId, LiveServer>,
    problems: &[ProblemView],
    log_index: u64,
) -> pb::Cluster {
    let addresses = Addresses::of(Some(cluster));
    let now = state.log_time_ms;
    let view = MemberView { state: Some(state), cluster, addresses: &addresses, live };
    pb::Cluster {
        cluster: cluster.id.0.clone(),
        alias: cluster.alias.clone().unwrap_or_default(),
        flavor: cluster.flavor.to_string(),
        primary: cluster.primary_member().map(|m| m.address.to_string()).unwrap_or_default(),
        primary_server: cluster.primary.as_ref().map(|p| p.0.clone()).unwrap_or_default(),
        primary_epoch: cluster.epoch,
        generation: cluster.generation,
        durability: Some(durability(&cluster.durability, &addresses)),
        members: view.all(),
        problems: problems.iter().map(|p| problem(cluster, p)).collect(),
        blocks: standing_blocks(state, cluster),
        recovery: cluster.slot,
        recoveries: Some(switch(&cluster.recoveries)),
        maintenance: state.maintenance.get(&cluster.id).map(|p| pause(p, now)),
        paused: against(state, cluster),
        log_index,
    }
}

/// Members of a cluster that may not be adopted yet, in tree order and without live facts.
pub fn members_found(cluster: &Cluster) -> Vec<pb::Member> {
    let addresses = Addresses::of(Some(cluster));
    MemberView { state: None, cluster, addresses: &addresses, live: &BTreeMap::new() }.all()
}

/// Members with their depth: the primary first, each followed by those that replicate from it. Members in a ring, which
/// hang from no root, come last.
fn in_tree_order(cluster: &Cluster) -> Vec<(&Member, u32)> {
    let mut roots: Vec<&Member> = cluster
        .members
        .values()
        .filter(|m| m.source.as_ref().is_none_or(|source| !cluster.members.contains_key(source)))
        .collect();
    roots.sort_by_key(|m| (cluster.primary.as_ref() != Some(&m.server), m.address.to_string()));
    let mut seen = BTreeSet::new();
    let mut ordered = Vec::new();
    let mut stack: Vec<(&Member, u32)> = roots.into_iter().rev().map(|m| (m, 0)).collect();
    loop {
        while let Some((member, depth)) = stack.pop() {
            if !seen.insert(&member.server) {
                continue;
            }
            ordered.push((member, depth));
            let mut below: Vec<&Member> = cluster.replicas_of(&member.server).collect();
            below.sort_by_key(|m| std::cmp::Reverse(m.address.to_string()));
            stack.extend(below.into_iter().map(|m| (m, depth + 1)));
        }
        let Some(left) = cluster.members.values().find(|m| !seen.contains(&m.server)) else { break };
        stack.push((left, 0));
    }
    ordered
}

struct MemberView<'a> {
    state: Option<&'a State>,
    cluster: &'a Cluster,
    addresses: &'a Addresses,
    live: &'a BTreeMap<ServerId, LiveServer>,
}

impl MemberView<'_> {
    fn all(&self) -> Vec<pb::Member> {
        in_tree_order(self.cluster).into_iter().map(|(member, depth)| self.one(member, depth)).collect()
    }

    fn one(&self, member: &Member, depth: u32) -> pb::Member {
        let (state, state_text) = member_state(&member.state);
        let observed = self.live.get(&member.server);
        let attempt = observed.and_then(|o| o.last_attempt.as_ref());
        let downtime =
            self.state.and_then(|s| s.downtimes.get(&member.server).map(|p| pause(p, s.log_time_ms)));
        let order = self.state.and_then(|s| s.order_of(&member.server));
        let answers = attempt.is_none_or(|(end, _)| *end == AttemptEnd::Answered);
        let read = observed.and_then(|o| o.facts.as_ref());
        let live = read.map(|(facts, age)| self.facts(member, facts, *age, answers));
        pb::Member {
            status: self.status(live.as_ref()).to_owned(),
            server: member.server.0.clone(),
            address: member.address.to_string(),
            version: member.version.clone(),
            role: self.role(member).into(),
            source_server: member.source.as_ref().map(|s| s.0.clone()).unwrap_or_default(),
            source: member.source.as_ref().map(|s| self.addresses.name(s)).unwrap_or_default(),
            depth,
            state: state.into(),
            state_text,
            datacenter: self.datacenter(member),
            promotion_rule: self
                .state
                .map(|s| s.rule_of(&member.server))
                .unwrap_or_default()
                .name()
                .to_owned(),
            downtime,
            channels: member.channels,
            server_id: member.identity.server_id,
            live,
            last_attempt: attempt.map(|(end, _)| attempt_text(end)).unwrap_or_default(),
            last_attempt_age_ms: attempt.map(|(_, age)| *age),
            fence_unknown: self.fence_unknown(member),
            standing_order: order.map(|o| stage_name(&o.stage).to_owned()).unwrap_or_default(),
        }
    }

    fn fence_unknown(&self, member: &Member) -> bool {
        let running = self.cluster.slot.and_then(|id| self.state?.recoveries.get(&id));
        running.is_some_and(|r| r.fence_unknown() && r.old_primary.server == member.server)
    }

    fn role(&self, member: &Member) -> pb::Role {
        let has_replicas = || self.cluster.replicas_of(&member.server).next().is_some();
        match &member.source {
            _ if self.cluster.primary.as_ref() == Some(&member.server) => pb::Role::Primary,
            None => pb::Role::Detached,
            Some(_) if has_replicas() => pb::Role::Intermediate,
            Some(_) => pb::Role::Replica,
        }
    }

    fn status(&self, live: Option<&pb::Live>) -> &'static str {
        let lag_max = self.state.map_or(u64::MAX, |s| s.policy.lag_s);
        match live {
            None => "unchecked",
            Some(live) if !live.fresh => "invalid",
            Some(live) if live.receiver.is_empty() => "ok",
            Some(live) if live.receiver != "running" || live.applier_running != Some(true) => {
                "nonreplicating"
            }
            Some(live) if live.lag_s.is_some_and(|lag| lag > lag_max) => "lag",
            Some(_) => "ok",
        }
    }

    fn datacenter(&self, member: &Member) -> String {
        let by_policy = || self.state.and_then(|s| s.datacenter_of(&member.address));
        member.datacenter.clone().or_else(by_policy).unwrap_or_default()
    }

    fn facts(&self, member: &Member, facts: &ServerFacts, age_ms: u64, answers: bool) -> pb::Live {
        let primary = self.cluster.primary.as_ref();
        let is_primary = primary == Some(&member.server);
        let default_policy = Policy::default();
        let policy = self.state.map_or(&default_policy, |s| &s.policy);
        let interval =
            if is_primary { policy.primary_probe_interval_ms } else { policy.replica_probe_interval_ms };
        let fresh = answers && age_ms <= interval.saturating_mul(3);
        let of_primary = primary.and_then(|p| self.live.get(p)).and_then(|o| o.facts.as_ref());
        let ahead = match of_primary {
            Some((of_primary, its_age_ms)) if !is_primary && fresh && *its_age_ms <= age_ms => {
                ahead_of(facts, of_primary)
            }
            _ => String::new(),
        };
        live(facts, self.cluster.channel_of(member, facts), age_ms, fresh, ahead)
    }
}

/// What a replica has executed and the primary, read no earlier, has not: just after a change of roles the new primary's
/// last reading may lack what the old one wrote. What the primary itself wrote does not count in any case.
fn ahead_of(replica: &ServerFacts, primary: &ServerFacts) -> String {
    let ahead = replica.executed.subtract(&primary.in_hand());
    let ahead = ahead.subtract(&ahead.written_by(&primary.identity));
    if ahead.is_empty() { String::new() } else { ahead.to_string() }
}

fn live(
    facts: &ServerFacts,
    channel: Option<&Channel>,
    age_ms: u64,
    fresh: bool,
    gtid_ahead: String,
) -> pb::Live {
    let error = |e: Option<&(u32, String)>| e.map(|(n, text)| format!("{n}: {text}")).unwrap_or_default();
    pb::Live {
        age_ms,
        fresh,
        read_only: facts.read_only,
        super_read_only: facts.super_read_only,
        offline_mode: facts.offline_mode,
        writable: facts.writable(),
        lag_s: channel.and_then(|c| c.lag_s),
        receiver: channel.map(|c| receiver_name(c.receiver).to_owned()).unwrap_or_default(),
        receiver_error: error(channel.and_then(|c| c.receiver_error.as_ref())),
        applier_running: channel.map(|c| c.applier_running),
        applier_error: error(channel.and_then(|c| c.applier_error.as_ref())),
        gtid_executed: facts.executed.to_string(),
        gtid_ahead,
        gtid_on: facts.gtid_on,
        by_gtid: channel.is_some_and(|c| c.by_gtid),
        log_bin: facts.log_bin,
        log_replica_updates: facts.log_replica_updates,
        binlog_format: facts.binlog_format.clone().unwrap_or_default(),
        semi_sync_source: facts.semi_sync.source_status.or(facts.semi_sync.source_enabled),
        semi_sync_replica: facts.semi_sync.replica_status.or(facts.semi_sync.replica_enabled),
        connections: facts.connections.map(|(now, _)| now),
        max_connections: facts.connections.map(|(_, max)| max),
        sync_binlog: facts.durability.map(|(sync, _)| sync),
        flush_log_at_trx_commit: facts.durability.map(|(_, flush)| flush),
        filtered: facts.channels.iter().any(|c| c.filtered),
        dump_clients: facts
            .dump_clients
            .iter()
            .flatten()
            .map(|client| format!("{}@{}", client.user, client.host))
            .collect(),
    }
}

fn receiver_name(receiver: Receiver) -> &'static str {
    match receiver {
        Receiver::Running => "running",
        Receiver::Connecting => "connecting",
        Receiver::Stopped => "stopped",
    }
}

fn member_state(state: &MemberState) -> (pb::MemberState, String) {
    match state {
        MemberState::Normal => (pb::MemberState::Normal, String::new()),
        MemberState::Changed { what } => (pb::MemberState::Changed, what.clone()),
        MemberState::Quarantined { errant, why } => {
            (pb::MemberState::Quarantined, quarantine_text(errant, why))
        }
        MemberState::Replaced => (pb::MemberState::Replaced, "replaced as primary, not seen since".into()),
    }
}

/// Stable name of a standing order's stage.
pub fn stage_name(stage: &OrderStage) -> &'static str {
    match stage {
        OrderStage::Waiting => "waiting",
        OrderStage::Fenced => "fenced",
        OrderStage::Rejoining => "rejoining",
        OrderStage::Quarantined { .. } => "quarantined",
        OrderStage::Rejoined => "rejoined",
    }
}

/// How an attempt ended, in words.
fn attempt_text(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Answered => "answered".into(),
        AttemptEnd::Refused => "connection refused".into(),
        AttemptEnd::ShuttingDown => "shutting down".into(),
        AttemptEnd::TooManyConnections => "too many connections".into(),
        AttemptEnd::Silent { greeted: true } => "greeted, then silent".into(),
        AttemptEnd::Silent { greeted: false } => "silent".into(),
        AttemptEnd::Closed => "connection closed".into(),
        AttemptEnd::LoginFailed { why } => format!("login failed: {why}"),
        AttemptEnd::WrongIdentity { seen } => format!("another server answers: {seen}"),
        AttemptEnd::Failed { why } => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::samples, model::server::Flavor};

    #[test]
    fn a_server_that_was_read_a_moment_ago_and_refuses_now_is_not_well() {
        let cluster = samples::cluster(Flavor::MySql, 2);
        let status = |end: AttemptEnd| {
            let facts = Some((samples::facts(Flavor::MySql, 1), 120));
            let live =
                BTreeMap::from([(samples::id(1), LiveServer { facts, last_attempt: Some((end, 20)) })]);
            let shown = whole(&State::default(), &cluster, &live, &[], 1);
            shown.members[0].status.clone()
        };
        assert_eq!(status(AttemptEnd::Answered), "ok");
        assert_eq!(status(AttemptEnd::Refused), "invalid");
    }
}
