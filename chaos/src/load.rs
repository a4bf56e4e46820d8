//! A node under load: thousands of streams, clients that never read, requests that are too long, connections that are
//! never finished, floods. Meanwhile another client is served, the node's memory is bounded, and a failover goes on.

mod attacks;
mod seen;
mod wire;

use crate::{
    depth::Depth,
    flavor::Flavor,
    install,
    judge::judge,
    net::Net,
    node::Node,
    process::Proc,
    product::Product,
    record::{Outcome, Record},
    run_dir::RunDir,
    stage::{Setup, Stage, Terms},
    topology::Shape,
    wait,
};
use anyhow::{Context, Result, anyhow};
use attacks::{Attack, Elsewhere, Fates, MARK, Watchers};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seen::{ANSWERED_WITHIN, Meanwhile, cpu_s};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::Fate;

/// The most resident memory that any of it may make a node take, MiB.
const MEMORY_MOST_MIB: f64 = 512.0;
/// Within this every stream has heard of an event.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Connections that are never finished, at each port.
const HALF_OPEN: usize = 400;
/// Connections of clients that never read.
const NEVER_READ: usize = 40;
/// Requests of megabytes at once.
const OVERSIZED: usize = 16;
/// Connections of the flood, and calls at once on each.
const FLOOD: (usize, usize) = (8, 64);
/// Connections that come and go.
const CHURN: usize = 4;

/// What to play.
pub struct Load {
    /// Which servers.
    pub flavor: Flavor,
    /// How many nodes.
    pub nodes: u64,
    /// The topology.
    pub shape: Shape,
    /// Streams of events.
    pub watchers: usize,
    /// How long each attack goes on.
    pub during: Duration,
    /// The binary.
    pub product: Product,
}

/// The node that is attacked, and what comes of it.
struct Target {
    node: Arc<Node>,
    process: Arc<Proc>,
    meanwhile: Meanwhile,
    during: Duration,
    /// Processor time at the end of the last row.
    cpu: (Instant, (f64, f64)),
    violations: Vec<String>,
}

impl Load {
    /// Plays it all and prints a row of a table for each attack; the exit code is 0 if everything was as it must be.
    pub async fn play(&self, run_dir: &RunDir) -> Result<u8> {
        many_files()?;
        let (install, net) = (install::ensure(self.flavor)?, Net::loopback());
        let mut record = Record::begin("load", self.flavor, self.nodes, 1, 1);
        let setup = Setup {
            run_dir,
            install: &install,
            net: &net,
            product: &self.product,
            shape: self.shape.clone(),
            nodes: self.nodes,
            name: "load".into(),
            env: Vec::new(),
            seed: 1,
            pause_dir: None,
            depth: Depth::Light,
            terms: Terms::default(),
        };
        let mut stage = Stage::set(setup, &mut record).await?;
        let node = stage.group.node(stage.group.leader().await?);
        let process = node.process().context("the leader does not run")?;
        let meanwhile = Meanwhile::begin(&node.endpoint(), process.clone());
        let cpu = (Instant::now(), cpu_s(&process)?);
        let mut target =
            Target { node, process, meanwhile, during: self.during, cpu, violations: Vec::new() };
        let Product { profile, commit, .. } = &self.product;
        println!(
            "load {} {profile} nodes={}, {:?} each, commit {commit}",
            self.flavor, self.nodes, self.during
        );
        println!(
            "| at the leader | another client: answers | refused first | median ms | 99 % ms | longest ms | memory MiB \
             | CPU % | of clients' thread | how the calls ended |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let played = self.attack(&mut stage, &mut target).await;
        if let Err(error) = played {
            target.violations.push(format!("{error:#}"));
        }
        target.violations.append(&mut stage.record.violations);
        for violation in &target.violations {
            println!("  VIOLATION: {violation}");
        }
        if !target.violations.is_empty() {
            println!("{}", stage.group.log_tails());
        }
        Ok(u8::from(!target.violations.is_empty()))
    }

    async fn attack(&self, stage: &mut Stage<'_>, target: &mut Target) -> Result<()> {
        let elsewhere = Elsewhere::begin()?;
        let at = elsewhere.handle();
        let (client, node) = (target.node.endpoint(), target.node.node_endpoint());
        target.row("nothing", &[]).await;
        let watchers = at.spawn(Watchers::open(client.clone(), self.watchers)).await?;
        let watchers = watchers.map_err(|fate| anyhow!("a stream was not opened: {fate}"))?;
        target.row(&format!("{} streams", self.watchers), &[&watchers.fates]).await;
        self.tell(stage, &watchers, "1").await?;
        target.row("an event to each", &[&watchers.fates]).await;

        let never = || vec![attacks::never_read(&at, &client, NEVER_READ)];
        let oversized = || vec![attacks::oversized(&at, &client, OVERSIZED)];
        let half =
            || vec![attacks::half_open(&at, &client, HALF_OPEN), attacks::half_open(&at, &node, HALF_OPEN)];
        let floods =
            || vec![attacks::flood(&at, &client, FLOOD.0, FLOOD.1), attacks::churn(&at, &client, CHURN)];
        target.under("clients that never read", never()).await;
        target.under("requests of megabytes", oversized()).await;
        target.under("unfinished connections", half()).await;
        target.under("floods", floods()).await;

        let all: Vec<Attack> = [never(), oversized(), half(), floods()].into_iter().flatten().collect();
        self.fail_over(stage).await?;
        target.under("all of it, and a failover", all).await;
        self.tell(stage, &watchers, "2").await?;
        target.row("an event to each, after it", &[&watchers.fates]).await;
        if !watchers.fates.all().is_empty() {
            target.violations.push(format!("streams ended: {}", told(&[&watchers.fates])));
        }
        drop(watchers);
        target.row("nothing any more", &[]).await;
        judge(stage).await.map(drop)
    }

    /// An event that every stream must hear of.
    async fn tell(&self, stage: &Stage<'_>, watchers: &Watchers, number: &str) -> Result<()> {
        let mark = format!("{MARK}{number}");
        let begun = Instant::now();
        stage.group.json(&["recoveries-enabled", "on", "--why", &mark]).await?;
        wait::until("every stream to hear of an event", TOLD_WITHIN, async || {
            (watchers.told(&mark) >= self.watchers).then_some(())
        })
        .await
        .with_context(|| format!("{} of {} did", watchers.told(&mark), self.watchers))?;
        println!(
            "{} streams were told within {:.0} ms",
            self.watchers,
            begun.elapsed().as_secs_f64() * 1_000.0
        );
        Ok(())
    }

    async fn fail_over(&self, stage: &mut Stage<'_>) -> Result<()> {
        let primary = stage.primary();
        let since = stage.mark_fault();
        primary.kill().await?;
        stage.fault_is_in_place();
        stage.await_recovery(&[1], since).await?;
        let record = &stage.record;
        anyhow::ensure!(
            record.outcome == Outcome::Recovered,
            "the primary was not replaced: {}",
            record.reason
        );
        let ms = |t: Option<f64>| t.map_or("-".to_owned(), |t| format!("{t:.0} ms"));
        println!(
            "the failover: writable after {}, the client's first write after {}, all repointed after {}",
            ms(record.writable_ms),
            ms(record.first_write_ms),
            ms(record.repointed_ms)
        );
        Ok(())
    }
}

impl Target {
    /// A row of what these attacks did while they went on; they end with it.
    async fn under(&mut self, name: &str, attacks: Vec<Attack>) {
        let fates: Vec<&Fates> = attacks.iter().map(|attack| &attack.fates).collect();
        self.row(name, &fates).await;
        self.judge_fates(name, &fates);
    }

