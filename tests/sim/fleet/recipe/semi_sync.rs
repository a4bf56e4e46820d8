//! `src/executor/actions/semi_sync.rs` and `verify.rs`.

use super::super::log::ProofPart;
use quorate::{core::plan::step::StepEnd, model::server::Flavor};

use super::super::statement::{Reply, Statement, code};
use super::{Run, Stopped, Wire, done};

/// The longest time-out both flavours take, milliseconds.
const TIMEOUT_MAX_MS: u64 = 4_294_967_295;

impl<W: Wire> Run<'_, W> {
    /// Whether the plug-ins are loaded; asked again where they were not.
    pub(super) async fn has_semi_sync(&mut self) -> Result<bool, StepEnd> {
        if !self.slot.profile.semi_sync
            && let Reply::Profile(profile) = self.ask(Statement::AskProfile).await?
        {
            self.slot.profile = profile;
        }
        Ok(self.slot.profile.semi_sync)
    }

    /// Statements that switch the source side on as P6 wants it.
    pub(super) fn enabling(&self, acks: u32) -> Vec<Statement> {
        let mut statements =
            vec![Statement::SemiSyncTimeout(TIMEOUT_MAX_MS), Statement::SemiSyncWaitNoReplica(true)];
        if self.flavor() == Flavor::MySql {
            statements.push(Statement::SemiSyncWaitFor(acks));
        }
        statements.push(Statement::SemiSyncSource(true));
        statements
    }

    pub(super) fn check_acks(&self, acks: u32) -> Result<(), StepEnd> {
        match (self.flavor(), acks) {
            (_, 0) => Err(self.refuse("semi-sync with no acknowledgement is none")),
            (Flavor::MariaDb, 2..) => {
                Err(self.refuse(format!("MariaDB waits for one acknowledgement and cannot wait for {acks}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn enable_semi_sync(&mut self, acks: u32) -> Result<StepEnd, StepEnd> {
        self.check_acks(acks)?;
        if !self.has_semi_sync().await? {
            return Err(self.refuse("the semi-sync source plug-in is not loaded"));
        }
        let after = self.change_all(&self.enabling(acks)).await?;
        match after.semi_sync.source_status {
            Some(true) => Ok(done(after)),
            _ => Err(self.unknown("switched on, but the server says that it is not in effect")),
        }
    }

    pub(super) async fn disable_semi_sync(&mut self) -> Result<StepEnd, StepEnd> {
        if !self.has_semi_sync().await? {
            self.note("no semi-sync source plug-in is loaded");
            return Ok(done(self.facts().await?));
        }
        match self.change(&[Statement::GuardNoWaiting, Statement::SemiSyncSource(false)]).await {
            Ok(after) => Ok(done(after)),
            Err(Stopped::At(0, error)) if error.code == code::GUARD => {
                Err(self.refuse("commits wait for an acknowledgement and would be told that they have it"))
            }
            Err(stopped) => Err(self.ended(stopped)),
        }
    }

    pub(super) async fn verify_write(&mut self, recovery: &str, epoch: u64) -> Result<StepEnd, StepEnd> {
        let insert = Statement::WriteProof(recovery.to_owned(), epoch);
        let written = match self.change(std::slice::from_ref(&insert)).await {
            Err(Stopped::At(_, error)) if error.code == code::NO_SUCH_TABLE => {
                self.note("made the schema `quorate`");
                let [database, table] = [ProofPart::Database, ProofPart::Table].map(Statement::CreateProof);
                self.change(&[database, table, insert]).await
            }
            other => other,
        };
        match written {
            Ok(facts) if facts.writable() => Ok(done(facts)),
            Ok(_) => {
                Err(self.unknown("the row was written, but clients cannot write: the server is read-only"))
            }
            Err(stopped) => Err(self.ended(stopped)),
        }
    }
}
