//! Playing one case: the primary dies, the leader is stopped at its point, and the rest of the group goes on.

use super::{After, Case, Fate};
use crate::{
    check::evidence::Thawed,
    net::firewall::Cut,
    node::Node,
    pause,
    record::Outcome,
    server::Server,
    stage::{RECOVER_WITHIN, Stage},
    wait, wall,
};
use anyhow::{Context, Result};
use rand::Rng;
use rustix::process::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the others are cut off from the candidate: long enough for an election and for what a successor tries.
const CUT_FOR: Duration = Duration::from_secs(6);
/// From here on a frozen leader is thawed in the midst of that.
const THAWED_AFTER: Duration = Duration::from_millis(2_500);
/// How long a thawed node is watched: its own deadlines are over then.
const WATCHED: Duration = Duration::from_secs(4);

impl Case {
    /// Plays it.
    pub async fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        let preferred = preferred(stage).await?;
        stage.mark_fault();
        stage.primary().kill().await?;
        let leader = pause::held(stage, &self.point()).await?;
        let cuts = match self.after {
            After::CutOff => cut_off(stage, &leader, &preferred).await?,
            _ => Vec::new(),
        };
        self.stop(stage, &leader).await?;
        for cut in &cuts {
            cut.wait_hit().await?;
        }
        stage.fault_is_in_place();
        stage.record.reason = format!("node {} held at {}", leader.id, self.point());
        match (self.fate, self.after) {
            (Fate::Killed, After::Back) => {
                start_again(stage, &leader)?;
                settle(stage).await?;
            }
            (Fate::Killed, _) => {
                heal(stage, cuts, CUT_FOR).await?;
                settle(stage).await?;
                start_again(stage, &leader)?;
            }
            (Fate::Frozen, After::Back) => {
                let moment = Duration::from_millis(stage.rng.random_range(100..1_500));
                tokio::time::sleep(moment).await;
                thaw(stage, &leader)?;
                settle(stage).await?;
            }
            (Fate::Frozen, After::Others) => {
                settle(stage).await?;
                thaw(stage, &leader)?;
                tokio::time::sleep(WATCHED).await;
            }
            (Fate::Frozen, After::CutOff) => {
                tokio::time::sleep(THAWED_AFTER).await;
                thaw(stage, &leader)?;
                heal(stage, cuts, CUT_FOR - THAWED_AFTER).await?;
                settle(stage).await?;
            }
        }
        stage.group.wait_ready().await.context("with all nodes back")
    }

    /// Stops the leader, sees it stopped, and lets nobody pause any more.
    async fn stop(&self, stage: &mut Stage<'_>, leader: &Node) -> Result<()> {
        match self.fate {
            Fate::Killed => leader.kill().await?,
            Fate::Frozen => {
                leader.signal(Signal::STOP)?;
                leader.process().context("no process")?.wait_stopped().await?;
            }
        }
        let how = if self.fate == Fate::Killed { "killed" } else { "frozen" };
        stage.say(format!("node {} is {how}", leader.id));
        pause::go_on(stage)
    }
}

fn start_again(stage: &mut Stage<'_>, leader: &Node) -> Result<()> {
    stage.say(format!("node {} is started again", leader.id));
    leader.launch(stage.run_dir)
}

fn thaw(stage: &mut Stage<'_>, leader: &Node) -> Result<()> {
    stage.say(format!("node {} is thawed", leader.id));
    stage.thawed.push(Thawed { node: leader.id, at_ms: wall::now() });
    leader.signal(Signal::CONT)
}

/// The candidate that would be chosen now, as the group says.
async fn preferred(stage: &Stage<'_>) -> Result<String> {
    let plan = stage.group.json(&["plan", &stage.primary().address()]).await?;
    plan["new_primary"].as_str().map(str::to_owned).with_context(|| format!("no candidate: {plan}"))
}

