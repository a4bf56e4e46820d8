//! Faults of Quorate's own nodes, before or while a primary must be replaced.

use crate::{pause, record::Outcome, stage::Stage};
use anyhow::{Context, Result};
use std::time::Duration;

/// The leader and the primary die in the same instant.
pub async fn kill_leader_and_primary(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.node(stage.group.leader().await?);
    let primary = stage.primary();
    let since = stage.mark_fault();
    leader.signal(rustix::process::Signal::KILL)?;
    primary.kill().await?;
    leader.kill().await.ok();
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await
}

/// The node that recovers is killed while it waits at the pause point.
pub async fn kill_leader_mid_recovery(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let since = stage.mark_fault();
    primary.kill().await?;
    let point = stage.record.variant.clone();
    let node = pause::held(stage, &point).await?;
    node.kill().await?;
    pause::go_on(stage)?;
    stage.fault_is_in_place();
    stage.record.reason = format!("node {} died at {}", node.id, stage.record.variant);
    stage.await_recovery(&[1], since).await
}

/// All nodes die at once and come back without a hand; the healthy primary is not touched; then it dies.
pub async fn restart_all(stage: &mut Stage<'_>) -> Result<()> {
    let settings = settings(stage).await?;
    stage.group.kill_all().await?;
    for node in &stage.group.nodes {
        node.launch(stage.run_dir)?;
    }
    stage.group.wait_ready().await.context("after a restart of all nodes")?;
    let address = stage.primary().address();
    stage
        .group
        .wait_settled(&address, stage.topology.servers.len())
        .await
        .context("after a restart of all nodes")?;
    if settings != self::settings(stage).await? {
        stage.record.violations.push("the restart of the nodes changed a server".into());
    }
    super::of_primaries::kill(stage).await
}

/// A voter comes back with an empty directory. It must not count: with it and one true voter there is no majority.
pub async fn wiped(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let count = stage.group.nodes.len() as u64;
    let followers: Vec<u64> = (1..=count).filter(|id| *id != leader).collect();
    let wiped = stage.group.node(followers[0]);
    wiped.kill().await?;
    wiped.wipe()?;
    wiped.launch(stage.run_dir)?;
    // Down to one true voter less than a majority; the wiped node would complete it.
    let majority = count as usize / 2 + 1;
    let down: Vec<u64> = followers[1..].iter().copied().take(count as usize - majority).collect();
    for id in &down {
        stage.group.node(*id).kill().await?;
    }
    stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_nothing(Duration::from_secs(8)).await?;
    if stage.record.outcome != Outcome::Nothing {
        return Ok(());
    }
    // With its true voters back the group does its work, the wiped one still outside.
    let since = stage.mark_fault();
    for id in &down {
        stage.group.node(*id).launch(stage.run_dir)?;
    }
    stage.await_recovery(&[1], since).await?;
    if let Ok(status) = stage.group.json(&["nodes", "status"]).await {
        let entry = status["nodes"]
            .as_array()
            .and_then(|all| all.iter().find(|n| n["id"].as_u64() == Some(wiped.id)).cloned());
        let role = entry.as_ref().and_then(|e| e["role"].as_str()).unwrap_or_default().to_string();
        if role == "leader" || role == "follower" {
            stage.record.violations.push(format!("the wiped node {} takes part again as {role}", wiped.id));
        }
    }
    Ok(())
}

/// What a change by anybody would alter.
pub async fn settings(stage: &Stage<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for server in &stage.topology.servers {
        let rows = server.root(Duration::from_secs(5)).named(stage.topology.flavor.settings()).await?;
        all.push(format!("{rows:?} {:?}", server.replica_status().await));
    }
    Ok(all)
}
