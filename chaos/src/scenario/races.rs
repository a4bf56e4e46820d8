//! People and the group, or two people, want something at the same moment.

use super::rest::come_to_rest;
use crate::{record::Outcome, stage::Stage};
use anyhow::{Context, Result, anyhow};
use rand::Rng;
use std::time::{Duration, Instant};

/// Between two things that happen at once.
const AT_ONCE_MS: u64 = 300;

/// H1: two operators change the primary at once, each to a server of his own. One after the other, or one is refused.
pub async fn two_operators(stage: &mut Stage<'_>) -> Result<()> {
    let address = stage.primary().address();
    let (one, other) = (stage.topology.server(2).address(), stage.topology.server(3).address());
    stage.mark_fault();
    stage.fault_is_in_place();
    // By force nobody in particular: one that lags by a write would be refused, and rightly.
    let by_force = stage.record.variant == "by force";
    let words = |to| -> Vec<&str> {
        match by_force {
            true => vec!["failover", &address, "--waive", "verdict"],
            false => vec!["switchover", &address, "--to", to],
        }
    };
    let (to_one, to_other) = (words(&one), words(&other));
    let (first, second) = tokio::join!(stage.group.verb(&to_one), stage.group.verb(&to_other));
    for (code, said) in [first?, second?] {
        stage.say(format!("exit code {code}: {}", said.trim()));
        if !matches!(code, 0 | 1) {
            stage.record.violations.push(format!("exit code {code}: {}", said.trim()));
        }
    }
    come_to_rest(stage).await
}

/// H2: an operator changes the primary while it dies. One new primary comes of it.
pub async fn switchover_and_death(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let address = primary.address();
    let moment = Duration::from_millis(stage.rng.random_range(0..AT_ONCE_MS));
    let since = stage.mark_fault();
    let change = ["switchover", address.as_str()];
    let (asked, killed) = tokio::join!(stage.group.verb(&change), async {
        tokio::time::sleep(moment).await;
        primary.kill().await
    });
    killed?;
    stage.fault_is_in_place();
    let (code, said) = asked?;
    stage.say(format!("the switchover ended with exit code {code}: {}", said.trim()));
    // An undo may have to end, and its back-off, before anything automatic begins.
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome == Outcome::Recovered { come_to_rest(stage).await } else { Ok(()) }
}

/// H3: recoveries are switched off while the primary dies. What was committed first holds.
pub async fn disabled_in_the_act(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    // Both orders: the death is told within some milliseconds, the command takes some tens.
    let (before, after) = match stage.record.variant.as_str() {
        "death first" => (Duration::ZERO, Duration::from_millis(stage.rng.random_range(0..AT_ONCE_MS))),
        _ => (Duration::from_millis(stage.rng.random_range(0..AT_ONCE_MS)), Duration::ZERO),
    };
    stage.mark_fault();
    let off = ["recoveries-enabled", "off", "--why", "a race"];
    let (killed, said) = tokio::join!(
        async {
            tokio::time::sleep(before).await;
            primary.kill().await
        },
        async {
            tokio::time::sleep(after).await;
            stage.group.verb(&off).await
        }
    );
    killed?;
    stage.fault_is_in_place();
    let (code, text) = said?;
    if code != 0 {
        return Err(anyhow!("recoveries-enabled off: exit code {code}: {text}"));
    }
    judge_order(stage).await
}

/// No automatic recovery begins behind the switch in the log; one that began before it comes to its end.
async fn judge_order(stage: &mut Stage<'_>) -> Result<()> {
    // Absence has no fact to wait for: what would begin begins within two of these.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let events = stage.group.events().await?;
    let first = |kind: &str| events.iter().filter(|e| e["kind"] == kind).find_map(|e| e["index"].as_u64());
    let off = first("switched").context("no event of the switch")?;
    match first("recovery_started") {
        Some(start) if start > off => {
            stage.record.violations.push(format!("a recovery began at {start}, behind the switch at {off}"));
            Ok(())
        }
        Some(_) => {
            let since = stage.fault.unwrap_or_else(Instant::now);
            stage.record.reason = "the recovery was first".into();
            stage.await_recovery(&[1], since).await
        }
        None => {
            stage.record.outcome = Outcome::Nothing;
            stage.record.reason = "the switch was first".into();
            Ok(())
        }
    }
}

/// H4: one request is sent again and again, through every node: it is done once, and every answer is of that once.
pub async fn repeated_request(stage: &mut Stage<'_>) -> Result<()> {
    let address = stage.primary().address();
    let since = stage.mark_fault();
    stage.fault_is_in_place();
    let id = format!("rig-{}", stage.record.seed);
    let words = ["--request-id", &id, "switchover", &address];
    let (first, second) = tokio::join!(stage.group.verb(&words), stage.group.verb(&words));
    let third = stage.group.verb(&words).await?;
    let answers = [first?, second?, third];
    for (code, said) in &answers {
        stage.say(format!("exit code {code}: {}", said.trim()));
        if *code != 0 {
            stage.record.outcome = Outcome::Refused;
            stage.record.reason = format!("exit code {code}: {}", said.trim());
            return Ok(());
        }
    }
    stage.await_recovery(&[], since).await?;
    let count = stage.group.recoveries().await?.len();
    if count != 1 {
        stage.record.violations.push(format!("one request became {count} switchovers"));
    }
    Ok(())
}
