//! Sending a step's statements: permit and identity before each, one round trip for as many as is safe, facts read
//! behind them on the same session.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ExecutorOptions, Permit, Pulse,
    slot::{self, Lent},
};
use crate::{
    core::plan::step::{Step, StepEnd, StepReport, Target},
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, gtid::GtidSet, server::Flavor},
    session::{Answer, Profile, ReadError, ResultSet, SessionError, identity_condition},
};

/// One step under way.
pub(super) struct Run<'a> {
    lent: Lent<'a>,
    pub(super) options: Arc<ExecutorOptions>,
    permit: &'a Permit,
    pulse: &'a Pulse,
    target: &'a Target,
    /// When the step must have ended.
    pub(super) until: Instant,
    /// Whether a statement of this step changed anything.
    pub(super) changed: bool,
    pub(super) notes: Vec<String>,
}

/// Why a batch ended early.
pub(super) enum Stopped {
    /// The server refused the statement with that number (from 0); those before it are done.
    At(usize, SessionError),
    /// The step is over.
    End(StepEnd),
}

impl From<StepEnd> for Stopped {
    fn from(end: StepEnd) -> Self {
        Self::End(end)
    }
}

/// Code of the error that guards raise: BIGINT UNSIGNED out of range.
pub(super) const GUARD_RAISES: u16 = 1690;
/// A statement that this server does not understand.
const SYNTAX_ERROR: u16 = 1064;
/// Unknown system variable: a server of another flavour.
const UNKNOWN_VARIABLE: u16 = 1193;

impl<'a> Run<'a> {
    pub(super) fn new(
        lent: Lent<'a>,
        options: Arc<ExecutorOptions>,
        permit: &'a Permit,
        pulse: &'a Pulse,
        step: &'a Step,
        until: Instant,
    ) -> Self {
        Self { lent, options, permit, pulse, target: &step.target, until, changed: false, notes: Vec::new() }
    }

    /// Dialect of the server the step is for.
    pub(super) fn flavor(&self) -> Flavor {
        self.target.identity.flavor
    }

    /// What the server can be asked.
    pub(super) fn profile(&self) -> Result<Profile, StepEnd> {
        self.lent
            .inner
            .reader
            .profile()
            .cloned()
            .ok_or_else(|| self.unknown("the server was not found out".to_owned()))
    }

    /// The same, found out anew: a plug-in may have been loaded since the session was opened.
    pub(super) async fn renewed_profile(&mut self) -> Result<Profile, StepEnd> {
        let within = self.left();
        let inner = &mut *self.lent.inner;
        let renewed = match inner.opened.as_mut() {
            Some(opened) => {
                inner.reader.forget();
                inner.reader.prepare(&mut opened.session, within).await
            }
            None => return Err(self.unknown("the session is gone".to_owned())),
        };
        match renewed {
            Ok(()) => self.profile(),
            Err(error) => Err(self.refuse(error.to_string())),
        }
    }

    /// Time left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether other nodes' sessions were seen gone in the permit's term.
    pub(super) fn is_alone(&self) -> bool {
        self.lent.inner.opened.as_ref().is_some_and(|opened| opened.alone_in == Some(self.permit.term))
    }

    /// They were seen gone.
    pub(super) fn set_alone(&mut self) {
        if let Some(opened) = self.lent.inner.opened.as_mut() {
            opened.alone_in = Some(self.permit.term);
        }
    }

    /// Whether a reading over this very session showed that it has executed all of `set`. A session does not outlive its
    /// server's process, and a server that lives forgets nothing.
    pub(super) fn has_seen_executed(&self, set: &GtidSet) -> bool {
        let seen = self.lent.inner.opened.as_ref().and_then(|opened| opened.executed.as_ref());
        seen.is_some_and(|seen| seen.contains(set))
    }

    /// *Refused*, or *unknown* when something was changed already.
    pub(super) fn refuse(&self, why: impl Into<String>) -> StepEnd {
        match self.changed {
            false => StepEnd::Refused { why: why.into() },
            true => StepEnd::Unknown { why: format!("after a part of it was done: {}", why.into()) },
        }
    }

