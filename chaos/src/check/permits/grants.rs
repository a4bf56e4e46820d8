//! What the group's record allows: who may send what to which server, and when.

use super::{Event, Evidence, ROUNDED_MS, Statement};
use serde_json::Value;
use std::collections::BTreeMap;

/// A permission, from the record.
#[derive(Clone, Debug)]
pub struct Grant {
    /// For messages.
    pub name: String,
    /// Only this server; any when `None`.
    server: Option<usize>,
    /// Who; any node when `None`.
    node: Option<u64>,
    /// Only such statements; all when `None`.
    only: Option<fn(&str) -> bool>,
    /// From a step that may have landed after its end.
    pub late: bool,
    from_ms: f64,
    to_ms: f64,
    /// By server: over from this moment on, whatever `to_ms` is.
    over: BTreeMap<usize, f64>,
    /// Which statements are one node's, where the record does not say whose.
    pub sole: Option<fn(&str) -> bool>,
}

impl Grant {
    /// Whether the statement's server and time are this grant's.
    pub fn covers(&self, statement: &Statement) -> bool {
        let over = self.over.get(&statement.server).copied().unwrap_or(f64::INFINITY);
        self.server.is_none_or(|server| server == statement.server)
            && statement.to_ms >= self.from_ms
            && statement.from_ms <= self.to_ms.min(over) + ROUNDED_MS
    }

    /// Whether it may be sent.
    pub fn allows(&self, statement: &Statement) -> bool {
        self.covers(statement)
            && self.node.is_none_or(|node| Some(node) == statement.node)
            && self.only.is_none_or(|fits| fits(&statement.sql))
    }

    fn any(name: String, from_ms: f64, to_ms: f64) -> Grant {
        Grant {
            name,
            server: None,
            node: None,
            only: None,
            late: false,
            from_ms,
            to_ms,
            over: BTreeMap::new(),
            sole: None,
        }
    }
}

/// Whether every changing part of it makes a server refuse writes, or cuts somebody's session.
pub fn is_fence(sql: &str) -> bool {
    const FENCING: [&str; 3] =
        ["SET GLOBAL SUPER_READ_ONLY=ON", "SET GLOBAL READ_ONLY=ON", "SET GLOBAL OFFLINE_MODE=ON"];
    let is_part = |part: &str| {
        let part = part.trim().to_uppercase();
        let semi_sync_off = part.starts_with("SET GLOBAL RPL_SEMI_SYNC_") && part.ends_with("_ENABLED=OFF");
        FENCING.contains(&part.as_str()) || part.starts_with("KILL ") || semi_sync_off
    };
    sql.split(';').filter(|part| crate::gather::general_log::is_changing(part)).all(is_part)
}

/// Everything the record allows.
pub fn grants(
    evidence: &Evidence,
    recoveries: &[Value],
    events: &[Event],
    statements: &[Statement],
) -> Vec<Grant> {
    let mut grants = Vec::new();
    for recovery in recoveries {
        grants.extend(of_recovery(evidence, recovery, events, statements));
    }
    grants.extend(orders(evidence, recoveries, events));
    grants.extend(witnesses(evidence, events));
    grants
}

fn of_recovery(
    evidence: &Evidence,
    recovery: &Value,
    events: &[Event],
    statements: &[Statement],
) -> Vec<Grant> {
    let Some(id) = recovery["id"].as_u64() else { return Vec::new() };
    let of_it = |kind: &str| {
        let mine = move |e: &&Event| e.recovery == Some(id);
        let kind = kind.to_owned();
        events.iter().filter(mine).filter(move |e| e.kind == kind)
    };
    let Some(started) = of_it("recovery_started").next().map(|e| e.time_ms) else { return Vec::new() };
    let ended = of_it("recovery_ended").next().map_or(f64::INFINITY, |e| e.time_ms);
    let old = recovery["old_primary"].as_str().and_then(|address| evidence.number(address));
    let fence =
        Grant { server: old, only: Some(is_fence), ..Grant::any(format!("recovery {id}"), started, ended) };
    // One that failed before its publication leaves the old primary fenced, or about to be.
    let fence = match recovery["state"] == "failed" {
        true => Grant { to_ms: f64::INFINITY, ..fence },
        false => fence,
    };
    let takeovers: Vec<(f64, Option<u64>)> =
        of_it("taken_over").map(|e| (e.time_ms, successor(&e.text))).collect();
    let mut grants = vec![fence];
    grants.extend(unknown_steps(evidence, recovery, id, started));
    for owner in 0..=takeovers.len() {
        let from = if owner == 0 { started } else { takeovers[owner - 1].0 };
        let node = match owner {
            0 if takeovers.is_empty() => recovery["owner_node"].as_u64(),
            0 => None,
            _ => takeovers[owner - 1].1,
        };
        let over = match takeovers.get(owner) {
            Some((at, Some(successor))) => over(evidence, node, *at, &cleared(*successor, *at, statements)),
            _ => BTreeMap::new(),
        };
        grants.push(Grant {
            node,
            over,
            sole: (owner == 0 && node.is_none()).then_some(|sql| !is_fence(sql)),
            ..Grant::any(format!("recovery {id}"), from, ended)
        });
    }
    grants
}

