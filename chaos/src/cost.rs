//! What watching costs: CPU and memory of each node over some seconds in which nothing happens.

use crate::{
    flavor::Flavor,
    group::Group,
    install,
    net::Net,
    process::{Proc, run},
    product::Product,
    run_dir::RunDir,
    topology::{Shape, Topology},
};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// What to measure.
pub struct Cost {
    /// Which servers.
    pub flavor: Flavor,
    /// How many nodes.
    pub nodes: u64,
    /// Clusters of one primary and the shape's replicas.
    pub clusters: usize,
    /// The topology of each cluster.
    pub shape: Shape,
    /// How long.
    pub seconds: u64,
    /// The binary.
    pub product: Product,
}

impl Cost {
    /// Starts everything, lets it settle, measures, prints one line a node.
    pub async fn measure(&self, run_dir: &RunDir) -> Result<()> {
        let (install, net) = (install::ensure(self.flavor)?, Net::loopback());
        let mut topologies = Vec::new();
        for number in 1..=self.clusters {
            topologies
                .push(Topology::start(run_dir, &install, &net, &self.shape, &format!("c{number}")).await?);
        }
        let group = Group::start(run_dir, &net, &self.product, self.nodes, "cost", &[]).await?;
        group.init().await?;
        for topology in &topologies {
            group.discover(topology, &topology.server(1).address()).await?;
        }
        // What discovery itself cost is not counted.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let ticks: f64 = run("getconf", &["CLK_TCK"])?.trim().parse()?;
        let leader = group.leader().await?;
        let began = Instant::now();
        let mut before = Vec::new();
        for node in &group.nodes {
            before.push(cpu_ticks(&*node.process().context("a node does not run")?)?);
        }
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let servers: usize = topologies.iter().map(|t| t.servers.len()).sum();
        for (node, before) in group.nodes.iter().zip(before) {
            let process = node.process().context("a node does not run")?;
            let percent = 100.0 * (cpu_ticks(&process)? - before) / ticks / began.elapsed().as_secs_f64();
            let role = if node.id == leader { "leader" } else { "follower" };
            println!(
                "cost {} {} servers={servers} node={} ({role}): cpu {percent:.2} % of a core, rss {:.1} MiB, over {} s, commit {}",
                self.flavor,
                self.product.profile,
                node.id,
                rss_mib(&process)?,
                self.seconds,
                self.product.commit,
            );
        }
        Ok(())
    }
}

/// User and system time used so far, in clock ticks.
fn cpu_ticks(process: &Proc) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    let rest = text.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime and stime, the 14th and 15th of proc(5), counted from the state, the third.
    Ok(fields[11].parse::<f64>()? + fields[12].parse::<f64>()?)
}

fn rss_mib(process: &Proc) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let kib = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(kib.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
