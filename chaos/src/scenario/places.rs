//! Datacenters: which places cannot hear which.

use crate::{
    net::{Place, firewall::Cut},
    stage::Stage,
};
use anyhow::Result;
use std::net::IpAddr;

/// Cuts these nodes and servers off from all others. The rig and its clients reach everybody.
pub fn island(stage: &Stage<'_>, nodes: &[u64], servers: &[usize]) -> Result<Vec<Cut>> {
    let nodes_of = stage.group.nodes.iter().map(|node| (nodes.contains(&node.id), node.place.clone()));
    let servers_of =
        stage.topology.servers.iter().map(|server| (servers.contains(&server.number), server.place.clone()));
    let all: Vec<(bool, Place)> = nodes_of.chain(servers_of).collect();
    let outside: Vec<IpAddr> = all.iter().filter(|(inside, _)| !inside).map(|(_, place)| place.ip).collect();
    all.iter().filter(|(inside, _)| *inside).map(|(_, place)| Cut::between(place, &outside)).collect()
}
