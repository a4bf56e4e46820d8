//! What watching costs: CPU, wake-ups and memory of each node over some seconds in which nothing happens.

use crate::{
    flavor::Flavor,
    group::Group,
    install,
    net::Net,
    process::{Proc, run, status_number},
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
            let process = node.process().context("a node does not run")?;
            before.push((cpu_ticks(&process)?, switches(&process)?));
        }
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let servers: usize = topologies.iter().map(|t| t.servers.len()).sum();
        for (node, (ticks_before, switches_before)) in group.nodes.iter().zip(before) {
            let process = node.process().context("a node does not run")?;
            let seconds = began.elapsed().as_secs_f64();
            let percent = 100.0 * (cpu_ticks(&process)? - ticks_before) / ticks / seconds;
            let wakes = (switches(&process)? - switches_before) / seconds;
            let role = if node.id == leader { "leader" } else { "follower" };
            println!(
                "cost {} {} servers={servers} node={} ({role}): cpu {percent:.2} % of a core, {wakes:.0} wake-ups/s, \
                 rss {:.1} MiB ({:.1} anonymous), {} threads, over {} s, commit {}",
                self.flavor,
                self.product.profile,
                node.id,
                status(&process, "VmRSS")? / 1024.0,
                status(&process, "RssAnon")? / 1024.0,
                status(&process, "Threads")?,
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

/// A number from the process' status: KiB where it is a size.
fn status(process: &Proc, key: &str) -> Result<f64> {
    status_number(&format!("/proc/{}/status", process.pid()), key)
}

/// How often its threads gave the processor up to wait for something, since they began.
fn switches(process: &Proc) -> Result<f64> {
    let mut sum = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", process.pid()))? {
        let file = thread?.path().join("status");
        sum += status_number(&file.display().to_string(), "voluntary_ctxt_switches")?;
    }
    Ok(sum)
}
