//! Answers as JSON. Keys are stable: they are added, never renamed (docs/operating/cli.md lists them). What is not
//! known or not there is null, never false, zero or an empty text.

use serde_json::{Map, Value, json};

use crate::proto::v1 as pb;

/// Null for an empty text.
pub fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

fn number(number: u64) -> Value {
    if number == 0 { Value::Null } else { Value::from(number) }
}

fn all<T>(items: &[T], each: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(each).collect())
}

/// A name of an enum without its prefix, lower case.
pub fn enum_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// `failover`, `forced` or `switchover`.
pub fn kind_name(kind: pb::Kind) -> String {
    enum_name(kind.as_str_name(), "KIND_")
}

/// `running`, `succeeded`, `failed` or `cancelled`.
pub fn state_name(state: pb::RecoveryState) -> String {
    enum_name(state.as_str_name(), "RECOVERY_STATE_")
}

/// Clusters.
pub fn clusters(list: &[pb::ClusterSummary]) -> Value {
    all(list, |c| {
        json!({
            "cluster": c.cluster, "alias": text(&c.alias), "flavor": c.flavor,
            "primary": text(&c.primary), "primary_epoch": c.primary_epoch, "members": c.members,
            "problems": c.problems, "blocked": c.blocked, "recovery": c.recovery,
            "recoveries_enabled": c.recoveries_enabled, "durability": c.durability,
        })
    })
}

/// A cluster: its members as a tree.
pub fn cluster(c: &pb::Cluster) -> Value {
    let durability = c.durability.clone().unwrap_or_default();
    json!({
        "cluster": c.cluster, "alias": text(&c.alias), "flavor": c.flavor,
        "primary": text(&c.primary), "primary_server": text(&c.primary_server), "primary_epoch": c.primary_epoch,
        "generation": c.generation,
        "durability": {"mode": durability.mode, "acks": durability.acks, "ackers": durability.ackers, "why": text(&durability.why)},
        "tree": tree(&c.members),
        "problems": all(&c.problems, problem),
        "blocks": all(&c.blocks, block),
        "recovery": c.recovery,
        "recoveries": c.recoveries.as_ref().map(switch),
        "maintenance": c.maintenance.as_ref().map(pause),
        "paused": all(&c.paused, refusal),
        "log_index": c.log_index,
    })
}

/// Members, listed depth first, as nested objects.
fn tree(members: &[pb::Member]) -> Value {
    let mut rest = members;
    Value::Array(branches(&mut rest, 0, 0))
}

/// Deepest nesting; what lies deeper stands beside it.
const LEVELS_MAX: u32 = 60;

fn branches(rest: &mut &[pb::Member], depth: u32, level: u32) -> Vec<Value> {
    let mut list = Vec::new();
    while let Some((first, after)) = rest.split_first().filter(|(first, _)| first.depth >= depth) {
        *rest = after;
        let mut one = member(first);
        let below = match level < LEVELS_MAX {
            true => branches(rest, first.depth.saturating_add(1), level + 1),
            false => Vec::new(),
        };
        one.insert("replicas".into(), Value::Array(below));
        list.push(Value::Object(one));
    }
    list
}

