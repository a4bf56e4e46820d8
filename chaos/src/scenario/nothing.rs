//! Scenarios in which nothing may happen: no recovery, no statement that changes a server.

use super::sent;
use crate::{net::firewall::Cut, record::Outcome, stage::Stage, wait};
use anyhow::Result;
use std::time::Duration;

/// How long nothing must happen. Verdicts come after 1.2 s, with the urgent round after 1.5 s, recoveries at once after
/// them: what would happen happens within a third of this.
const WATCHED: Duration = Duration::from_secs(6);

/// One node is cut off from the primary. All else is well, or an operator had stopped all receivers before.
pub async fn one_observer_blind(stage: &mut Stage<'_>) -> Result<()> {
    if stage.record.variant.contains("receivers stopped") {
        for replica in stage.topology.others(1) {
            replica.admin(&[stage.topology.flavor.stop_receiver()]).await?;
        }
    }
    let leader = stage.group.leader().await?;
    let count = stage.group.nodes.len() as u64;
    let blind = if stage.record.variant.starts_with("leader") { leader } else { leader % count + 1 };
    stage.mark_fault();
    let cut = Cut::between(&stage.group.node(blind).place, &[stage.primary().place.ip])?;
    cut.wait_hit().await?;
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    cut.heal()?;
    sent::accuse(stage)
}

/// All nodes are cut off from a primary that its replicas still reach, and that has nothing to send them.
pub async fn witness_clears(stage: &mut Stage<'_>) -> Result<()> {
    // Nothing moves, and no heartbeat comes for a minute.
    stage.client().rest(true);
    stage.mark_fault();
    let primary = [stage.primary().place.ip];
    let cuts: Vec<Cut> =
        stage.group.nodes.iter().map(|node| Cut::between(&node.place, &primary)).collect::<Result<_>>()?;
    for cut in &cuts {
        cut.wait_hit().await?;
    }
    stage.fault_is_in_place();
    wait::every(
        Duration::from_millis(100),
        "a witness to be restarted",
        Duration::from_secs(30),
        async || {
            let events = stage.group.events().await.ok()?;
            events
                .iter()
                .any(|e| e["kind"] == "witness" && e["text"] == "its receiver was restarted")
                .then_some(())
        },
    )
    .await?;
    stage.await_nothing(WATCHED).await?;
    let calls = stage.group.events().await?;
    let calls =
        calls.iter().filter(|e| e["kind"] == "witness" && e["text"] != "its receiver was restarted").count();
    if calls != 1 {
        stage.record.violations.push(format!("{calls} witnesses were called in one episode"));
    }
    for replica in stage.topology.others(1) {
        if replica.replica_status().await.is_none_or(|status| !status.is_running()) {
            stage.record.violations.push(format!("{replica} does not replicate any more"));
        }
    }
    for cut in cuts {
        cut.heal()?;
    }
    stage.client().rest(false);
    Ok(())
}

/// A majority of the nodes is down, then the primary dies.
pub async fn minority(stage: &mut Stage<'_>) -> Result<()> {
    let down = stage.group.nodes.len() / 2 + 1;
    let leader = stage.group.leader().await?;
    // Half of the runs keep the leader.
    let keep_leader = stage.record.run.is_multiple_of(2);
    let mut order: Vec<u64> = stage.group.nodes.iter().map(|n| n.id).collect();
    order.sort_by_key(|id| (*id == leader) == keep_leader);
    for id in order.into_iter().take(down) {
        stage.group.node(id).kill().await?;
    }
    stage.record.variant = if keep_leader { "the leader survives" } else { "the leader is down" }.into();
    stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    sent::accuse(stage)?;
    if stage.record.outcome == Outcome::Nothing {
        stage.record.reason = format!("{down} of {} nodes were down", stage.group.nodes.len());
    }
    Ok(())
}
