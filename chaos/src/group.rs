//! A group of nodes, and what its command line says. Only documented keys of `--json` output are read here.

use crate::{net::Net, node::Node, process, product::Product, run_dir::RunDir, topology::Topology, wait};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Running nodes.
pub struct Group {
    /// In order of their ids, from 1.
    pub nodes: Vec<Arc<Node>>,
    product: Product,
    name: String,
    env: Vec<(String, String)>,
}

/// More than any run has; a list that is not told otherwise ends after fifty.
const EVENTS: &str = "10000";

/// How long a group may take to get going.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One recovery, as `recoveries --json` gives it.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Its id.
    pub id: String,
    /// `running`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// Who is primary after it.
    pub new_primary: Option<String>,
    /// Why it ended as it did.
    pub reason: String,
    /// Addresses of servers that a person must deal with.
    pub left_behind: Vec<String>,
}

impl Group {
    /// Starts the nodes; they know nothing of each other yet.
    pub async fn start(
        run: &RunDir,
        net: &Net,
        product: &Product,
        count: u64,
        name: &str,
        env: &[(String, String)],
    ) -> Result<Group> {
        let mut nodes = Vec::new();
        for id in 1..=count {
            nodes.push(Arc::new(Node::start(run, net, product, id, name, env).await?));
        }
        Ok(Group { nodes, product: product.clone(), name: name.to_owned(), env: env.to_vec() })
    }

    /// A further node, until it votes.
    pub async fn join(&mut self, run: &RunDir, net: &Net) -> Result<Arc<Node>> {
        let id = self.nodes.len() as u64 + 1;
        let node = Arc::new(Node::start(run, net, &self.product, id, &self.name, &self.env).await?);
        let (member, number) = (node.member(), id.to_string());
        // It may not listen yet, nor have caught up: refusals that change nothing.
        for words in [["nodes", "add", &member], ["nodes", "make-voter", &number]] {
            let mut last = String::new();
            let what = format!("`{}` to be accepted", words.join(" "));
            let accepted = wait::every(Duration::from_millis(100), &what, READY_WITHIN, async || {
                self.json(&words).await.inspect_err(|e| last = format!("{e:#}")).ok().map(drop)
            });
            accepted.await.with_context(|| last)?;
        }
        self.nodes.push(node.clone());
        Ok(node)
    }

    /// The node of that id.
    pub fn node(&self, id: u64) -> Arc<Node> {
        self.nodes[id as usize - 1].clone()
    }

    /// Makes a group of them and waits for a leader that every node follows.
    pub async fn init(&self) -> Result<()> {
        let members: Vec<String> = self.nodes.iter().map(|n| n.member()).collect();
        let words: Vec<&str> =
            ["nodes", "init"].into_iter().chain(members.iter().map(String::as_str)).collect();
        let first = [self.nodes[0].endpoint()];
        // The listener may not be up yet (exit code 3), nor those of the others, which it asks: a refusal that changes
        // nothing.
        wait::every(Duration::from_millis(50), "`nodes init` to be accepted", READY_WITHIN, async || {
            match self.run(&first, &words, 10).await {
                Ok((0, _)) => Some(Ok(())),
                Ok((3, _)) if self.nodes[0].is_running() => None,
                Ok((1, said))
                    if said.contains("does not answer") && self.nodes.iter().all(|n| n.is_running()) =>
                {
                    None
                }
                Ok((code, said)) => Some(Err(anyhow::anyhow!("nodes init: exit code {code}: {said}"))),
                Err(e) => Some(Err(e)),
            }
        })
        .await??;
        self.wait_ready().await
    }

    /// Waits for a leader and for every running node to take part.
    pub async fn wait_ready(&self) -> Result<()> {
        let mut last = String::new();
        let ready = wait::every(
            Duration::from_millis(50),
            "a leader and all running nodes",
            READY_WITHIN,
            async || {
                let status =
                    self.json(&["nodes", "status"]).await.inspect_err(|e| last = format!("{e:#}")).ok()?;
                last = status.to_string();
                status.get("leader")?.as_u64()?;
                let nodes = status.get("nodes")?.as_array()?;
                let role = |id: u64| {
                    nodes.iter().find(|n| n["id"].as_u64() == Some(id)).and_then(|n| n["role"].as_str())
                };
                let all = self
                    .nodes
                    .iter()
                    .filter(|n| n.is_member())
                    .all(|n| matches!(role(n.id), Some("leader" | "follower")));
                all.then_some(())
            },
        );
        ready.await.with_context(|| format!("the last answer: {last}"))
    }

    /// The leader's id, as the nodes say.
    pub async fn leader(&self) -> Result<u64> {
        wait::every(Duration::from_millis(20), "a leader", READY_WITHIN, async || {
            self.json(&["nodes", "status"]).await.ok()?.get("leader")?.as_u64()
        })
        .await
    }

    /// Adopts the topology through one of its servers and waits until the group sees all of it, without problems.
    pub async fn discover(&self, topology: &Topology, through: &str) -> Result<()> {
        self.json(&["discover", through]).await?;
        self.wait_settled(&topology.server(1).address(), topology.servers.len()).await
    }