/// One member, without those below it.
pub fn member(m: &pb::Member) -> Map<String, Value> {
    let value = json!({
        "server": m.server, "address": m.address, "version": text(&m.version), "server_id": m.server_id,
        "role": enum_name(m.role().as_str_name(), "ROLE_"), "status": m.status,
        "source": text(&m.source), "source_server": text(&m.source_server),
        "state": enum_name(m.state().as_str_name(), "MEMBER_STATE_"), "state_text": text(&m.state_text),
        "datacenter": text(&m.datacenter), "promotion_rule": m.promotion_rule,
        "downtime": m.downtime.as_ref().map(pause), "channels": m.channels,
        "standing_order": text(&m.standing_order),
        "fence_unknown": m.fence_unknown,
        "last_attempt": text(&m.last_attempt), "last_attempt_age_ms": m.last_attempt_age_ms,
        "live": m.live.as_ref().map(live),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn live(l: &pb::Live) -> Value {
    json!({
        "age_ms": l.age_ms, "fresh": l.fresh, "read_only": l.read_only, "super_read_only": l.super_read_only,
        "offline_mode": l.offline_mode, "writable": l.writable, "lag_s": l.lag_s,
        "receiver": text(&l.receiver), "receiver_error": text(&l.receiver_error),
        "applier_running": l.applier_running, "applier_error": text(&l.applier_error),
        "gtid_executed": l.gtid_executed, "gtid_ahead": text(&l.gtid_ahead), "gtid_on": l.gtid_on, "by_gtid": l.by_gtid,
        "log_bin": l.log_bin, "log_replica_updates": l.log_replica_updates, "binlog_format": text(&l.binlog_format),
        "semi_sync_source": l.semi_sync_source, "semi_sync_replica": l.semi_sync_replica,
        "connections": l.connections, "max_connections": l.max_connections,
        "sync_binlog": l.sync_binlog, "flush_log_at_trx_commit": l.flush_log_at_trx_commit,
        "filtered": l.filtered, "dump_clients": l.dump_clients,
    })
}

/// A discovery.
pub fn discovered(d: &pb::DiscoverResponse) -> Value {
    let members = all(
        &d.members,
        |m| json!({"server": m.server, "address": m.address, "source": text(&m.source), "version": text(&m.version)}),
    );
    json!({
        "cluster": d.cluster, "alias": text(&d.alias), "adopted": d.adopted,
        "members": members, "warnings": d.warnings, "log_index": number(d.log_index),
    })
}

/// A problem.
pub fn problem(p: &pb::Problem) -> Value {
    json!({
        "cluster": p.cluster, "alias": text(&p.alias), "code": p.code, "class": p.class, "severity": p.severity,
        "server": text(&p.server), "text": p.text, "nodes": p.nodes, "repair": p.repair,
    })
}

/// A list of problems.
pub fn problems(list: &[pb::Problem]) -> Value {
    all(list, problem)
}

fn block(b: &pb::Block) -> Value {
    json!({
        "recovery": b.recovery, "cluster": b.cluster, "alias": text(&b.alias), "class": b.class, "left_ms": b.left_ms, "lifted": b.lifted,
        "lifted_by": text(&b.lifted_by), "lifted_why": text(&b.lifted_why),
    })
}

fn switch(s: &pb::Switch) -> Value {
    json!({"enabled": s.enabled, "by": s.by, "why": text(&s.why)})
}

fn pause(p: &pb::Pause) -> Value {
    json!({"by": p.by, "why": p.why, "left_ms": p.left_ms})
}

fn refusal(r: &pb::Refusal) -> Value {
    json!({"reason": r.reason, "text": r.text, "metadata": r.metadata})
}

/// A recovery or role change.
pub fn recovery(r: &pb::RecoveryRecord) -> Value {
    json!({
        "id": r.id, "cluster": r.cluster, "alias": text(&r.alias), "kind": kind_name(r.kind()),
        "class": r.class, "code": text(&r.code), "state": state_name(r.state()),
        "phase": enum_name(r.phase().as_str_name(), "PHASE_"), "primary_epoch": r.epoch,
        "old_primary": r.old_primary, "new_primary": text(&r.new_primary),
        "started_ms": r.started_unix_ms, "ended_ms": number(r.ended_unix_ms), "took_ms": r.took_ms,
        "reason": text(&r.reason), "requested_by": text(&r.requested_by),
        "waived": r.waived().map(|w| enum_name(w.as_str_name(), "WAIVER_")).collect::<Vec<_>>(),
        "evidence": all(&r.evidence, witness), "considered": all(&r.considered, considered),
        "lost": text(&r.lost),
        "steps": all(&r.steps, |s| json!({
            "step": s.step, "server": s.server, "node": s.node, "outcome": s.outcome, "at_ms": s.at_ms, "ms": s.took_ms,
        })),
        "left_behind": all(&r.left_behind, |l| json!({"server": l.server, "address": l.address, "why": l.why})),
        "acknowledged": r.acknowledged.as_ref().map(|a| json!({"by": a.by, "comment": a.comment, "log_ms": a.log_ms})),
        "owner_node": r.owner_node, "semi_sync_acks": number(r.semi_sync_acks.into()),
        "given_up": text(&r.given_up), "fence_unknown": r.fence_unknown, "supersedes": number(r.supersedes),
        "unprotected": text(&r.unprotected),
    })
}

/// A list of them.
pub fn recoveries(list: &[pb::RecoveryRecord]) -> Value {
    all(list, recovery)
}

fn considered(c: &pb::Considered) -> Value {
    json!({"server": c.server, "address": c.address, "chosen": c.chosen, "why": c.why})
}

fn witness(w: &pb::Witness) -> Value {
    json!({
        "node": w.node, "voter": w.voter, "finding": text(&w.finding), "class": w.class, "hard": w.hard,
        "text": text(&w.text), "primary": text(&w.primary), "age_ms": w.age_ms, "primary_epoch": w.epoch,
        "not_counted": text(&w.not_counted),
        "replicas": all(&w.replicas, |s| json!({"server": s.server, "address": s.address, "sign": s.sign})),
    })
}

/// A plan.
pub fn plan(p: &pb::Plan) -> Value {
    json!({
        "cluster": p.cluster, "alias": text(&p.alias), "kind": kind_name(p.kind()),
        "old_primary": text(&p.old_primary), "new_primary": text(&p.new_primary),
        "considered": all(&p.considered, considered), "lost": text(&p.lost),
        "steps": all(&p.steps, |s| json!({
            "stage": s.stage, "stage_name": s.stage_name, "step": s.step, "server": s.server, "text": s.text,
        })),
        "blocked_by": all(&p.blocked_by, refusal), "warnings": p.warnings,
        "generation": p.generation, "primary_epoch": p.primary_epoch, "log_index": p.log_index,
    })
}

/// An explanation.
pub fn explain(e: &pb::ExplainResponse) -> Value {
    let a = e.agreement.clone().unwrap_or_default();
    json!({
        "cluster": e.cluster, "alias": text(&e.alias), "primary": text(&e.primary), "primary_epoch": e.primary_epoch,
        "witnesses": all(&e.witnesses, witness),
        "agreement": {
            "agreed": a.agreed, "code": text(&a.code), "class": text(&a.class), "hard": a.hard,
            "have": a.have, "need": a.need, "voters": a.voters, "text": a.text,
        },
        "blocks": all(&e.blocks, block), "against": all(&e.against, refusal), "recovery": e.recovery,
        "orders": all(&e.orders, |o| json!({
            "id": o.id, "server": o.server, "stage": o.stage, "recovery": o.recovery, "text": o.text,
        })),
        "plan": e.plan.as_ref().map(plan), "plan_refusal": e.plan_refusal.as_ref().map(refusal),
        "log_index": e.log_index,
    })
}

/// An event.
pub fn event(e: &pb::Event) -> Value {
    json!({
        "index": e.index, "part": e.part, "time_ms": e.time_unix_ms, "log_ms": e.log_ms, "kind": e.kind,
        "cluster": text(&e.cluster), "alias": text(&e.alias), "server": text(&e.server), "recovery": number(e.recovery), "by": e.by,
        "text": e.text,
    })
}

/// The group.
pub fn group(g: &pb::GroupStatus) -> Value {
    json!({
        "group": g.group, "leader": number(g.leader), "term": g.term, "log_index": g.log_index,
        "feature_level": g.feature_level, "answered_by": g.answered_by, "initialised": g.initialised,
        "nodes": all(&g.nodes, |n| json!({
            "id": n.id, "address": n.address, "client_address": text(&n.client_address),
            "role": enum_name(n.role().as_str_name(), "NODE_ROLE_"), "voter": n.voter, "applied": n.applied,
            "incarnation": text(&n.incarnation), "version": text(&n.version), "datacenter": text(&n.datacenter),
            "heard_ms": n.heard_ms, "feature_level": number(n.feature_level.into()),
            "state_hash": text(&n.state_hash), "state_index": number(n.state_index),
        })),
    })
}

/// A change that has nothing else to tell.
pub fn changed(c: &pb::Changed) -> Value {
    json!({"log_index": number(c.log_index), "effects": c.effects})
}

/// The policy.
pub fn policy(p: &pb::PolicyDocument) -> Value {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    let settings: Map<String, Value> = p.settings.iter().map(|s| (s.key.clone(), value(&s.value))).collect();
    let defaults: Map<String, Value> =
        p.settings.iter().map(|s| (s.key.clone(), value(&s.default_value))).collect();
    json!({"version": p.version, "settings": settings, "defaults": defaults})
}

/// What people have set.
pub fn settings(s: &pb::Settings) -> Value {
    json!({
        "recoveries": s.recoveries.as_ref().map(switch),
        "clusters": all(&s.clusters, |c| json!({"cluster": c.cluster, "alias": text(&c.alias), "recoveries": c.recoveries.as_ref().map(switch)})),
        "downtimes": all(&s.downtimes, |d| json!({"server": d.server, "address": d.address, "pause": d.pause.as_ref().map(pause)})),
        "maintenance": all(&s.maintenance, |m| json!({"cluster": m.cluster, "alias": text(&m.alias), "pause": m.pause.as_ref().map(pause)})),
        "rules": all(&s.rules, |r| json!({"server": r.server, "address": r.address, "rule": r.rule, "by": r.by, "left_ms": r.left_ms})),
        "blocks": all(&s.blocks, block),
    })
}
