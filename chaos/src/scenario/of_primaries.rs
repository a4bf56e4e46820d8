//! Faults of the primary itself, after which another server must take over.

use crate::{
    net::firewall::{self, Cut},
    record::Outcome,
    stage::Stage,
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// SIGKILL.
pub async fn kill(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let since = stage.mark_fault();
    primary.kill().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await
}

/// SIGKILL; once replaced, the old primary is started again as an init system would: writable.
pub async fn kill_and_return(stage: &mut Stage<'_>) -> Result<()> {
    kill(stage).await?;
    if stage.record.outcome != Outcome::Recovered {
        return Ok(());
    }
    stage
        .old_primary_returns(1, async |stage| {
            let old = stage.topology.server(1);
            old.launch(stage.run_dir)?;
            old.wait_answer().await.map(|()| None)
        })
        .await
}

/// SIGSTOP; once replaced, SIGCONT.
pub async fn freeze(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let since = stage.mark_fault();
    primary.signal(Signal::STOP)?;
    primary.process().context("no process")?.wait_stopped().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome != Outcome::Recovered {
        return primary.signal(Signal::CONT);
    }
    stage
        .old_primary_returns(1, async |stage| stage.topology.server(1).signal(Signal::CONT).map(|()| None))
        .await
}

/// The SHUTDOWN statement, as an operator's mistake or a host's reboot.
pub async fn shutdown(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let mut admin = primary.root(Duration::from_secs(5));
    admin.exec("SELECT 1").await?;
    let since = stage.mark_fault();
    // The server may close the connection before it answers.
    let _ = admin.exec("SHUTDOWN").await;
    // The end of the process is the proof; a new primary need not wait for it.
    stage.await_recovery(&[1], since).await?;
    primary.process().context("no process")?.wait_end(Duration::from_secs(30)).await?;
    stage.fault_is_in_place();
    Ok(())
}

/// Every packet dropped; once replaced, healed.
pub async fn partition(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let begun = Instant::now();
    let cut = Cut::off(&primary.place)?;
    let since = stage.date_fault(1, begun);
    cut.wait_hit().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome != Outcome::Recovered {
        return cut.heal();
    }
    // The rule is gone when its tool has ended, some tens of milliseconds after that was started.
    stage.old_primary_returns(1, async |_| cut.heal().map(|()| Some(Instant::now()))).await
}

/// No power: the machine says nothing any more, not even that its processes are gone.
pub async fn power_off(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let leader = stage.group.node(stage.group.leader().await?);
    let with_leader = stage.record.variant.ends_with("leader");
    let begun = Instant::now();
    let mut cuts = vec![Cut::off(&primary.place)?];
    if with_leader {
        cuts.push(Cut::off(&leader.place)?);
    }
    let since = stage.date_fault(1, begun);
    primary.kill().await?;
    if with_leader {
        leader.kill().await?;
    }
    for cut in &cuts {
        cut.wait_hit().await?;
    }
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    firewall::heal(cuts)
}
