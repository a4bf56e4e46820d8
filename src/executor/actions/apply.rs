//! Waiting for the applier, and forgetting a source once everything from it is applied.

use std::time::Duration;

use super::receiver::channel;
use crate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::StepEnd,
    },
    executor::batch::{Run, done},
    mistake::{Mistake, planted},
    model::{
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
    },
    session::literal,
};

/// One wait on the server; an applier that stops with an error is noticed after at most this.
const SLICE: Duration = Duration::from_millis(250);
/// Between two looks where there is nothing on the server to wait for.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// Kept back from the deadline for the last answer, so that the end is known and the session kept.
const RESERVE: Duration = Duration::from_millis(50);

/// Waits until everything received is applied and contains `until`. *Unknown* when the time is over: the applier
/// goes on. *Refused* when it cannot.
pub(super) async fn drain(run: &mut Run<'_>, name: &str, until: &GtidSet) -> Result<StepEnd, StepEnd> {
    let words = run.words()?;
    let mut facts = run.facts().await?;
    let mut started = false;
    loop {
        let Some(channel) = channel(&facts, name) else {
            return match facts.executed.contains(until) {
                true => Ok(done(facts)),
                false => Err(run.refuse(format!(
                    "there is no such channel, and {} is missing",
                    until.subtract(&facts.executed)
                ))),
            };
        };
        if facts.executed.contains(until) && is_applied(&facts, channel) {
            return Ok(done(facts));
        }
        if !channel.applier_running {
            cannot_apply(run, &facts, channel, started)?;
            started = true;
            facts = run.change_all(&[words.verb("START", "SQL_THREAD", name)]).await?;
            continue;
        }
        let Some(slice) = slice(run) else {
            return Err(run.unknown(format!("still applying: {}", missing(&facts, channel, until))));
        };
        let mut goal = until.clone();
        goal.merge(&channel.received);
        if facts.executed.contains(&goal.position()) {
            // There by its names, and the relay log not at its end yet: the server would answer at once, over and over.
            tokio::time::sleep(LOOK_AFTER).await;
        }
        facts = run.look(&[wait_for(&goal, slice)]).await?;
    }
}

/// Starts a stopped applier and waits until it has applied `received`, what had come until then. One that stops again is found
/// out while the receiver still runs: with both stopped, MariaDB would delete what is left at the next start.
pub(super) async fn start_applier(
    run: &mut Run<'_>,
    name: &str,
    received: &GtidSet,
) -> Result<ServerFacts, StepEnd> {
    let words = run.words()?;
    let mut facts = run.change_all(&[words.verb("START", "SQL_THREAD", name)]).await?;
    loop {
        let Some(channel) = channel(&facts, name) else {
            return Err(run.unknown("the channel is gone".to_owned()));
        };
        if !channel.applier_running {
            let why = channel.applier_error.as_ref().map(|(code, text)| format!(": {text} ({code})"));
            return Err(run.refuse(format!("the applier stopped again{}", why.unwrap_or_default())));
        }
        if facts.executed.contains(received) {
            return Ok(facts);
        }
        let Some(slice) = slice(run) else {
            return Err(run.unknown(format!("still applying: {}", missing(&facts, channel, received))));
        };
        facts = run.look(&[wait_for(received, slice)]).await?;
    }
}

/// How long the next wait on the server may be, where there is time for one.
fn slice(run: &Run<'_>) -> Option<Duration> {
    run.left().checked_sub(RESERVE).map(|left| left.min(SLICE)).filter(|slice| !slice.is_zero())
}

/// Whether starting the applier is hopeless or harmful.
fn cannot_apply(run: &Run<'_>, facts: &ServerFacts, channel: &Channel, started: bool) -> Result<(), StepEnd> {
    if start_would_lose(run.flavor(), facts, channel) {
        return Err(run.refuse(
            "both threads are stopped while relay log is not applied: MariaDB would delete it at the start",
        ));
    }
    match &channel.applier_error {
        // It was started by this step and stopped again.
        Some((code, text)) if started => {
            Err(StepEnd::Refused { why: format!("the applier stopped: {text} ({code})") })
        }
        _ => Ok(()),
    }
}

fn missing(facts: &ServerFacts, channel: &Channel, until: &GtidSet) -> String {
    let mut goal = until.clone();
    goal.merge(&channel.received);
    let rest = goal.subtract(&facts.executed);
    match rest.is_empty() {
        true => "relay log not at its end".to_owned(),
        false => format!("{} transactions missing ({rest})", facts.executed.lacks(&goal)),
    }
}

/// A wait on the server's side that ends by itself. Seconds may have a fraction in both functions.
fn wait_for(goal: &GtidSet, slice: Duration) -> String {
    let seconds = slice.as_secs_f64();
    match goal {
        GtidSet::MySql(set) => {
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({},{seconds:.3})", literal(&set.to_string()))
        }
        // It takes one position a domain, and waits for what the applier has reached there.
        GtidSet::MariaDb(set) => {
            format!("SELECT MASTER_GTID_WAIT({},{seconds:.3})", literal(&set.position().to_string()))
        }
    }
}

/// Stops both threads and forgets the source, after all that was received is proven applied. Nothing is stopped
/// before that proof, and the receiver before the second one: what it receives in between would be lost.
pub(super) async fn detach(run: &mut Run<'_>, name: &str, until: &GtidSet) -> Result<StepEnd, StepEnd> {
    let words = run.words()?;
    let mut facts = run.facts().await?;
    prove_applied(run, &facts, name, until)?;
    if channel(&facts, name).is_some_and(|channel| channel.receiver != Receiver::Stopped) {
        facts = run.change_all(&[words.verb("STOP", "IO_THREAD", name)]).await?;
        prove_applied(run, &facts, name, until)?;
    }
    if channel(&facts, name).is_none() {
        if planted(Mistake::StepRerunNotIdempotent) {
            return Err(run.refuse("there is no such channel"));
        }
        run.note("there is no such channel");
        return Ok(done(facts));
    }
    let after = run.change_all(&[words.verb("STOP", "", name), words.reset_all(name)]).await?;
    match channel(&after, name) {
        None => Ok(done(after)),
        Some(_) => Err(run.unknown("the channel is still there".to_owned())),
    }
}

fn prove_applied(run: &Run<'_>, facts: &ServerFacts, name: &str, until: &GtidSet) -> Result<(), StepEnd> {
    if !facts.executed.contains(until) {
        return Err(run.refuse(format!("not applied yet: {}", until.subtract(&facts.executed))));
    }
    match channel(facts, name) {
        Some(found) if !is_applied(facts, found) => {
            Err(run.refuse(format!("relay log is not applied: {}", missing(facts, found, until))))
        }
        _ => Ok(()),
    }
}
