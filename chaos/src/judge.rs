//! After a run: what the client was promised against what the servers hold.

use crate::{
    client::{Ack, double_primary},
    record::Outcome,
    server::Server,
    stage::{Stage, millis},
};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(30);

/// Stops the client and completes the record.
pub async fn judge(stage: &mut Stage<'_>) -> Result<()> {
    let acks = stage.take_client()?.stop().await;
    stage.record.acked_writes = acks.len();
    stage.record.double_primary_ms = millis(double_primary(&acks, stage.topology.servers.len()));
    group_view(stage).await;
    writes(stage, &acks).await?;
    writers_left(stage).await;
    Ok(())
}

/// What the group recorded about itself.
async fn group_view(stage: &mut Stage<'_>) {
    let recoveries = match stage.group.recoveries().await {
        Ok(recoveries) => recoveries,
        // A group without a majority answers nothing; the scenario says whether that is as it should be.
        Err(_) => return,
    };
    stage.record.recoveries = recoveries.len();
    if let Err(error) = stage.read_event_times().await {
        stage.record.violations.push(format!("events cannot be read: {error:#}"));
    }
    let record = &mut stage.record;
    for recovery in recoveries {
        if !matches!(recovery.state.as_str(), "succeeded" | "failed" | "cancelled") {
            record.violations.push(format!("recovery {} did not end: {}", recovery.id, recovery.raw));
        }
        if recovery.state == "succeeded" && record.first_write_ms.is_none() {
            record
                .violations
                .push(format!("recovery {} reports success, but no client could write", recovery.id));
        }
    }
    if record.outcome == Outcome::Nothing && record.recoveries > 0 {
        record.violations.push(format!("{} recoveries where nothing may happen", record.recoveries));
        record.outcome = Outcome::Failed;
    }
}

/// Every acknowledged write is looked up on the server that is primary now.
async fn writes(stage: &mut Stage<'_>, acks: &[Ack]) -> Result<()> {
    let primary = stage.primary();
    if primary.process().is_none_or(|p| p.ended() || p.state() == Some('T')) {
        // Nothing was promoted and the primary is down: there is nobody to ask.
        return Ok(());
    }
    let held = ids(&primary).await.with_context(|| format!("look up the writes on {primary}"))?;
    let lost: Vec<&Ack> = acks.iter().filter(|a| !held.contains(&a.id)).collect();
    stage.record.lost_acked_writes = lost.len();
    let taken_over = acks.iter().filter(|a| a.server == primary.number).map(|a| a.at).min();
    let is_stray = |a: &&&Ack| taken_over.is_some_and(|t| a.at > t && a.server != primary.number);
    stage.record.stray_acked_writes = lost.iter().filter(is_stray).count();
    let promised = stage.semi_sync || stage.record.scenario == "switchover" || stage.primary == 1;
    if promised && !lost.is_empty() {
        stage.record.violations.push(format!("{} acknowledged writes are missing on {primary}", lost.len()));
    }
    for server in stage.topology.others(stage.primary) {
        // The first primary may hold what never left it.
        if server.number == 1 {
            continue;
        }
        let Ok(there) = ids(&server).await else { continue };
        let more = lost.iter().filter(|a| there.contains(&a.id)).count();
        if more > 0 {
            stage
                .record
                .violations
                .push(format!("{server} had received {more} acknowledged writes that {primary} lacks"));
        }
    }
    // What is lost must be the end of what one server acknowledged, never a hole.
    let last_held = |server: usize| {
        acks.iter().filter(|a| a.server == server && held.contains(&a.id)).map(|a| a.id).max()
    };
    let holes = lost.iter().filter(|a| last_held(a.server).is_some_and(|id| id > a.id)).count();
    if holes > 0 {
        stage.record.violations.push(format!(
            "{holes} acknowledged writes are missing on {primary} though later ones are there"
        ));
    }
    Ok(())
}

/// At the end at most one server may accept writes.
async fn writers_left(stage: &mut Stage<'_>) {
    let mut writable = Vec::new();
    for server in &stage.topology.servers {
        let answers = server.process().is_some_and(|p| !p.ended() && p.state() != Some('T'));
        if answers && server.is_read_only().await == Some(false) {
            writable.push(server.number);
        }
    }
    if writable.len() > 1 {
        stage.record.violations.push(format!("servers {writable:?} all accept writes at the end"));
    }
}

async fn ids(server: &Server) -> Result<BTreeSet<i64>> {
    let column = server.root(PATIENT).column("SELECT id FROM app.writes").await?;
    Ok(column.iter().filter_map(|id| id.parse().ok()).collect())
}
