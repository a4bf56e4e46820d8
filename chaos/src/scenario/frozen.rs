//! A primary that is frozen and thawed in the midst of its failover, or when that was given up: a fence may lie in its
//! socket, and land at its thaw.

use super::rest::come_to_rest;
use crate::{
    record::Outcome,
    stage::{RECOVER_WITHIN, Stage},
    wait,
    watch::Seen,
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Longer than an undo of anything else may take (15 s): one that gives up on the old primary has done so by then.
const OPEN_FOR: Duration = Duration::from_secs(17);

/// Stopped for a while, thawed: writes go on there, and the recovery ends cancelled.
pub async fn undo(stage: &mut Stage<'_>) -> Result<()> {
    give_up(stage).await?;
    stage.await_nothing(OPEN_FOR).await?;
    let still = stage.group.recoveries().await?;
    if still.iter().all(|r| r.state != "running") && !none_sent(stage)? {
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
    if stage.group.recoveries().await?.iter().any(superseded) {
        stage.record.reason = "it superseded the one that was being undone".into();
    } else if none_sent(stage)? {
        stage.record.reason = "no fence could be sent: nothing was left to supersede".into();
    } else {
        stage.record.violations.push("no recovery was superseded".into());
    }
    stage
        .old_primary_returns(1, async |stage| stage.topology.server(1).signal(Signal::CONT).map(|()| None))
        .await
}

/// M3: stopped for longer than a primary may be silent, and alive again in the midst of its replacement.
pub async fn freeze_into_recovery(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let begun = Instant::now();
    primary.signal(Signal::STOP)?;
    primary.process().context("no process")?.wait_stopped().await?;
    stage.date_fault(1, begun);
    stage.fault_is_in_place();
    let during = if stage.record.variant == "until a recovery began" { began(stage).await } else { None };
    if during.is_none() {
        tokio::time::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed())).await;
    }
    primary.signal(Signal::CONT)?;
    come_to_rest(stage).await
}

/// Waits for a recovery, but not for ever: none may come.
async fn began(stage: &Stage<'_>) -> Option<()> {
    wait::every(Duration::from_millis(10), "a recovery", Duration::from_secs(10), async || {
        let recoveries = stage.group.recoveries().await.ok()?;
        (!recoveries.is_empty()).then_some(())
    })
    .await
    .ok()
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

/// Whether no node could begin a fence: each had lost its session to the frozen server (a busy machine held the node up,
/// and it dropped what it had open), and got no other. Then nothing can land, and the recovery ends without waiting.
fn none_sent(stage: &Stage<'_>) -> Result<bool> {
    let mut logs = String::new();
    for node in &stage.group.nodes {
        logs += &std::fs::read_to_string(node.log()).context("a node's log")?;
    }
    Ok(all_refused(&logs))
}

/// Of the fences of recoveries that the nodes' logs tell of.
fn all_refused(logs: &str) -> bool {
    let of_driver = logs.lines().filter(|line| line.contains("server::driver: fence "));
    let ends: Vec<&str> = of_driver.filter_map(|line| line.split_once(" end=")).map(|(_, end)| end).collect();
    !ends.is_empty() && ends.iter().all(|end| end.starts_with("refused"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fence_that_was_sent_may_land() {
        let said =
            |end: &str| format!("INFO quorate::server::driver: fence node=1 step=fence on h:1 end={end}\n");
        let refused = said("refused: no session to h:1: no greeting within 999 ms");
        assert!(all_refused(&refused.repeat(3)));
        assert!(!all_refused(&(refused.clone() + &said("unknown: no answer"))));
        assert!(!all_refused(&(refused + &said("done"))));
        assert!(!all_refused("INFO quorate::server::driver: recovery recovery=28 from=New to=Revoke"));
    }
}
