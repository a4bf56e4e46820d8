//! After a run: everything that is left is read, judged by each checker, and put into the record.

use crate::{
    check::{
        self, Finding,
        evidence::Evidence,
        {double, lost},
    },
    gather,
    record::Outcome,
    stage::Stage,
};
use anyhow::Result;

/// What a run left, and what was found in it.
pub struct Judgement {
    /// What it left.
    pub evidence: Evidence,
    /// What each checker said.
    pub findings: Vec<Finding>,
}

/// Stops the clients and completes the record.
pub async fn judge(stage: &mut Stage<'_>) -> Result<Judgement> {
    let acks = stage.take_client()?.stop().await;
    let evidence = gather::evidence(stage, &acks).await?;
    fill(stage, &evidence);
    group_view(stage, &evidence);
    writers_left(stage).await;
    let findings = check::all(&evidence);
    for finding in &findings {
        let record = &mut stage.record;
        let named = finding.violations.iter().map(|text| format!("{}: {text}", finding.check));
        record.violations.extend(named);
        record.notes.extend(finding.notes.iter().cloned());
        record.unchecked.extend(finding.unread.iter().map(|why| format!("{}: {why}", finding.check)));
    }
    Ok(Judgement { evidence, findings })
}

fn fill(stage: &mut Stage<'_>, evidence: &Evidence) {
    stage.read_event_times(evidence.events.as_deref().unwrap_or_default());
    let record = &mut stage.record;
    record.acked_writes = evidence.acks.len();
    record.double_primary_ms = round(double::by_acks(evidence));
    record.double_binlog_ms = round(double::by_binlogs(evidence));
    record.lost_acked_writes = lost::lost(evidence).len();
    record.stray_acked_writes = lost::strays(evidence);
    record.node_rss_mib = evidence.usage.values().map(|usage| usage.rss_kib / 1024).max().unwrap_or(0);
}

fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// What the group recorded about itself, against what was played.
fn group_view(stage: &mut Stage<'_>, evidence: &Evidence) {
    // A group without a majority answers nothing; the scenario says whether that is as it should be.
    let Some(recoveries) = &evidence.recoveries else { return };
    let record = &mut stage.record;
    record.recoveries = recoveries.len();
    for recovery in recoveries {
        let (id, state) = (&recovery["id"], recovery["state"].as_str().unwrap_or_default());
        if !matches!(state, "succeeded" | "failed" | "cancelled") {
            record.violations.push(format!("recovery {id} did not end: {recovery}"));
        }
        let new = recovery["new_primary"].as_str().and_then(|address| evidence.number(address));
        let writes = evidence.acks.iter().any(|ack| Some(ack.server) == new);
        if state == "succeeded" && !writes {
            record.violations.push(format!("recovery {id} reports success, but no client could write there"));
        }
    }
    if record.outcome == Outcome::Nothing && record.recoveries > 0 {
        record.violations.push(format!("{} recoveries where nothing may happen", record.recoveries));
        record.outcome = Outcome::Failed;
    }
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
