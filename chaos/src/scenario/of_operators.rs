//! What operators do: planned changes, and what stands between two failovers.

use crate::{
    client::longest_gap,
    record::Outcome,
    server::Server,
    stage::{Stage, millis},
    wait,
};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// On a busy machine one of the client's own commits may take so long that the first attempt is refused.
const REFUSALS: u32 = 3;

/// A planned change under load. The longest gap in the client's writes is what it costs.
pub async fn switchover(stage: &mut Stage<'_>) -> Result<()> {
    let old = stage.primary();
    let address = old.address();
    let mut since = stage.mark_fault();
    stage.fault_is_in_place();
    for left in (0..REFUSALS).rev() {
        let (code, said) = stage.group.verb(&["switchover", &address]).await?;
        if code == 0 {
            break;
        }
        if left == 0 || !said.contains("LONG_STATEMENT") {
            stage.record.outcome = Outcome::Refused;
            stage.record.reason = format!("exit code {code}: {}", said.trim());
            return Ok(());
        }
        since = stage.mark_fault();
    }
    stage.await_recovery(&[], since).await?;
    if stage.record.outcome != Outcome::Recovered {
        return Ok(());
    }
    // Enough writes afterwards that the gap has an end.
    let seen = stage.client().count();
    wait::until("writes after the switchover", Duration::from_secs(30), async || {
        (stage.client().count() > seen + 50).then_some(())
    })
    .await?;
    stage.record.first_write_ms = longest_gap(&stage.client().acks(), since).map(millis);
    Ok(())
}

/// Two deaths within the block window: the second waits for a person.
pub async fn flap(stage: &mut Stage<'_>) -> Result<()> {
    super::of_primaries::kill(stage).await?;
    if stage.record.outcome != Outcome::Recovered || !next_is_refused(stage).await? {
        return Ok(());
    }
    acknowledged(stage).await
}

/// The primary dies within a block: whether nobody is promoted, and the group says why.
pub async fn next_is_refused(stage: &mut Stage<'_>) -> Result<bool> {
    let second = stage.primary();
    let since = std::time::Instant::now();
    second.kill().await?;
    // Agreed on, and refused: what a second recovery would have begun with is over by then.
    let refused = wait::every(
        Duration::from_millis(100),
        "the group to refuse a second recovery",
        Duration::from_secs(30),
        async || {
            let events = stage.group.events().await.ok()?;
            let is_refusal = |e: &serde_json::Value| {
                e["kind"] == "recovery_refused"
                    && e["text"].as_str().is_some_and(|text| text.starts_with("CLUSTER_BLOCKED"))
            };
            events.iter().any(is_refusal).then_some(())
        },
    )
    .await;
    if let Err(error) = refused {
        stage.record.violations.push(format!("{error:#}"));
    }
    if let Some(change) = stage.watch().first_writable_elsewhere(second.number, since) {
        stage
            .record
            .violations
            .push(format!("server {} was promoted within the block window", change.server));
        stage.record.outcome = Outcome::Recovered;
        return Ok(false);
    }
    Ok(true)
}

/// A person acknowledges, and the dead primary is replaced.
pub async fn acknowledged(stage: &mut Stage<'_>) -> Result<()> {
    let second = stage.primary().number;
    let survives = |s: &&Arc<Server>| s.number != 1 && s.number != second;
    let address = stage.topology.servers.iter().find(survives).context("no survivor")?.address();
    let since = std::time::Instant::now();
    stage.group.json(&["ack", "--cluster", &address, "--comment", "seen by the rig"]).await?;
    stage.await_recovery(&[1, second], since).await?;
    if stage.record.outcome == Outcome::Recovered {
        stage.record.outcome = Outcome::Refused;
        stage.record.reason = "refused until acknowledged, then recovered".into();
    }
    Ok(())
}

/// The primary dies, every replica stands in another datacenter, and policy forbids those; then it allows them.
pub async fn other_datacenter_forbidden(stage: &mut Stage<'_>) -> Result<()> {
    let servers = &stage.topology.servers;
    let place = |server: &Server| (server.address(), if server.number == 1 { "here" } else { "there" });
    let places: BTreeMap<String, &str> = servers.iter().map(|server| place(server)).collect();
    let places = format!("datacenters={}", serde_json::to_string(&places)?);
    stage.group.json(&["policy", "set", &places, "allow_other_datacenter=false"]).await?;
    stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_nothing(Duration::from_secs(8)).await?;
    let recoveries = stage.group.recoveries().await?;
    let told = stage.group.events().await?;
    let refusals = told.iter().filter(|e| e["kind"] == "recovery_refused").filter_map(|e| e["text"].as_str());
    let reasons: Vec<&str> = refusals.chain(recoveries.iter().map(|r| r.reason.as_str())).collect();
    let named = reasons.iter().any(|reason| reason.contains("datacenter"));
    stage.record.reason = reasons.last().copied().unwrap_or_default().to_owned();
    if !named {
        stage.record.violations.push(format!("no refusal names the datacenter: {reasons:?}"));
    }
    if stage.record.outcome != Outcome::Nothing {
        return Ok(());
    }
    let since = std::time::Instant::now();
    stage.group.json(&["policy", "set", "allow_other_datacenter=true"]).await?;
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome == Outcome::Recovered {
        stage.record.outcome = Outcome::Refused;
    }
    Ok(())
}
