//! `src/executor/actions/receiver.rs`.

use std::sync::Arc;

use quorate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::StepEnd,
    },
    model::{
        facts::{Receiver, ServerFacts},
        server::Flavor,
    },
};

use super::super::statement::{Statement, Thread, code};
use super::{Run, Stopped, Wire, channel, done};

const UNAPPLIED: &str =
    "both threads are stopped while relay log is not applied: MariaDB would delete it at the start";

fn is_no_channel(stopped: &Stopped) -> bool {
    let Stopped::At(_, error) = stopped else { return false };
    matches!(error.code, code::NO_CHANNEL | code::NO_CONNECTION | code::NOT_CONFIGURED)
}

impl<W: Wire> Run<'_, W> {
    pub(super) async fn stop_receiver(&mut self, name: &str) -> Result<StepEnd, StepEnd> {
        let (facts, seen) = self.stop_once(name).await?;
        let (facts, killed) = self.end_others(facts, seen).await?;
        if killed == 0 {
            return Ok(done(facts));
        }
        self.note(format!("ended {killed} executor sessions of other nodes"));
        match channel(&facts, name).is_none_or(|found| found.receiver == Receiver::Stopped) {
            true => Ok(done(facts)),
            false => {
                self.note("one of them had started the receiver again");
                Ok(done(self.stop_once(name).await?.0))
            }
        }
    }

    async fn stop_once(&mut self, name: &str) -> Result<(Arc<ServerFacts>, Vec<u64>), StepEnd> {
        if self.flavor() == Flavor::MariaDb {
            let (facts, seen) = self.look_for_any().await?;
            let Some(found) = channel(&facts, name) else {
                self.note("there is no such channel: nothing is received");
                return Ok((facts, seen));
            };
            if found.receiver == Receiver::Stopped {
                self.note("the receiver was stopped already");
                return Ok((facts, seen));
            }
            if !found.applier_running && !is_applied(&facts, found) {
                self.change_all(&[Statement::Start(name.to_owned(), Thread::Applier)]).await?;
                self.note("started the applier first: relay log was not applied");
            }
        }
        match self.before_any(&[Statement::Stop(name.to_owned(), Thread::Receiver)]).await {
            Ok(after) => Ok(after),
            Err(stopped) if is_no_channel(&stopped) => {
                let seen = self.look_for_any().await?;
                self.note("there is no such channel: nothing is received");
                Ok(seen)
            }
            Err(stopped) => Err(self.ended(stopped)),
        }
    }

    pub(super) async fn start_receiver(&mut self, name: &str) -> Result<StepEnd, StepEnd> {
        let facts = self.alone().await?;
        if channel(&facts, name).is_some_and(|c| start_would_lose(self.flavor(), &facts, c)) {
            return Err(self.refuse(UNAPPLIED));
        }
        Ok(done(self.change_all(&[Statement::Start(name.to_owned(), Thread::Receiver)]).await?))
    }

    pub(super) async fn restart_receiver(&mut self, name: &str) -> Result<StepEnd, StepEnd> {
        let facts = self.facts().await?;
        let Some(found) = channel(&facts, name) else { return Err(self.refuse("there is no such channel")) };
        if found.receiver == Receiver::Stopped {
            return Err(self.refuse("its receiver does not run"));
        }
        if !found.applier_running {
            return Err(self.refuse("its applier does not run"));
        }
        if self.flavor() == Flavor::MariaDb && !is_applied(&facts, found) {
            return Err(self.refuse("it has not applied all that it received"));
        }
        let statements = [
            Statement::Stop(name.to_owned(), Thread::Receiver),
            Statement::Start(name.to_owned(), Thread::Receiver),
        ];
        Ok(done(self.change_all(&statements).await?))
    }
}
