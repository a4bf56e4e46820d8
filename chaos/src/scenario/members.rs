//! The group changes while it works: nodes restarted in turn, members that come and go in the midst of a recovery, an old
//! primary that comes back in the midst of one.

use super::rest::come_to_rest;
use crate::{pause, stage::Stage};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::time::Duration;

/// M11: every node is ended and started again in turn, as an upgrade does it; then the primary dies.
pub async fn rolling_restart(stage: &mut Stage<'_>) -> Result<()> {
    let settings = super::of_nodes::settings(stage).await?;
    stage.mark_fault();
    for node in &stage.group.nodes {
        node.signal(Signal::TERM)?;
        node.process().context("no process")?.wait_end(Duration::from_secs(30)).await?;
        node.launch(stage.run_dir)?;
        stage.group.wait_ready().await.with_context(|| format!("with node {} back", node.id))?;
    }
    stage.await_nothing(Duration::from_secs(1)).await?;
    super::undisturbed::write_on(stage).await?;
    super::sent::accuse(stage)?;
    if settings != super::of_nodes::settings(stage).await? {
        stage.record.violations.push("the restart of the nodes changed a server".into());
    }
    super::of_primaries::kill(stage).await
}

/// M12: the group's membership changes while its leader holds in the midst of a recovery.
pub async fn membership_mid_recovery(stage: &mut Stage<'_>) -> Result<()> {
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    let (point, what) = stage.record.variant.split_once(' ').context("no point")?;
    let (point, what) = (point.to_owned(), what.to_owned());
    let leader = pause::held(stage, &point).await?;
    stage.fault_is_in_place();
    let count = stage.group.nodes.len() as u64;
    match what.as_str() {
        "a voter is removed" => {
            let gone = leader.id % count + 1;
            stage.group.json(&["nodes", "remove", &gone.to_string()]).await?;
            stage.group.node(gone).leave();
            stage.say(format!("node {gone} was removed"));
        }
        _ => {
            let node = stage.group.join(stage.run_dir, stage.net).await?;
            stage.say(format!("node {} votes", node.id));
        }
    }
    pause::go_on(stage)?;
    stage.await_recovery(&[1], since).await?;
    stage.group.wait_ready().await
}

/// D11: the old primary is started again, writable, at a moment of the recovery that replaces it. Either it is replaced
/// and dealt with, or nothing was promoted and it leads on.
pub async fn returns_mid_recovery(stage: &mut Stage<'_>) -> Result<()> {
    let old = stage.primary();
    stage.mark_fault();
    old.kill().await?;
    let point = stage.record.variant.clone();
    let leader = pause::held(stage, &point).await?;
    stage.fault_is_in_place();
    old.launch(stage.run_dir)?;
    old.wait_answer().await?;
    stage.record.reason = format!("it was back while node {} held at {}", leader.id, stage.record.variant);
    pause::go_on(stage)?;
    come_to_rest(stage).await?;
    if stage.primary == 1 {
        return Ok(());
    }
    stage.old_primary_returns(1, async |_| Ok(None)).await
}
