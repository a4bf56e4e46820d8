//! `up` and `demo`: the same stage as the scenarios, for people to look at.

use crate::{
    depth::Depth,
    flavor::Flavor,
    gather, install,
    net::Net,
    product::Product,
    record::{Outcome, Record},
    run_dir::RunDir,
    stage::{Setup, Stage, Terms},
    topology::Shape,
    wait,
};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What to put on stage.
pub struct Show {
    /// Which servers.
    pub flavor: Flavor,
    /// How many nodes.
    pub nodes: u64,
    /// The topology.
    pub shape: Shape,
    /// The binary.
    pub product: Product,
}

impl Show {
    async fn stage<'a>(
        &'a self,
        run_dir: &'a RunDir,
        install: &'a install::Install,
        net: &'a Net,
    ) -> Result<Stage<'a>> {
        let mut record = Record::begin("demo", self.flavor, self.nodes, 1, 1);
        let setup = Setup {
            run_dir,
            install,
            net,
            product: &self.product,
            shape: self.shape.clone(),
            nodes: self.nodes,
            name: "demo".into(),
            env: Vec::new(),
            seed: u64::from(std::process::id()),
            pause_dir: None,
            depth: Depth::Light,
            terms: Terms::default(),
        };
        Stage::set(setup, &mut record).await
    }

    /// Starts everything, prints the commands to try, and waits to be interrupted.
    pub async fn up(&self, run_dir: &RunDir) -> Result<()> {
        let (install, net) = (install::ensure(self.flavor)?, Net::loopback());
        let stage = self.stage(run_dir, &install, &net).await?;
        self.leave_running(&stage).await
    }

    /// One failover from beginning to end, told as it happens.
    pub async fn demo(&self, run_dir: &RunDir, keep: bool) -> Result<()> {
        let (install, net) = (install::ensure(self.flavor)?, Net::loopback());
        say(&format!(
            "Starting {} nodes, and {} {}: one primary, three replicas.",
            self.nodes, self.flavor, install.version
        ));
        let mut stage = self.stage(run_dir, &install, &net).await?;
        let cluster = stage.primary().address();
        say("The topology, as the group sees it. A client writes to the primary every 5 ms.");
        self.print(&stage, &["topology", &cluster])?;

        say(&format!("Killing the primary {cluster} (kill -9).",));
        let newest =
            stage.group.events().await?.iter().filter_map(|e| e["index"].as_u64()).max().unwrap_or(0);
        let from = (newest + 1).to_string();
        let follow =
            self.command(&stage, &["events", "--follow", "--from", &from]).stdin(Stdio::null()).spawn();
        let since = stage.mark_fault();
        stage.primary().kill().await?;
        stage.await_recovery(&[1], since).await?;
        stage.read_event_times(&gather::events(&stage.group).await.unwrap_or_default());
        if let Ok(mut follow) = follow {
            // One moment for the last line to be printed.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = follow.kill();
            let _ = follow.wait();
        }
        let record = &stage.record;
        if record.outcome != Outcome::Recovered {
            anyhow::bail!("the primary was not replaced: {}\n{}", record.reason, stage.group.log_tails());
        }
        let at = |t: Option<f64>| t.map_or("-".to_string(), |t| format!("{t:.0} ms"));
        say("Replaced. Milliseconds from the kill:");
        println!("  seen dead by the first node   {}", at(record.detected_ms));
        println!("  recovery committed            {}", at(record.started_ms));
        println!("  new primary accepts writes    {}", at(record.writable_ms));
        println!("  the client's first new write  {}", at(record.first_write_ms));
        println!("  every replica follows it      {}", at(record.repointed_ms));
        let now = stage.primary().address();
        self.wait_calm(&stage).await;
        self.print(&stage, &["topology", &now])?;

        say("A second automatic failover is blocked until a person has looked.");
        self.print(&stage, &["clusters"])?;
        say("Acknowledging.");
        self.print(&stage, &["ack", "--cluster", &now, "--comment", "demo"])?;

        say("The old primary comes back, writable, as its init system would start it.");
        stage
            .old_primary_returns(1, async |stage| {
                let old = stage.topology.server(1);
                old.launch(stage.run_dir)?;
                old.wait_answer().await.map(|()| None)
            })
            .await?;
        let acked = stage.record.returned_acks_ms.unwrap_or(0.0);
        let quarantined = stage.topology.server(1).replica_status().await.is_none_or(|s| s.source != now);
        let fate = if quarantined {
            "quarantined: it holds writes that never left it"
        } else {
            "rejoined as a replica"
        };
        println!("  it accepted writes for {acked:.0} ms, was fenced, and is {fate}");
        self.wait_calm(&stage).await;
        self.print(&stage, &["topology", &now])?;
        for violation in &stage.record.violations {
            println!("  NOT AS PROMISED: {violation}");
        }
        if keep {
            return self.leave_running(&stage).await;
        }
        say("Done; everything is stopped and removed.");
        if stage.record.violations.is_empty() {
            Ok(())
        } else {
            anyhow::bail!("the demo did not end as promised")
        }
    }

    /// Gives the group a moment to look at every server again, so that what is printed is what is true by now.
    async fn wait_calm(&self, stage: &Stage<'_>) {
        let _ = wait::every(
            Duration::from_millis(100),
            "a cluster without problems",
            Duration::from_secs(5),
            async || {
                let clusters = stage.group.json(&["clusters"]).await.ok()?;
                clusters
                    .as_array()?
                    .iter()
                    .all(|c| c["problems"].as_array().is_none_or(Vec::is_empty))
                    .then_some(())
            },
        )
        .await;
    }

    async fn leave_running(&self, stage: &Stage<'_>) -> Result<()> {
        let program = self.product.program.display();
        let primary = stage.primary();
        say("Running. In another shell:");
        println!("  export QUORATE_ENDPOINTS={}", stage.group.endpoints().join(","));
        for verb in [
            "nodes status",
            "clusters",
            &format!("topology {}", primary.address()),
            "recoveries",
            "events --follow",
        ] {
            println!("  {program} {verb}");
        }
        println!("  {program} switchover {}", primary.address());
        for server in &stage.topology.servers {
            if let Some(process) = server.process() {
                println!("  kill -9 {}    # {server}", process.pid());
            }
        }
        for node in &stage.group.nodes {
            if let Some(process) = node.process() {
                println!("  kill -9 {}    # node {}, log {}", process.pid(), node.id, node.log().display());
            }
        }
        say("Ctrl-C stops and removes everything.");
        std::future::pending().await
    }

    fn command(&self, stage: &Stage<'_>, words: &[&str]) -> Command {
        let mut command = Command::new(&self.product.program);
        for endpoint in stage.group.endpoints() {
            command.args(["--endpoint", &endpoint]);
        }
        command.args(words);
        command
    }

    fn print(&self, stage: &Stage<'_>, words: &[&str]) -> Result<()> {
        println!("$ quorate {}", words.join(" "));
        let status = self.command(stage, words).stdin(Stdio::null()).status().context("run quorate")?;
        anyhow::ensure!(status.success(), "quorate {}: {status}", words.join(" "));
        Ok(())
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}
