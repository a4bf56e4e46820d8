//! How a run that may end in several ways came to rest.

use crate::{
    record::Outcome,
    stage::{RECOVER_WITHIN, Stage, millis},
    wait,
};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Nothing must have changed for so long: another recovery would have begun within it.
const QUIET: Duration = Duration::from_secs(3);
/// A client's last write is not older.
const RECENT: Duration = Duration::from_millis(500);

/// Waits until every recovery has ended and clients write to the primary that the group names, for a while. The outcome
/// is that of the newest recovery; without one, nothing. A run that does not come to rest has failed.
pub async fn come_to_rest(stage: &mut Stage<'_>) -> Result<()> {
    let mut last = String::new();
    let mut seen: Option<(Rest, Instant)> = None;
    let rest =
        wait::every(Duration::from_millis(50), "the group to come to rest", RECOVER_WITHIN, async || {
            let now = at_rest(stage).await.inspect_err(|why| last = why.clone()).ok();
            match (&seen, now) {
                (Some((before, since)), Some(now)) if *before == now => {
                    return (since.elapsed() >= QUIET).then_some(now);
                }
                (_, now) => seen = now.map(|now| (now, Instant::now())),
            }
            None
        })
        .await;
    match rest {
        Ok(rest) => {
            stage.primary = rest.primary;
            stage.record.outcome = match rest.newest.as_deref() {
                None => Outcome::Nothing,
                Some("succeeded") => Outcome::Recovered,
                Some("cancelled") => Outcome::Cancelled,
                Some(_) => Outcome::Failed,
            };
            stage.record.first_write_ms = stage.fault.and_then(|fault| {
                let first = stage.client().first_elsewhere(1, fault)?;
                Some(millis(first.at.saturating_duration_since(fault)))
            });
        }
        Err(error) => {
            stage.record.outcome = Outcome::Failed;
            stage.record.reason = format!("{}; {error:#}; {last}", stage.record.reason);
        }
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rest {
    primary: usize,
    recoveries: usize,
    newest: Option<String>,
}

async fn at_rest(stage: &Stage<'_>) -> Result<Rest, String> {
    let recoveries = stage.group.recoveries().await.map_err(|e| format!("{e:#}"))?;
    if let Some(open) = recoveries.iter().find(|r| r.state == "running") {
        return Err(format!("recovery {} is running", open.id));
    }
    let clusters = stage.group.json(&["clusters"]).await.map_err(|e| format!("{e:#}"))?;
    let address = clusters[0]["primary"].as_str().unwrap_or_default().to_owned();
    let named = stage.topology.servers.iter().find(|s| s.address() == address);
    let primary = named.ok_or(format!("no server has the primary's address {address}"))?.number;
    let since = Instant::now() - RECENT;
    if !stage.client().acks().iter().any(|ack| ack.server == primary && ack.sent > since) {
        return Err(format!("no client writes to server {primary}"));
    }
    let newest = recoveries.first().map(|r| r.state.clone());
    Ok(Rest { primary, recoveries: recoveries.len(), newest })
}
