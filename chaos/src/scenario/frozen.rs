//! A frozen primary whose failover is given up: a fence may lie in its socket, and land at its thaw.

use crate::{
    record::Outcome,
    stage::{RECOVER_WITHIN, Stage},
    wait,
    watch::Seen,
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Longer than any undo step: an undo that gives up on the old primary has done so by then.
const OPEN_FOR: Duration = Duration::from_secs(20);

/// Stopped for a while, thawed: writes go on there, and the recovery ends cancelled.
pub async fn undo(stage: &mut Stage<'_>) -> Result<()> {
    give_up(stage).await?;
    stage.await_nothing(OPEN_FOR).await?;
    let still = stage.group.recoveries().await?;
    if still.iter().all(|r| r.state != "running") {
        stage.record.violations.push("every recovery has ended while a fence may still land".into());
    }
    let back = Instant::now();
    stage.primary().signal(Signal::CONT)?;
    let opened = wait::every(
        Duration::from_millis(50),
        "the recovery to end, the primary to be writable, and writes on it",
        RECOVER_WITHIN,
        async || {
            let recoveries = stage.group.recoveries().await.ok()?;
            let ended = recoveries.iter().all(|r| r.state == "cancelled");
            let writable = stage.primary().is_read_only().await == Some(false);
            let writes = stage.client().acks().iter().any(|a| a.server == 1 && a.at > back);
            (ended && writable && writes).then_some(())
        },
    )
    .await;
    stage.record.outcome = Outcome::Cancelled;
    let landed = stage.watch().first(1, Seen::ReadOnly, back).is_some();
    stage.record.reason =
        if landed { "a fence landed at the thaw and was undone" } else { "no fence landed" }.into();
    match opened {
        // What was seen last must stay: nothing may come later.
        Ok(()) => stays_open(stage).await,
        Err(error) => {
            stage.record.violations.push(format!("{error:#}"));
            Ok(())
        }
    }
}

/// Somebody may be promoted after all: the next failover supersedes the one that is being undone.
pub async fn supersede(stage: &mut Stage<'_>) -> Result<()> {
    let since = give_up(stage).await?;
    rules(stage, "neutral").await?;
    stage.await_recovery(&[1], since).await?;
    let superseded = |r: &crate::group::Recovery| r.state == "cancelled" && r.reason.contains("superseded");
    if stage.record.outcome != Outcome::Recovered {
        return stage.topology.server(1).signal(Signal::CONT);
    }
    if !stage.group.recoveries().await?.iter().any(superseded) {
        stage.record.violations.push("no recovery was superseded".into());
    }
    stage
        .old_primary_returns(1, async |stage| stage.topology.server(1).signal(Signal::CONT).map(|()| None))
        .await
}

/// Freezes the primary while every replica is forbidden as a candidate, until the group says that the fence is unknown.
async fn give_up(stage: &mut Stage<'_>) -> Result<Instant> {
    rules(stage, "must_not").await?;
    let primary = stage.primary();
    let address = primary.address();
    let since = stage.mark_fault();
    primary.signal(Signal::STOP)?;
    primary.process().context("no process")?.wait_stopped().await?;
    stage.fault_is_in_place();
    wait::every(
        Duration::from_millis(50),
        "the primary to be shown as fence unknown",
        RECOVER_WITHIN,
        async || {
            let cluster = stage.group.json(&["topology", &address]).await.ok()?;
            let root = cluster["tree"].as_array()?.iter().find(|m| m["address"] == address.as_str())?;
            (root["fence_unknown"] == true).then_some(())
        },
    )
    .await?;
    Ok(since)
}

async fn rules(stage: &Stage<'_>, rule: &str) -> Result<()> {
    for replica in stage.topology.others(1) {
        stage.group.json(&["promotion-rule", &replica.address(), rule]).await?;
    }
    Ok(())
}

async fn stays_open(stage: &mut Stage<'_>) -> Result<()> {
    let since = Instant::now();
    // Absence has no fact to wait for: three probes of a primary and the standing orders' pace would show it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    if stage.watch().first(1, Seen::ReadOnly, since).is_some() {
        stage.record.violations.push("the primary became read-only after the recovery had ended".into());
    }
    Ok(())
}
