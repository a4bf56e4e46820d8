//! Reads what a run left behind: the servers' rows, binlogs and general logs, the group's record, the nodes' peaks.
//!
//! What nobody tells stays unread (`None`), and is never taken for an empty list.

pub mod binlog;
pub mod general_log;
pub mod usage;

use crate::{
    check::evidence::{Commit, Event, Evidence, NodeState, Statement, Write},
    client::Ack,
    group::Group,
    server::Server,
    stage::Stage,
    topology::Topology,
    wait, wall,
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(30);
/// In a healed group that does nothing every node comes to the leader's log index within this.
const LEVEL_WITHIN: Duration = Duration::from_secs(20);
/// Defaults of the policy, where no node tells it.
const FRESH_FOR_MS: u64 = 2_000;
const BLOCK_FOR_MS: u64 = 1_800_000;

/// Everything, after the clients have stopped.
pub async fn evidence(stage: &Stage<'_>, acks: &[Ack]) -> Result<Evidence> {
    let topology = &stage.topology;
    let (group, policy) = (&stage.group, policy(&stage.group).await);
    let setting = |key: &str, default: u64| policy["settings"][key].as_u64().unwrap_or(default);
    // Before the record is read: what is on its way belongs to it.
    let states = states(group).await;
    Ok(Evidence {
        servers: topology.servers.iter().map(|server| server.address()).collect(),
        primary: stage.primary,
        semi_sync: stage.semi_sync,
        lossless: stage.terms.lossless || stage.primary == 1,
        may_overlap: stage.terms.may_overlap,
        cut_off: stage.cut_off.clone(),
        acks: acks.iter().map(write).collect(),
        held: held(stage).await?,
        commits: commits(topology)?,
        statements: topology.server(1).keeps_general_log().then(|| statements(topology)).transpose()?,
        recoveries: list(group, &["recoveries", "--limit", "1000"]).await,
        events: events(group).await,
        states,
        usage: stage.meter.peaks(),
        thawed: stage.thawed.clone(),
        voters: stage.voters,
        fresh_for_ms: setting("verdict_fresh_for_ms", FRESH_FOR_MS),
        block_for_ms: setting("block_for_ms", BLOCK_FOR_MS),
    })
}

fn write(ack: &Ack) -> Write {
    Write { id: ack.id, server: ack.server, sent_ms: wall::of(ack.sent), at_ms: wall::of(ack.at) }
}

/// The rows on each server that answers. The one that is primary must, if it runs at all.
async fn held(stage: &Stage<'_>) -> Result<BTreeMap<usize, BTreeSet<i64>>> {
    let mut held = BTreeMap::new();
    for server in &stage.topology.servers {
        if server.process().is_none_or(|p| p.ended() || p.state() == Some('T')) {
            continue;
        }
        match ids(server).await {
            Ok(ids) => drop(held.insert(server.number, ids)),
            Err(error) if server.number == stage.primary => return Err(error).context("reading the primary"),
            Err(_) => {}
        }
    }
    Ok(held)
}

async fn ids(server: &Server) -> Result<BTreeSet<i64>> {
    let column = server.root(PATIENT).column("SELECT id FROM app.writes").await?;
    Ok(column.iter().filter_map(|id| id.parse().ok()).collect())
}

/// What each server wrote itself, dead or alive.
pub fn commits(topology: &Topology) -> Result<Vec<Commit>> {
    let mut all = Vec::new();
    for server in &topology.servers {
        for file in server.binlogs() {
            let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
            all.extend(binlog::commits(&bytes, server.server_id(), server.number));
        }
    }
    Ok(all)
}

/// The changing statements of Quorate's account on every server.
pub fn statements(topology: &Topology) -> Result<Vec<Statement>> {
    let mut all = Vec::new();
    for server in &topology.servers {
        let path = server.general_log();
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        all.extend(general_log::changing(&String::from_utf8_lossy(&bytes), server.number));
    }
    Ok(all)
}

async fn policy(group: &Group) -> Value {
    told(group, &["policy", "get"]).await.unwrap_or_default()
}

async fn list(group: &Group, words: &[&str]) -> Option<Vec<Value>> {
    told(group, words).await?.as_array().cloned()
}

/// What the leader says, or without one any node from its own copy.
async fn told(group: &Group, words: &[&str]) -> Option<Value> {
    if let Ok(value) = group.json(words).await {
        return Some(value);
    }
    group.json(&[&["--stale"], words].concat()).await.ok()
}

/// Every event, if anybody tells.
pub async fn events(group: &Group) -> Option<Vec<Event>> {
    let values = group.events().await.ok()?;
    Some(values.iter().filter_map(Event::read).collect())
}

/// What every node that runs says of its state, at one log index if they come to one.
async fn states(group: &Group) -> Option<Vec<NodeState>> {
    let mut last = None;
    let level = wait::every(Duration::from_millis(100), "one log index", LEVEL_WITHIN, async || {
        let status = group.json(&["nodes", "status"]).await.ok()?;
        let told: Vec<NodeState> = status["nodes"].as_array()?.iter().filter_map(state).collect();
        last = Some(told.clone());
        let running = group.nodes.iter().filter(|node| node.is_member()).count();
        (told.len() >= running && told.iter().all(|node| node.index == told[0].index)).then_some(told)
    });
    match level.await {
        Ok(level) => Some(level),
        Err(_) => last,
    }
}

fn state(node: &Value) -> Option<NodeState> {
    let hash = node["state_hash"].as_str()?.to_owned();
    Some(NodeState { id: node["id"].as_u64()?, index: node["state_index"].as_u64()?, hash })
}
