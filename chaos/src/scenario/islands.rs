//! Networks that take the primary away from the group, or the nodes from each other: another server must take over where
//! a majority misses the primary for long enough, and the old primary is dealt with when it is back.

use super::{places, undisturbed};
use crate::{
    net::firewall::{self, Cut},
    record::Outcome,
    stage::Stage,
};
use anyhow::Result;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long nothing must happen.
const WATCHED: Duration = Duration::from_secs(5);
/// A link that is longer down than a primary may be silent.
const DOWN: Duration = Duration::from_secs(4);
/// And up in between.
const UP: Duration = Duration::from_secs(1);
/// A link that is shorter down than that.
const SHORT: Duration = Duration::from_secs(1);

/// N6, N8: the primary's datacenter is an island, a replica and a node in it; its clients reach both sides.
pub async fn primary_datacenter(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let count = stage.group.nodes.len() as u64;
    let node = if stage.record.variant == "with the leader" { leader } else { leader % count + 1 };
    let replica = stage.topology.servers.len();
    let cuts = places::island(stage, &[node], &[1, replica])?;
    stage.cut_off.push(replica);
    let since = stage.mark_fault();
    for cut in &cuts {
        cut.wait_hit().await?;
    }
    stage.fault_is_in_place();
    stage.await_recovery(&[1, replica], since).await?;
    returns(stage, cuts).await
}

/// N13: only clients still reach the primary.
pub async fn clients_only(stage: &mut Stage<'_>) -> Result<()> {
    let nodes = stage.group.nodes.iter().map(|node| node.place.ip);
    let others: Vec<IpAddr> = nodes.chain(stage.topology.others(1).iter().map(|s| s.place.ip)).collect();
    let cut = Cut::between(&stage.primary().place, &others)?;
    let since = stage.mark_fault();
    cut.wait_hit().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    returns(stage, vec![cut]).await
}

/// N5: two nodes do not hear each other, or one does not hear the other, while the primary dies.
pub async fn nodes_half_apart(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let count = stage.group.nodes.len() as u64;
    let (one, other) = (leader % count + 1, (leader + 1) % count + 1);
    let (leading, first) = (stage.group.node(leader), stage.group.node(one));
    let cut = match stage.record.variant.as_str() {
        "a follower does not hear the leader" => Cut::from(&first.place, &[leading.place.ip])?,
        "the leader does not hear a follower" => Cut::to(&first.place, &[leading.place.ip])?,
        "leader and follower apart" => Cut::between(&first.place, &[leading.place.ip])?,
        // Followers have nothing to tell each other until there is an election.
        _ => Cut::between(&first.place, &[stage.group.node(other).place.ip])?,
    };
    let quiet = stage.record.variant == "two followers apart";
    if !quiet {
        cut.wait_hit().await?;
    }
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.await_recovery(&[1], since).await?;
    // What they ask each other in a recovery (the fence, the marks) has met the filter by now.
    cut.wait_hit().await?;
    stage.fault_is_in_place();
    cut.heal()?;
    stage.group.wait_ready().await
}

/// N14: no node hears another. The living primary is not touched, the dead one not replaced, until they meet again.
pub async fn nodes_apart(stage: &mut Stage<'_>) -> Result<()> {
    let mut cuts = Vec::new();
    for node in &stage.group.nodes {
        let others: Vec<IpAddr> =
            stage.group.nodes.iter().filter(|n| n.id != node.id).map(|n| n.place.ip).collect();
        cuts.push(Cut::between(&node.place, &others)?);
    }
    stage.mark_fault();
    for cut in &cuts {
        cut.wait_hit().await?;
    }
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    undisturbed::write_on(stage).await?;
    super::sent::accuse(stage)?;
    stage.primary().kill().await?;
    stage.await_nothing(WATCHED).await?;
    if stage.record.outcome != Outcome::Nothing {
        return firewall::heal(cuts);
    }
    super::sent::accuse(stage)?;
    let since = stage.mark_fault();
    firewall::heal(cuts)?;
    stage.await_recovery(&[1], since).await
}

/// N10: down for less than a primary may be silent, again and again. Nothing may happen.
pub async fn flapping_short(stage: &mut Stage<'_>) -> Result<()> {
    flap(stage, SHORT, SHORT, 12).await?;
    stage.await_nothing(Duration::from_secs(2)).await?;
    undisturbed::write_on(stage).await?;
    super::sent::accuse(stage)
}

/// N10: down for longer. It is replaced once, and comes and goes on.
pub async fn flapping_long(stage: &mut Stage<'_>) -> Result<()> {
    let since = flap(stage, DOWN, UP, 5).await?;
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome != Outcome::Recovered {
        return Ok(());
    }
    let promotions = stage.group.recoveries().await?.iter().filter(|r| r.state == "succeeded").count();
    if promotions != 1 {
        stage.record.violations.push(format!("{promotions} promotions on account of one flapping link"));
    }
    stage.old_primary_returns(1, async |_| Ok(None)).await
}

/// The primary's link goes down and up; each time the filter has dropped something. Gives the beginning.
async fn flap(stage: &mut Stage<'_>, down: Duration, up: Duration, times: usize) -> Result<Instant> {
    let since = stage.mark_fault();
    for _ in 0..times {
        let cut = Cut::off(&stage.topology.server(1).place)?;
        tokio::time::sleep(down).await;
        cut.wait_hit().await?;
        cut.heal()?;
        tokio::time::sleep(up).await;
    }
    stage.fault_is_in_place();
    Ok(since)
}

/// The island is none any more.
async fn returns(stage: &mut Stage<'_>, cuts: Vec<Cut>) -> Result<()> {
    if stage.record.outcome != Outcome::Recovered {
        return firewall::heal(cuts);
    }
    stage.old_primary_returns(1, async |_| firewall::heal(cuts).map(|()| Some(Instant::now()))).await?;
    stage.group.wait_ready().await
}