    pub(super) fn unknown(&self, why: String) -> StepEnd {
        StepEnd::Unknown { why }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Runs statements that change nothing, in one round trip.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<ResultSet>, StepEnd> {
        let answer = self.send(sql).await?;
        match answer.error {
            None => Ok(answer.sets),
            Some(error) => Err(self.refuse(in_words(&error))),
        }
    }

    /// Runs `statements` under the identity guard and reads the facts behind them, all in one round trip.
    pub(super) async fn change(&mut self, statements: &[String]) -> Result<ServerFacts, Stopped> {
        Ok(self.change_and_read(statements).await?.0)
    }

    /// The same, and asks `question` between the statements and the facts.
    pub(super) async fn change_and_ask(
        &mut self,
        statements: &[String],
        question: &str,
    ) -> Result<(ServerFacts, ResultSet), Stopped> {
        let all: Vec<String> = statements.iter().cloned().chain([question.to_owned()]).collect();
        let (facts, mut sets) = self.change_and_read(&all).await?;
        let answer = sets.pop().ok_or_else(|| self.unknown("a question was not answered".to_owned()))?;
        Ok((facts, answer))
    }

    async fn change_and_read(
        &mut self,
        statements: &[String],
    ) -> Result<(ServerFacts, Vec<ResultSet>), Stopped> {
        let result = self.guarded(statements).await;
        self.changed |= match &result {
            Ok(_) => statements.iter().any(|statement| is_change(statement)),
            Err(Stopped::At(done, _)) => statements[..*done].iter().any(|statement| is_change(statement)),
            Err(Stopped::End(_)) => false,
        };
        result
    }

    /// The same, for statements that change nothing.
    pub(super) async fn look(&mut self, statements: &[String]) -> Result<ServerFacts, StepEnd> {
        let result = self.guarded(statements).await;
        result.map(|(facts, _)| facts).map_err(|stopped| self.ended(stopped))
    }

    /// The facts, and what each statement answered.
    async fn guarded(&mut self, statements: &[String]) -> Result<(ServerFacts, Vec<ResultSet>), Stopped> {
        let facts_sql = self.lent.inner.reader.sql();
        let lead = self.lead();
        let mut sql = lead.join("; ");
        for statement in statements {
            sql += "; ";
            sql += statement;
        }
        sql += "; ";
        sql += &facts_sql;
        let Answer { mut sets, error } = self.send(&sql).await?;
        match error {
            Some(error) if sets.len() < lead.len() => Err(self.mismatch(error).await.into()),
            Some(error) if sets.len() < lead.len() + statements.len() => {
                Err(Stopped::At(sets.len() - lead.len(), error))
            }
            // All was done but the reading; the reader finds out why.
            Some(_) => Ok((self.read().await?, answers_of(&mut sets, lead.len(), statements.len()).0)),
            None => {
                let (answers, read) = answers_of(&mut sets, lead.len(), statements.len());
                let facts = self.lent.inner.reader.parse(&read);
                let facts = facts.map_err(|error| self.unknown(error.to_string()))?;
                if let Some(opened) = self.lent.inner.opened.as_mut() {
                    opened.executed = Some(facts.executed.clone());
                }
                Ok((facts, answers))
            }
        }
    }

    /// The same, for statements of which none may fail.
    pub(super) async fn change_all(&mut self, statements: &[String]) -> Result<ServerFacts, StepEnd> {
        self.change(statements).await.map_err(|stopped| self.ended(stopped))
    }

    /// What a refused statement means for the step where nothing special is known about it.
    pub(super) fn ended(&self, stopped: Stopped) -> StepEnd {
        match stopped {
            Stopped::End(end) => end,
            Stopped::At(_, error) => self.refuse(in_words(&error)),
        }
    }

    /// Reads the facts and checks the identity on the way.
    pub(super) async fn facts(&mut self) -> Result<ServerFacts, StepEnd> {
        self.look(&[]).await
    }

    async fn read(&mut self) -> Result<ServerFacts, StepEnd> {
        let within = self.left();
        let inner = &mut *self.lent.inner;
        let Some(opened) = inner.opened.as_mut() else {
            return Err(self.unknown("the session is gone".to_owned()));
        };
        match inner.reader.read(&mut opened.session, false, within).await {
            Ok(reading) => Ok(reading.facts),
            Err(ReadError::Session(error)) => Err(self.unknown(format!("done, but not read back: {error}"))),
            Err(ReadError::Grant(missing)) => {
                Err(self.unknown(format!("done, but not read back: {missing}")))
            }
        }
    }

    /// What stands before the statements of a step: on MariaDB the bound on the server's side (MySQL has none but
    /// `lock_wait_timeout`), and an expression that raises an error on any other server, so that the statements behind
    /// it are not begun. Checked and done in one, nothing can come between. The start time needs no comparison: a
    /// session does not outlive its server's process.
    fn lead(&self) -> Vec<String> {
        let mut lead = Vec::new();
        if self.flavor() == Flavor::MariaDb {
            // A statement whose sender gave up ends a second later.
            let bound = (self.left() + Duration::from_secs(1)).as_secs_f64();
            lead.push(format!("SET SESSION max_statement_time={bound:.3}"));
        }
        let condition = match planted(Mistake::IdentityNotChecked) {
            true => "TRUE".to_owned(),
            false => identity_condition(&self.target.identity),
        };
        lead.push(format!("SELECT ~0 + IF({condition},0,1) AS quorate_identity"));
        lead
    }

    async fn mismatch(&mut self, error: SessionError) -> StepEnd {
        if !matches!(error.code(), Some(GUARD_RAISES | UNKNOWN_VARIABLE)) {
            return self.refuse(in_words(&error));
        }
        let seen = match self.read().await {
            Ok(facts) => facts.identity.to_string(),
            Err(_) => "somebody else".to_owned(),
        };
        self.refuse(format!("{} is {seen}, not {}", self.target.address, self.target.identity))
    }

    /// Sends one round trip, if the permit and the time still allow it.
    async fn send(&mut self, sql: &str) -> Result<Answer, StepEnd> {
        if let Some(void) = slot::void(self.permit, self.pulse) {
            return Err(self.refuse(void));
        }
        let within = self.left();
        if within.is_zero() {
            return Err(self.refuse("the deadline has passed"));
        }
        let Some(opened) = self.lent.inner.opened.as_mut() else {
            return Err(self.unknown("the session is gone".to_owned()));
        };
        match opened.session.run_all(sql, within).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                self.lent.inner.opened = None;
                Err(self.unknown(error.to_string()))
            }
        }
    }

    /// Gives the notes to a finished step.
    pub(super) fn finish(self, end: StepEnd) -> StepEnd {
        let notes = self.notes;
        match end {
            StepEnd::Done(report) => {
                let own = Some(report.note.clone()).filter(|note| !note.is_empty());
                let note = own.into_iter().chain(notes).collect::<Vec<_>>().join("; ");
                StepEnd::Done(StepReport { note, ..report })
            }
            other => other,
        }
    }
}

/// What `statements` answered behind `lead` others, and what came after them.
fn answers_of(sets: &mut Vec<ResultSet>, lead: usize, statements: usize) -> (Vec<ResultSet>, Vec<ResultSet>) {
    let read = sets.split_off(sets.len().min(lead + statements));
    (sets.split_off(sets.len().min(lead)), read)
}

/// What a session sets for itself, or asks, changes no server.
fn is_change(statement: &str) -> bool {
    !statement.starts_with("SET SESSION") && !statement.starts_with("SELECT")
}

/// A server's error for a record. A syntax error repeats a piece of the statement, which may hold a password.
fn in_words(error: &SessionError) -> String {
    match error.code() {
        Some(SYNTAX_ERROR) => "the server does not understand a statement of this step (1064)".to_owned(),
        _ => error.to_string(),
    }
}

/// Done, with the facts read at its end.
pub(super) fn done(facts: ServerFacts) -> StepEnd {
    StepEnd::Done(StepReport { facts: Some(Box::new(facts)), ..StepReport::default() })
}
