//! The rig examines itself, without Quorate: real topologies, a client that follows, faults that take.

use crate::{
    client::Client,
    depth::Depth,
    flavor::Flavor,
    gather, install,
    net::{Net, firewall::Cut, reexec},
    run_dir::RunDir,
    topology::{Shape, Topology},
    wait,
    watch::{Seen, Watch},
};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PATIENT: Duration = Duration::from_secs(30);

/// Everything for each flavour; with `partitions` also the packet filters, which need a namespace of our own.
pub async fn run(run: &RunDir, flavors: &[Flavor], partitions: bool) -> Result<()> {
    for flavor in flavors {
        let began = Instant::now();
        one(run, *flavor, partitions).await.with_context(|| format!("selftest of {flavor}"))?;
        println!("selftest {flavor}: ok in {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn one(run: &RunDir, flavor: Flavor, partitions: bool) -> Result<()> {
    let install = install::ensure(flavor)?;
    let net = if partitions { Net::namespaces()? } else { Net::loopback() };
    let began = Instant::now();
    let topology = Topology::start(run, &install, &net, &Shape::default(), flavor.name()).await?;
    println!("selftest {flavor}: 1 primary and 3 replicas in {:.2} s", began.elapsed().as_secs_f64());

    let client = Client::start(&topology, Depth::Full);
    let watch = Watch::start(&topology, Depth::Full);
    wait::until("200 acknowledged writes", PATIENT, async || (client.count() >= 200).then_some(())).await?;
    let sql =
        topology.server(2).app(Duration::from_secs(2)).exec("INSERT INTO app.writes VALUES (-1, 0)").await;
    ensure!(sql.is_err(), "a replica accepted an application's write");

    let primary = topology.server(1);
    freeze(&topology, &client).await?;
    if partitions {
        cut(&topology, &client).await?;
    }
    let killed = Instant::now();
    primary.kill().await?;
    wait::until("the watch to miss the primary", PATIENT, async || watch.first(1, Seen::Silent, killed))
        .await?;
    primary.launch(run)?;
    primary.wait_answer().await?;
    ensure!(primary.is_read_only().await == Some(false), "a restarted primary comes back writable");
    let restarted = Instant::now();
    wait::until("writes after the restart", PATIENT, async || {
        client.acks().iter().any(|a| a.sent > restarted).then_some(())
    })
    .await?;

    let acks = client.stop().await;
    topology.wait_equal(&primary, &topology.others(1), PATIENT).await?;
    for server in &topology.servers {
        let there: BTreeSet<String> =
            server.root(PATIENT).column("SELECT id FROM app.writes").await?.into_iter().collect();
        let lost = acks.iter().filter(|a| !there.contains(&a.id.to_string())).count();
        ensure!(lost == 0, "{server} lacks {lost} of {} acknowledged writes", acks.len());
    }
    ensure!(acks.iter().all(|a| a.server == 1), "somebody else acknowledged a write");
    let written: BTreeSet<i64> = gather::commits(&topology)?.iter().map(|commit| commit.id).collect();
    let unwritten = acks.iter().filter(|ack| !written.contains(&ack.id)).count();
    ensure!(
        unwritten == 0,
        "{unwritten} acknowledged writes are in no binlog of their server, as the rig reads it"
    );
    Ok(())
}

/// A stopped primary acknowledges nothing, and goes on when continued.
async fn freeze(topology: &Topology, client: &Client) -> Result<()> {
    let primary = topology.server(1);
    primary.signal(Signal::STOP)?;
    primary.process().context("no process")?.wait_stopped().await?;
    let stopped = Instant::now();
    wait::until("the client to give its connection up", PATIENT, async || {
        client.is_searching().then_some(())
    })
    .await?;
    let late = client.acks().iter().filter(|a| a.sent > stopped).count();
    ensure!(late == 0, "a stopped server acknowledged {late} writes");
    primary.signal(Signal::CONT)?;
    wait::until("writes after SIGCONT", PATIENT, async || {
        client.acks().iter().any(|a| a.sent > stopped).then_some(())
    })
    .await
}

/// A primary cut off acknowledges nothing to the client, and goes on when healed.
async fn cut(topology: &Topology, client: &Client) -> Result<()> {
    ensure!(reexec::is_inside(), "not in a namespace");
    let cut = Cut::off(&topology.server(1).place)?;
    let installed = Instant::now();
    cut.wait_hit().await?;
    let late = client.acks().iter().filter(|a| a.sent > installed).count();
    ensure!(late == 0, "a server that was cut off acknowledged {late} writes");
    cut.heal()?;
    wait::until("writes after healing", PATIENT, async || {
        client.acks().iter().any(|a| a.sent > installed).then_some(())
    })
    .await
}