    async fn row(&mut self, name: &str, fates: &[&Fates]) {
        tokio::time::sleep(self.during).await;
        let seen = self.meanwhile.take();
        let mib = seen.memory_kib / 1024.0;
        let cpu = cpu_s(&self.process).unwrap_or_default();
        let (since, before) = std::mem::replace(&mut self.cpu, (Instant::now(), cpu));
        let percent = |now: f64, before: f64| 100.0 * (now - before) / since.elapsed().as_secs_f64();
        println!(
            "| {name} | {} | {} | {:.0} | {:.0} | {:.0} | {mib:.0} | {:.0} | {:.0} | {} |",
            seen.took.len(),
            seen.refused,
            seen.quantile(0.5),
            seen.quantile(0.99),
            seen.quantile(1.0),
            percent(cpu.0, before.0),
            percent(cpu.1, before.1),
            told(fates),
        );
        if seen.took.is_empty() && seen.lost.is_empty() {
            self.violations.push(format!("{name}: another client had no answer at all"));
        }
        for lost in seen.lost {
            self.violations
                .push(format!("{name}: another client had no answer within {ANSWERED_WITHIN:?}: {lost}"));
        }
        if mib > MEMORY_MOST_MIB {
            self.violations.push(format!("{name}: {mib:.0} MiB of memory, {MEMORY_MOST_MIB} are allowed"));
        }
        if self.process.ended() {
            self.violations.push(format!("{name}: the node has ended"));
        }
    }

    /// What is refused is refused by name.
    fn judge_fates(&mut self, name: &str, fates: &[&Fates]) {
        for (fate, count) in fates.iter().flat_map(|fates| fates.all()) {
            let named = [Fate::OK, Fate::OVERLOADED, Fate::TOO_LONG, Fate::Closed, Fate::Reset];
            if !named.contains(&fate) {
                self.violations.push(format!("{name}: {count} calls ended so: {fate}"));
            }
        }
    }
}

fn told(fates: &[&Fates]) -> String {
    let all = fates.iter().flat_map(|fates| fates.all());
    all.map(|(fate, count)| format!("{fate} {count}")).collect::<Vec<_>>().join(", ")
}

/// Connections are files.
fn many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}
