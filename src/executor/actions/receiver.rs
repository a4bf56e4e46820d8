//! Stopping and starting the receiver, and the statements that name a channel.

use super::sessions::{self, Others};
use crate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::StepEnd,
    },
    executor::batch::{Run, Stopped, done},
    model::{
        facts::{Channel, Receiver, ServerFacts},
        server::{Flavor, Version},
    },
    session::literal,
};

/// The channel does not exist (MySQL).
const NO_SUCH_CHANNEL: u16 = 3074;
/// There is no such connection (MariaDB), or the server is no replica at all.
const NO_CONNECTION: [u16; 2] = [1617, 1200];

/// Replication statements of one flavour and version. Every one names its channel.
pub(super) struct Words {
    flavor: Flavor,
    /// `REPLICA` since MySQL 8.0.22 (`START SLAVE` and its kin are gone in 8.4).
    noun: &'static str,
}

impl Words {
    pub(super) fn new(flavor: Flavor, version: &Version) -> Self {
        let new = flavor == Flavor::MySql && version.at_least((8, 0, 22));
        Self { flavor, noun: if new { "REPLICA" } else { "SLAVE" } }
    }

    /// `START`/`STOP` of `thread` (`IO_THREAD`, `SQL_THREAD`, or both when empty).
    pub(super) fn verb(&self, verb: &str, thread: &str, channel: &str) -> String {
        let (noun, name) = (self.noun, literal(channel));
        match self.flavor {
            Flavor::MySql => format!("{verb} {noun} {thread} FOR CHANNEL {name}"),
            Flavor::MariaDb => format!("{verb} SLAVE {name} {thread}"),
        }
    }

    /// Forgets the source altogether.
    pub(super) fn reset_all(&self, channel: &str) -> String {
        let (noun, name) = (self.noun, literal(channel));
        match self.flavor {
            Flavor::MySql => format!("RESET {noun} ALL FOR CHANNEL {name}"),
            Flavor::MariaDb => format!("RESET SLAVE {name} ALL"),
        }
    }
}

impl Run<'_> {
    pub(super) fn words(&self) -> Result<Words, StepEnd> {
        Ok(Words::new(self.flavor(), &self.profile()?.version))
    }
}

/// The channel of that name.
pub(super) fn channel<'a>(facts: &'a ServerFacts, name: &str) -> Option<&'a Channel> {
    facts.channels.iter().find(|channel| channel.name.eq_ignore_ascii_case(name))
}

/// Whether the server says that the channel is not there.
pub(super) fn is_no_channel(stopped: &Stopped) -> bool {
    let Stopped::At(_, error) = stopped else { return false };
    error.code().is_some_and(|code| code == NO_SUCH_CHANNEL || NO_CONNECTION.contains(&code))
}

/// Stops the receiver, for good: what another node had sent to start it again, before this recovery began, has landed by then
/// or never will. The facts are those after that.
pub(super) async fn stop(run: &mut Run<'_>, name: &str) -> Result<StepEnd, StepEnd> {
    let others = Others::unless_gone(run);
    let (facts, seen) = stop_once(run, name, &others).await?;
    let (facts, killed) = others.end(run, facts, seen).await?;
    if killed == 0 {
        return Ok(done(facts));
    }
    run.note(format!("ended {killed} executor sessions of other nodes"));
    match channel(&facts, name).is_none_or(|channel| channel.receiver == Receiver::Stopped) {
        true => Ok(done(facts)),
        false => {
            run.note("one of them had started the receiver again");
            Ok(done(stop_once(run, name, &others).await?.0))
        }
    }
}

/// The facts after the stop, and which sessions of other nodes were there.
async fn stop_once(
    run: &mut Run<'_>,
    name: &str,
    others: &Others,
) -> Result<(ServerFacts, Vec<u64>), StepEnd> {
    let words = run.words()?;
    if run.flavor() == Flavor::MariaDb {
        let (facts, seen) = others.look(run).await?;
        let Some(channel) = channel(&facts, name) else { return Ok(nothing_received(run, facts, seen)) };
        if channel.receiver == Receiver::Stopped {
            run.note("the receiver was stopped already");
            return Ok((facts, seen));
        }
        if !channel.applier_running && !is_applied(&facts, channel) {
            // With the receiver running this keeps the relay log; after the stop it would delete it.
            run.change_all(&[words.verb("START", "SQL_THREAD", name)]).await?;
            run.note("started the applier first: relay log was not applied");
        }
    }
    match others.after(run, &[words.verb("STOP", "IO_THREAD", name)]).await {
        Ok(after) => Ok(after),
        Err(stopped) if is_no_channel(&stopped) => {
            let (facts, seen) = others.look(run).await?;
            Ok(nothing_received(run, facts, seen))
        }
        Err(stopped) => Err(run.ended(stopped)),
    }
}

fn nothing_received(run: &mut Run<'_>, facts: ServerFacts, seen: Vec<u64>) -> (ServerFacts, Vec<u64>) {
    run.note("there is no such channel: nothing is received");
    (facts, seen)
}

/// Starts the receiver, for good: no stop that another node had sent lands behind it.
pub(super) async fn start(run: &mut Run<'_>, name: &str) -> Result<StepEnd, StepEnd> {
    let words = run.words()?;
    let facts = sessions::alone(run).await?;
    if channel(&facts, name).is_some_and(|channel| start_would_lose(run.flavor(), &facts, channel)) {
        return Err(run.refuse(
            "both threads are stopped while relay log is not applied: MariaDB would delete it at the start",
        ));
    }
    let after = run.change_all(&[words.verb("START", "IO_THREAD", name)]).await?;
    Ok(done(after))
}

/// Stops the receiver and starts it, in one round trip: whatever becomes of this node, the server goes on to the start.
/// MariaDB deletes relay log when a receiver is started beside a stopped applier, which may stop by itself in between:
/// so nothing may be left to apply.
pub(super) async fn restart(run: &mut Run<'_>, name: &str) -> Result<StepEnd, StepEnd> {
    let words = run.words()?;
    let facts = run.facts().await?;
    let Some(channel) = channel(&facts, name) else { return Err(run.refuse("there is no such channel")) };
    if channel.receiver == Receiver::Stopped {
        return Err(run.refuse("its receiver does not run"));
    }
    if !channel.applier_running {
        return Err(run.refuse("its applier does not run"));
    }
    if run.flavor() == Flavor::MariaDb && !is_applied(&facts, channel) {
        return Err(run.refuse("it has not applied all that it received"));
    }
    let statements = [words.verb("STOP", "IO_THREAD", name), words.verb("START", "IO_THREAD", name)];
    Ok(done(run.change_all(&statements).await?))
}