/// Steps of which nobody knows whether they were done: their statements may land after all.
fn unknown_steps(evidence: &Evidence, recovery: &Value, id: u64, started: f64) -> Vec<Grant> {
    let steps = recovery["steps"].as_array().into_iter().flatten();
    let unknown = steps.filter(|step| step["outcome"].as_str().is_some_and(|o| o.starts_with("unknown")));
    let grant = |step: &Value| {
        let name = step["step"].as_str().unwrap_or_default();
        Grant {
            server: step["server"].as_str().and_then(|address| evidence.number(address)),
            node: step["node"].as_u64(),
            only: Some(statements_of(name)),
            late: true,
            ..Grant::any(format!("{name} of recovery {id}, which ended unknown"), started, f64::INFINITY)
        }
    };
    unknown.map(grant).collect()
}

/// Which statements are a step's, by the step's name.
fn statements_of(step: &str) -> fn(&str) -> bool {
    match step {
        "stop_receiver" => |sql| sql.to_uppercase().starts_with("STOP "),
        "start_receiver" => |sql| sql.to_uppercase().starts_with("START "),
        "fence" | "make_read_only" | "kill_predecessors" | "kill_writers" => is_fence,
        "make_writable" | "unfence" => |sql| sql.to_uppercase().contains("READ_ONLY=OFF"),
        _ => |_| true,
    }
}

/// By server: when the predecessor `node` is over there, a successor having taken over at `at_ms`. Where it slept through
/// that, it is over everywhere.
fn over(
    evidence: &Evidence,
    node: Option<u64>,
    at_ms: f64,
    cleared: &BTreeMap<usize, f64>,
) -> BTreeMap<usize, f64> {
    let slept = evidence.thawed.iter().filter(|t| node.is_none_or(|node| node == t.node) && t.at_ms >= at_ms);
    let thawed = slept.map(|t| t.at_ms).fold(f64::INFINITY, f64::min);
    let servers = 1..=evidence.servers.len();
    let at = |server: usize| cleared.get(&server).copied().unwrap_or(f64::INFINITY).min(thawed);
    servers.map(|server| (server, at(server))).collect()
}

/// `node 2 takes recovery 10 over in phase Decided`.
fn successor(text: &str) -> Option<u64> {
    text.strip_prefix("node ")?.split(' ').next()?.parse().ok()
}

/// By server: when a successor that took over at `at_ms` sent its first statement there.
fn cleared(successor: u64, at_ms: f64, statements: &[Statement]) -> BTreeMap<usize, f64> {
    let mut cleared: BTreeMap<usize, f64> = BTreeMap::new();
    for statement in statements.iter().filter(|s| s.node == Some(successor) && s.from_ms >= at_ms) {
        let first = cleared.entry(statement.server).or_insert(f64::INFINITY);
        *first = first.min(statement.to_ms);
    }
    cleared
}

/// Standing orders: issued by the publication against the old primary, and by a failure against a candidate that may have
/// been told to take writes.
fn orders(evidence: &Evidence, recoveries: &[Value], events: &[Event]) -> Vec<Grant> {
    let mut orders = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let record = recoveries.iter().find(|r| r["id"].as_u64() == event.recovery);
        let Some(record) = record.filter(|r| r["kind"] != "switchover") else { continue };
        let against = match event.kind.as_str() {
            "published" => record["old_primary"].as_str(),
            "recovery_ended" if record["state"] == "failed" => record["new_primary"].as_str(),
            _ => None,
        };
        let Some((address, number)) = against.and_then(|a| Some((a, evidence.number(a)?))) else { continue };
        let of_server = |e: &&Event| e.server.as_deref() == Some(address);
        let over = events[at + 1..].iter().filter(of_server);
        let over =
            over.filter(|e| matches!(e.kind.as_str(), "rejoined" | "decided")).map(|e| e.time_ms).next();
        let name = format!("the standing order against server {number}");
        let to_ms = over.unwrap_or(f64::INFINITY);
        orders.push(Grant { server: Some(number), ..Grant::any(name, event.time_ms, to_ms) });
    }
    orders
}

/// A call and its settlement are both told by the kind `witness`; whose call it is, nobody tells.
fn witnesses(evidence: &Evidence, events: &[Event]) -> Vec<Grant> {
    let mut told = events.iter().filter(|e| e.kind == "witness");
    let mut grants = Vec::new();
    while let Some(call) = told.next() {
        let settled = told.next().map_or(f64::INFINITY, |e| e.time_ms);
        let server = call.server.as_deref().and_then(|address| evidence.number(address));
        let name = format!("the witness called at log index {}", call.index);
        grants.push(Grant {
            server,
            // A successor only sees to it that the receiver runs.
            sole: Some(|sql| sql.to_uppercase().contains("STOP ")),
            ..Grant::any(name, call.time_ms, settled)
        });
    }
    grants
}