    /// Waits until the cluster has that primary, that many members and no problem.
    pub async fn wait_settled(&self, primary: &str, members: usize) -> Result<()> {
        let mut last = String::new();
        let what = format!("a cluster of {members} under {primary} without problems");
        let settled = wait::every(Duration::from_millis(50), &what, READY_WITHIN, async || {
            let clusters = self.json(&["clusters"]).await.inspect_err(|e| last = format!("{e:#}")).ok()?;
            last = clusters.to_string();
            let cluster = clusters.as_array()?.iter().find(|c| c["primary"] == primary)?;
            let whole = cluster["members"].as_u64() == Some(members as u64);
            (whole && cluster["problems"].as_array().is_none_or(Vec::is_empty)).then_some(())
        });
        settled.await.with_context(|| format!("the last answer: {last}"))
    }

    /// Waits until the one cluster's durability is known to be that.
    pub async fn wait_durability(&self, mode: &str) -> Result<()> {
        let what = format!("the cluster to be known as {mode}");
        wait::every(Duration::from_millis(50), &what, READY_WITHIN, async || {
            let clusters = self.json(&["clusters"]).await.ok()?;
            (clusters[0]["durability"] == mode).then_some(())
        })
        .await
    }

    /// Waits until a failover from `primary` may rest on its ackers: a node saw each of them caught up since its start.
    pub async fn wait_ackers_known(&self, primary: &str) -> Result<()> {
        let plan = ["failover", primary, "--dry-run"];
        wait::every(
            Duration::from_millis(100),
            "a plan that may rest on the ackers",
            READY_WITHIN,
            async || {
                let (_, said) = self.verb(&plan).await.ok()?;
                (!said.contains("POSSIBLE_DATA_LOSS")).then_some(())
            },
        )
        .await
    }

    /// Every recovery, newest first.
    pub async fn recoveries(&self) -> Result<Vec<Recovery>> {
        let list = self.json(&["recoveries"]).await?;
        let text = |v: &Value| {
            v.as_str().map_or_else(|| if v.is_null() { String::new() } else { v.to_string() }, str::to_string)
        };
        Ok(list
            .as_array()
            .into_iter()
            .flatten()
            .map(|r| Recovery {
                id: text(&r["id"]),
                state: text(&r["state"]),
                new_primary: r["new_primary"].as_str().map(str::to_string),
                reason: text(&r["reason"]),
                left_behind: r["left_behind"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|left| text(&left["address"]))
                    .collect(),
            })
            .collect())
    }

    /// Every event so far.
    pub async fn events(&self) -> Result<Vec<Value>> {
        let (code, text) =
            self.run(&self.endpoints(), &["--json", "events", "--from", "0", "--limit", EVENTS], 30).await?;
        if code != 0 {
            bail!("events: exit code {code}: {text}");
        }
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The answer of a verb, as JSON.
    pub async fn json(&self, words: &[&str]) -> Result<Value> {
        let (code, text) = self.verb(words).await?;
        if code != 0 {
            bail!("quorate {}: exit code {code}: {}", words.join(" "), text.trim());
        }
        serde_json::from_str(&text).with_context(|| format!("quorate --json {}: {text}", words.join(" ")))
    }

    /// Exit code and output of a verb with `--json`.
    pub async fn verb(&self, words: &[&str]) -> Result<(i32, String)> {
        let all: Vec<&str> = ["--json"].into_iter().chain(words.iter().copied()).collect();
        self.run(&self.endpoints(), &all, 90).await
    }

    /// Client addresses of the members that run.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().filter(|n| n.is_member()).map(|n| n.endpoint()).collect()
    }

    /// Runs the command line; on failure the output is what it printed as errors.
    async fn run(&self, endpoints: &[String], words: &[&str], seconds: u32) -> Result<(i32, String)> {
        // `timeout`: a client that hangs must not hang the rig.
        let mut command = std::process::Command::new("timeout");
        command.args(["-k", "1", &seconds.to_string()]).arg(&self.product.program);
        for endpoint in endpoints {
            command.args(["--endpoint", endpoint]);
        }
        command.args(words).stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await?.context("run quorate")?;
        let code = output.status.code().unwrap_or(-1);
        let said = if code == 0 { output.stdout } else { [output.stderr, output.stdout].concat() };
        Ok((code, String::from_utf8_lossy(&said).into_owned()))
    }

    /// The last lines of every node's log, for a failing run.
    pub fn log_tails(&self) -> String {
        self.nodes
            .iter()
            .map(|n| format!("--- node {}\n{}\n", n.id, crate::template::tail(&n.log())))
            .collect()
    }

    /// Kills every node, then sees them gone.
    pub async fn kill_all(&self) -> Result<()> {
        for node in &self.nodes {
            if let Some(process) = node.process() {
                let _ = process::stat(process.pid()).map(|_| process.kill());
            }
        }
        for node in &self.nodes {
            if let Some(process) = node.process() {
                process.wait_end(Duration::from_secs(10)).await?;
            }
        }
        Ok(())
    }
}
