//! Clocks that step, and machines that were suspended: a group goes by elapsed time (P10), and by nothing that was said before.

use super::of_operators;
use crate::{
    check::evidence::Thawed, node::Node, record::Outcome, rig_error::rig_failure, stage::Stage, wait, wall,
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far wall clocks are off, seconds.
const HOUR: i64 = 3_600;
/// How long machines are suspended: the others have replaced the primary by then, and what was said before is stale.
const SUSPENDED: Duration = Duration::from_secs(6);

/// C1, C3: a follower's wall clock is off when the primary dies; then the leader's steps, and the next primary dies within the
/// block, which holds.
pub async fn wall_clocks_step(stage: &mut Stage<'_>) -> Result<()> {
    let by = if stage.record.variant == "back" { -HOUR } else { HOUR };
    let leads = stage.group.leader().await?;
    let follower = stage.group.nodes.iter().find(|node| node.id != leads).context("no follower")?;
    follower.dials()?.set_wall(by)?;
    super::of_primaries::kill(stage).await?;
    if stage.record.outcome != Outcome::Recovered {
        return Ok(());
    }
    let leader = stage.group.node(stage.group.leader().await?);
    leader.dials()?.set_wall(by)?;
    if !of_operators::next_is_refused(stage).await? {
        return Ok(());
    }
    was_off(stage, by).await?;
    for node in &stage.group.nodes {
        node.dials()?.set_wall(0)?;
    }
    of_operators::acknowledged(stage).await
}

/// Looks whether it was: the refusal bears the leader's wall time.
async fn was_off(stage: &Stage<'_>, by: i64) -> Result<()> {
    let now_ms = wall::now();
    let events = stage.group.events().await?;
    let times =
        events.iter().filter(|e| e["kind"] == "recovery_refused").filter_map(|e| e["time_ms"].as_f64());
    let off = |at: f64| (at - now_ms - by as f64 * 1_000.0).abs() < 600_000.0;
    match times.into_iter().any(off) {
        true => Ok(()),
        false => Err(rig_failure("the leader's wall clock was not off when it refused")),
    }
}

/// C4: machines of nodes are suspended, the primary dies, they wake. It is replaced once.
pub async fn suspended_nodes(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let chosen = |node: &&Arc<Node>| match stage.record.variant.as_str() {
        "the leader" => node.id == leader,
        "a follower" => node.id == leader % stage.group.nodes.len() as u64 + 1,
        _ => true,
    };
    let nodes: Vec<Arc<Node>> = stage.group.nodes.iter().filter(chosen).cloned().collect();
    let mut suspended = Vec::new();
    for node in nodes {
        let since = Instant::now();
        node.signal(Signal::STOP)?;
        node.process().context("no process")?.wait_stopped().await?;
        suspended.push((node, since));
    }
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    // The length of the fault.
    tokio::time::sleep(SUSPENDED).await;
    for (node, since) in &suspended {
        node.dials()?.hold_back(since.elapsed())?;
        node.signal(Signal::CONT)?;
        stage.say(format!("node {} wakes", node.id));
        stage.thawed.push(Thawed { node: node.id, at_ms: wall::now() });
    }
    stage.await_recovery(&[1], since).await?;
    for (node, _) in &suspended {
        noticed(node).await?;
    }
    stage.group.wait_ready().await
}

/// Looks whether it was suspended: it says so itself.
async fn noticed(node: &Node) -> Result<()> {
    wait::until("a node to notice its suspension", Duration::from_secs(10), async || {
        std::fs::read_to_string(node.log()).is_ok_and(|log| log.contains("slept=true")).then_some(())
    })
    .await
    .map_err(|error| rig_failure(format!("node {}: {error:#}", node.id)))
}
