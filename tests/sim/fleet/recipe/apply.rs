//! `src/executor/actions/apply.rs`.

use std::sync::Arc;

use quorate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::StepEnd,
    },
    model::{
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
    },
};

use super::super::statement::{Statement, Thread};
use super::{Run, Wire, channel, done};

/// One wait on the server, milliseconds.
const SLICE_MS: u64 = 250;
/// Between two looks where there is nothing on the server to wait for, milliseconds.
const LOOK_AFTER_MS: u64 = 5;
/// Kept back from the deadline for the last answer, milliseconds.
const RESERVE_MS: u64 = 50;

impl<W: Wire> Run<'_, W> {
    pub(super) async fn drain(&mut self, name: &str, until: &GtidSet) -> Result<StepEnd, StepEnd> {
        let mut facts = self.facts().await?;
        let mut started = false;
        loop {
            let Some(found) = channel(&facts, name) else {
                return match facts.executed.contains(until) {
                    true => Ok(done(facts)),
                    false => {
                        let missing = until.subtract(&facts.executed);
                        Err(self.refuse(format!("there is no such channel, and {missing} is missing")))
                    }
                };
            };
            if facts.executed.contains(until) && is_applied(&facts, found) {
                return Ok(done(facts));
            }
            if !found.applier_running {
                self.cannot_apply(&facts, found, started)?;
                started = true;
                facts = self.change_all(&[Statement::Start(name.to_owned(), Thread::Applier)]).await?;
                continue;
            }
            let slice = self.slice_ms();
            if slice == 0 {
                return Err(self.unknown(format!("still applying: {}", missing(&facts, found, until))));
            }
            let mut goal = until.clone();
            goal.merge(&found.received);
            if facts.executed.contains(&goal.position()) {
                self.wire.sleep(LOOK_AFTER_MS).await;
            }
            facts = self.look(&[Statement::WaitForGtids(goal.position(), slice)]).await?;
        }
    }

    /// Starts a stopped applier and waits until it has applied `received`, or has stopped again.
    pub(super) async fn start_applier(
        &mut self,
        name: &str,
        received: &GtidSet,
    ) -> Result<Arc<ServerFacts>, StepEnd> {
        let mut facts = self.change_all(&[Statement::Start(name.to_owned(), Thread::Applier)]).await?;
        loop {
            let Some(found) = channel(&facts, name) else { return Err(self.unknown("the channel is gone")) };
            if !found.applier_running {
                let why = found.applier_error.as_ref().map(|(code, text)| format!(": {text} ({code})"));
                return Err(self.refuse(format!("the applier stopped again{}", why.unwrap_or_default())));
            }
            if facts.executed.contains(received) {
                return Ok(facts);
            }
            let slice = self.slice_ms();
            if slice == 0 {
                return Err(self.unknown(format!("still applying: {}", missing(&facts, found, received))));
            }
            facts = self.look(&[Statement::WaitForGtids(received.position(), slice)]).await?;
        }
    }

    /// How long the next wait on the server may be; zero where there is no time for one.
    fn slice_ms(&self) -> u64 {
        self.wire.left_ms().saturating_sub(RESERVE_MS).min(SLICE_MS)
    }

    fn cannot_apply(&self, facts: &ServerFacts, channel: &Channel, started: bool) -> Result<(), StepEnd> {
        if start_would_lose(self.flavor(), facts, channel) {
            return Err(self.refuse(
                "both threads are stopped while relay log is not applied: MariaDB would delete it at the start",
            ));
        }
        match &channel.applier_error {
            Some((code, text)) if started => {
                Err(StepEnd::Refused { why: format!("the applier stopped: {text} ({code})") })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn detach(&mut self, name: &str, until: &GtidSet) -> Result<StepEnd, StepEnd> {
        let mut facts = self.facts().await?;
        self.prove_applied(&facts, name, until)?;
        if channel(&facts, name).is_some_and(|channel| channel.receiver != Receiver::Stopped) {
            facts = self.change_all(&[Statement::Stop(name.to_owned(), Thread::Receiver)]).await?;
            self.prove_applied(&facts, name, until)?;
        }
        if channel(&facts, name).is_none() {
            self.note("there is no such channel");
            return Ok(done(facts));
        }
        let statements =
            [Statement::Stop(name.to_owned(), Thread::Both), Statement::ResetAll(name.to_owned())];
        let after = self.change_all(&statements).await?;
        match channel(&after, name) {
            None => Ok(done(after)),
            Some(_) => Err(self.unknown("the channel is still there")),
        }
    }

    fn prove_applied(&self, facts: &ServerFacts, name: &str, until: &GtidSet) -> Result<(), StepEnd> {
        if !facts.executed.contains(until) {
            return Err(self.refuse(format!("not applied yet: {}", until.subtract(&facts.executed))));
        }
        match channel(facts, name) {
            Some(found) if !is_applied(facts, found) => {
                Err(self.refuse(format!("relay log is not applied: {}", missing(facts, found, until))))
            }
            _ => Ok(()),
        }
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