/// Cuts every node but the leader off from the candidate: the one that was decided on, or the one that would be.
async fn cut_off(stage: &mut Stage<'_>, leader: &Node, preferred: &str) -> Result<Vec<Cut>> {
    let decided = stage.group.recoveries().await.ok();
    let decided = decided.and_then(|list| list.into_iter().find(|r| r.state == "running")?.new_primary);
    let candidate = decided.unwrap_or_else(|| preferred.to_owned());
    let server = stage.topology.servers.iter().find(|server| server.address() == candidate);
    let ip = server.context("the candidate is no server of the rig")?.place.ip;
    let others = stage.group.nodes.iter().filter(|node| node.id != leader.id);
    let cuts = others.map(|node| Cut::between(&node.place, &[ip])).collect::<Result<Vec<_>>>()?;
    stage.say(format!("every node but {} is cut off from {candidate}", leader.id));
    Ok(cuts)
}

async fn heal(stage: &mut Stage<'_>, cuts: Vec<Cut>, after: Duration) -> Result<()> {
    if cuts.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(after).await;
    for cut in cuts {
        cut.heal()?;
    }
    stage.say("the candidate can be reached again");
    Ok(())
}

/// Waits until nothing is going on any more: the last recovery succeeded, clients write to the group's primary, and every
/// server that runs follows it, but for those that the record says a person must re-point. More than one recovery may be
/// needed, and the first choice may not be the last.
async fn settle(stage: &mut Stage<'_>) -> Result<()> {
    let mut last = String::new();
    let settled = wait::every(
        Duration::from_millis(50),
        "a new primary, and nothing running",
        RECOVER_WITHIN,
        async || {
            let end = end_of(stage).await;
            end.map_err(|why| last = why).ok()
        },
    )
    .await;
    match settled {
        Ok(primary) => {
            stage.primary = primary;
            stage.record.outcome = Outcome::Recovered;
            times(stage);
        }
        Err(error) => {
            let newest = stage.group.recoveries().await.ok().and_then(|list| list.into_iter().next());
            stage.record.outcome = match newest.map(|r| r.state).as_deref() {
                Some("cancelled") => Outcome::Cancelled,
                _ => Outcome::Failed,
            };
            stage.record.reason = format!("{}; {error:#}; {last}", stage.record.reason);
        }
    }
    Ok(())
}

/// Number of the settled primary, or what is still open.
async fn end_of(stage: &Stage<'_>) -> Result<usize, String> {
    let recoveries = stage.group.recoveries().await.map_err(|e| format!("{e:#}"))?;
    let newest = recoveries.first().ok_or("no recovery yet")?;
    if let Some(open) = recoveries.iter().find(|r| r.state == "running") {
        return Err(format!("recovery {} is running", open.id));
    }
    if newest.state != "succeeded" {
        return Err(format!("recovery {} {}: {}", newest.id, newest.state, newest.reason));
    }
    let address = newest.new_primary.clone().unwrap_or_default();
    let servers = &stage.topology.servers;
    let primary = servers.iter().find(|s| s.address() == address).ok_or(format!("no server {address}"))?;
    let since = Instant::now() - Duration::from_millis(500);
    if !stage.client().acks().iter().any(|ack| ack.server == primary.number && ack.sent > since) {
        return Err(format!("no client writes to {primary}"));
    }
    let left = |server: &Server| newest.left_behind.contains(&server.address());
    let bound = |s: &&Arc<Server>| s.number != primary.number && s.number != 1 && !left(s);
    for replica in servers.iter().filter(bound) {
        let status = replica.replica_status().await;
        if !status.as_ref().is_some_and(|s| s.source == address && s.is_running()) {
            return Err(format!("{replica} does not follow {address}: {status:?}"));
        }
    }
    Ok(primary.number)
}

/// The record's times, from what the clients and the watch saw.
fn times(stage: &mut Stage<'_>) {
    let Some(fault) = stage.fault else { return };
    let ms = |at: Instant| crate::stage::millis(at.saturating_duration_since(fault));
    let write = stage.client().first_elsewhere(1, fault).map(|ack| ms(ack.at));
    let writable = stage.watch().first_writable_elsewhere(1, fault).map(|change| ms(change.at));
    let record = &mut stage.record;
    record.first_write_ms = write;
    record.writable_ms = writable.map(|at| write.map_or(at, |write| at.min(write)));
    record.repointed_ms = Some(ms(Instant::now()));
}
