//! Bad networks of the nodes in which the primary is well: nothing may happen, nothing may be sent, clients write on.

use super::{places, sent};
use crate::{
    net::firewall::{self, Cut},
    stage::Stage,
    wait,
};
use anyhow::Result;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long nothing must happen. Verdicts come after 1.2 s, recoveries at once after them.
const WATCHED: Duration = Duration::from_secs(8);
/// Of a hundred packets.
const LOST: u32 = 30;
/// A probe of a primary passes; a report of a replica, an inventory or a batch of log entries does not.
const BIG: u32 = 600;

/// Which nodes of the group are harmed, by the variant.
pub const WHO: [&str; 3] = ["a majority with the leader", "a majority of followers", "all nodes"];
/// Which way is cut, and whose.
pub const WAYS: [&str; 6] = [
    "one node to the primary",
    "the primary to one node",
    "a majority to the primary",
    "the primary to a majority",
    "all nodes to the primary",
    "the primary to all nodes",
];

/// N3: most nodes lose the primary; clients and replicas do not.
pub async fn majority_blind(stage: &mut Stage<'_>) -> Result<()> {
    let primary = [stage.primary().place.ip];
    let cuts = harmed(stage).await?.into_iter().map(|id| Cut::between(&stage.group.node(id).place, &primary));
    let cuts = cuts.collect::<Result<Vec<_>>>()?;
    watch(stage, cuts).await
}

/// N4: one direction only.
pub async fn asymmetric(stage: &mut Stage<'_>) -> Result<()> {
    let primary = [stage.primary().place.ip];
    let inbound = stage.record.variant.starts_with("the primary");
    let cut = |id: u64| {
        let place = &stage.group.node(id).place;
        if inbound { Cut::from(place, &primary) } else { Cut::to(place, &primary) }
    };
    let cuts = harmed(stage).await?.into_iter().map(cut).collect::<Result<Vec<_>>>()?;
    watch(stage, cuts).await
}

/// N7: the leader's datacenter, with a replica in it, is cut off from the others; the primary stands elsewhere.
pub async fn leader_datacenter(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let replica = stage.topology.servers.len();
    let cuts = places::island(stage, &[leader], &[replica])?;
    watch(stage, cuts).await
}

/// N11: nodes hear a part only of what is sent to them.
pub async fn lossy_nodes(stage: &mut Stage<'_>) -> Result<()> {
    let cuts = stage.group.nodes.iter().map(|node| Cut::lossy(&node.place, LOST));
    let cuts = cuts.collect::<Result<Vec<_>>>()?;
    watch(stage, cuts).await
}

/// N12: two datacenters do not hear each other; the third, with the primary, hears both.
pub async fn two_datacenters_apart(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let count = stage.group.nodes.len() as u64;
    let (here, there) = match stage.record.variant.as_str() {
        "the leader in one" => (leader, leader % count + 1),
        _ => (leader % count + 1, (leader + 1) % count + 1),
    };
    let far = [stage.group.node(there).place.ip, stage.topology.server(3).place.ip];
    let near = [stage.group.node(here).place.clone(), stage.topology.server(2).place.clone()];
    let cuts = near.iter().map(|place| Cut::between(place, &far)).collect::<Result<Vec<_>>>()?;
    // Two replicas have nothing to tell each other: the nodes' filter is the one that must be hit.
    let mut cuts = cuts.into_iter();
    let nodes = cuts.next().into_iter().collect();
    let servers: Vec<Cut> = cuts.collect();
    watch(stage, nodes).await?;
    firewall::heal(servers)
}

/// N15: small packets pass between nodes and servers, big ones vanish.
pub async fn big_packets_vanish(stage: &mut Stage<'_>) -> Result<()> {
    let servers: Vec<IpAddr> = match stage.record.variant.as_str() {
        "of every server" => stage.topology.servers.iter().map(|s| s.place.ip).collect(),
        _ => stage.topology.others(1).iter().map(|s| s.place.ip).collect(),
    };
    let cuts = stage.group.nodes.iter().map(|node| Cut::longer_than(&node.place, &servers, BIG));
    let cuts = cuts.collect::<Result<Vec<_>>>()?;
    watch(stage, cuts).await
}

/// N13: replicas lose the primary, nodes and clients do not. With semi-sync no write is acknowledged meanwhile.
pub async fn replicas_cut_off(stage: &mut Stage<'_>) -> Result<()> {
    let replicas: Vec<IpAddr> = stage.topology.others(1).iter().map(|s| s.place.ip).collect();
    let cut = Cut::between(&stage.primary().place, &replicas)?;
    let begun = stage.mark_fault();
    cut.wait_hit().await?;
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    let end = Instant::now();
    cut.heal()?;
    sent::accuse(stage)?;
    // A write whose acknowledgement was under way when the filter came is none of this.
    let from = begun + Duration::from_secs(1);
    let acked = stage.client().acks().iter().filter(|ack| ack.sent > from && ack.at < end).count();
    if stage.semi_sync && acked > 0 {
        stage.record.violations.push(format!("{acked} writes were acknowledged without any acker"));
    }
    write_on(stage).await
}

/// Sees each filter drop something, and nothing happen; then all is well again.
async fn watch(stage: &mut Stage<'_>, cuts: Vec<Cut>) -> Result<()> {
    stage.mark_fault();
    for cut in &cuts {
        cut.wait_hit().await?;
    }
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    write_on(stage).await?;
    firewall::heal(cuts)?;
    stage.group.wait_ready().await?;
    sent::accuse(stage)
}

/// The primary takes writes as ever.
pub async fn write_on(stage: &mut Stage<'_>) -> Result<()> {
    let (now, primary) = (Instant::now(), stage.primary);
    wait::until("a write on the primary", Duration::from_secs(30), async || {
        stage.client().acks().iter().any(|ack| ack.server == primary && ack.sent > now).then_some(())
    })
    .await
}

/// The nodes that the variant harms.
async fn harmed(stage: &Stage<'_>) -> Result<Vec<u64>> {
    let leader = stage.group.leader().await?;
    let variant = &stage.record.variant;
    let mut ids: Vec<u64> = stage.group.nodes.iter().map(|node| node.id).collect();
    let leader_first = !variant.contains("followers");
    ids.sort_by_key(|id| (*id == leader) != leader_first);
    let count = match variant.as_str() {
        all if all.contains("all nodes") => ids.len(),
        one if one.contains("one node") => 1,
        _ => ids.len() / 2 + 1,
    };
    Ok(ids.into_iter().take(count).collect())
}
