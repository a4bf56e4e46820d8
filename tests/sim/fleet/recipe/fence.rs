//! `src/executor/actions/fence.rs`.

use std::sync::Arc;

use quorate::{
    core::plan::{
        marks,
        step::{StepEnd, StepReport},
    },
    model::{facts::ServerFacts, gtid::GtidSet, server::Flavor},
};

use super::super::statement::{Client, Statement, code};
use super::{Run, Stopped, Wire, done};

/// `lock_wait_timeout` of a first, polite attempt, seconds.
const LOCK_WAIT_S: u64 = 1;
/// Pause between two looks at sessions that are being killed, milliseconds.
const LOOK_AFTER_MS: u64 = 5;

fn read_only_on(flavor: Flavor, lock_wait_s: u64) -> Vec<Statement> {
    let switch = match flavor {
        Flavor::MySql => Statement::SuperReadOnly(true),
        Flavor::MariaDb => Statement::ReadOnly(true),
    };
    vec![Statement::LockWaitTimeout(lock_wait_s.max(1)), switch]
}

fn is_fenced(facts: &ServerFacts) -> bool {
    facts.read_only && facts.super_read_only != Some(false)
}

fn fenced(facts: Arc<ServerFacts>, killed: u32) -> StepEnd {
    match done(facts) {
        StepEnd::Done(report) => StepEnd::Done(StepReport { killed, ..report }),
        other => other,
    }
}

impl<W: Wire> Run<'_, W> {
    fn not_so(&self) -> StepEnd {
        self.unknown("switched on, but the server says that it is not")
    }

    pub(super) async fn make_read_only(&mut self, lock_wait_s: u64) -> Result<StepEnd, StepEnd> {
        match self.change(&read_only_on(self.flavor(), lock_wait_s)).await {
            Ok(after) if is_fenced(&after) => Ok(done(after)),
            Ok(_) => Err(self.not_so()),
            Err(Stopped::At(1, error)) if error.code == code::LOCK_WAIT_OVER => {
                let facts = self.facts().await?;
                match is_fenced(&facts) || facts.read_only {
                    true => Err(self.unknown(format!("it is read-only only in part: {error}"))),
                    false => Err(StepEnd::Refused {
                        why: format!(
                            "running statements or commits did not end within {lock_wait_s} s: {error}"
                        ),
                    }),
                }
            }
            Err(stopped) => Err(self.ended(stopped)),
        }
    }

    pub(super) async fn make_writable(&mut self, must_hold: &GtidSet) -> Result<StepEnd, StepEnd> {
        if !self.slot.executed.as_ref().is_some_and(|seen| seen.contains(must_hold)) {
            let lost = must_hold.subtract(&self.facts().await?.executed);
            if !lost.is_empty() {
                let why = format!("it lacks {lost}, which it must hold: it lost that since it was drained");
                return Err(self.refuse(why));
            }
        }
        let after = self.change_all(&[Statement::ReadOnly(false)]).await?;
        match after.writable() {
            true => Ok(done(after)),
            false => Err(self.unknown("read_only is off, but offline_mode keeps clients out")),
        }
    }

    pub(super) async fn fence(&mut self) -> Result<StepEnd, StepEnd> {
        let mut statements = read_only_on(self.flavor(), LOCK_WAIT_S);
        if self.slot.profile.semi_sync {
            statements.insert(0, Statement::GuardNoWaiting);
        }
        let waiting = match self.change(&statements).await {
            Ok(after) if is_fenced(&after) => return self.end_clients(after, 0).await,
            Ok(_) => return Err(self.not_so()),
            Err(Stopped::At(0, error)) if error.code == code::GUARD => {
                self.note("commits were waiting for an acknowledgement");
                true
            }
            Err(Stopped::At(_, error)) if error.code == code::LOCK_WAIT_OVER => {
                self.note(format!("read-only was blocked: {error}"));
                false
            }
            Err(stopped) => return Err(self.ended(stopped)),
        };
        match self.flavor() {
            Flavor::MySql => self.cut_off_mysql().await,
            Flavor::MariaDb => self.cut_off_mariadb(!waiting).await,
        }
    }

    async fn end_clients(&mut self, facts: Arc<ServerFacts>, mut killed: u32) -> Result<StepEnd, StepEnd> {
        if self.flavor() == Flavor::MariaDb {
            let clients = self.clients().await?;
            killed += self.kill(&ids(&clients, |client| !client.killed)).await?.done;
        }
        Ok(fenced(facts, killed))
    }

    async fn cut_off_mysql(&mut self) -> Result<StepEnd, StepEnd> {
        self.change_all(&[Statement::OfflineMode(true)]).await?;
        self.note("offline_mode is on until the server is rejoined or unfenced");
        let killed = self.see_clients_killed().await?;
        let mut statements = Vec::new();
        if self.slot.profile.semi_sync {
            statements.push(Statement::SemiSyncSource(false));
        }
        statements.extend(read_only_on(Flavor::MySql, LOCK_WAIT_S));
        loop {
            match self.change(&statements).await {
                Ok(after) if is_fenced(&after) => return Ok(fenced(after, killed)),
                Ok(_) => return Err(self.not_so()),
                Err(Stopped::At(_, error))
                    if error.code == code::LOCK_WAIT_OVER && self.wire.left_ms() > 0 => {}
                Err(stopped) => return Err(self.ended(stopped)),
            }
        }
    }

    async fn cut_off_mariadb(&mut self, mut everybody: bool) -> Result<StepEnd, StepEnd> {
        let mut killed = 0;
        loop {
            let clients = self.clients().await?;
            let chosen = |client: &Client| !client.killed && (everybody || is_writer(client));
            killed += self.kill(&ids(&clients, chosen)).await?.done;
            match self.change(&read_only_on(Flavor::MariaDb, LOCK_WAIT_S)).await {
                Ok(after) if is_fenced(&after) => return self.end_clients(after, killed).await,
                Ok(_) => return Err(self.not_so()),
                Err(Stopped::At(_, error))
                    if error.code == code::LOCK_WAIT_OVER && self.wire.left_ms() > 0 =>
                {
                    everybody = true;
                }
                Err(stopped) => return Err(self.ended(stopped)),
            }
        }
    }

    async fn see_clients_killed(&mut self) -> Result<u32, StepEnd> {
        let mut killed = 0;
        let mut not_ours: Vec<u64> = Vec::new();
        loop {
            let clients = self.clients().await?;
            let spared = |client: &Client| not_ours.contains(&client.id) && client.idle;
            let alive = ids(&clients, |client| !client.killed && !spared(client));
            if alive.is_empty() {
                if !not_ours.is_empty() {
                    self.note(format!("may not be killed, and were idle: connections {not_ours:?}"));
                }
                return Ok(killed);
            }
            let round = self.kill(&alive).await?;
            killed += round.done;
            not_ours.extend(round.not_ours);
            not_ours.dedup();
            if self.wire.left_ms() <= LOOK_AFTER_MS {
                return Err(self.unknown(format!("{} client sessions are not seen killed", alive.len())));
            }
            self.wire.sleep(LOOK_AFTER_MS).await;
        }
    }

    pub(super) async fn unfence(
        &mut self,
        acks: Option<u32>,
        must_hold: &GtidSet,
    ) -> Result<StepEnd, StepEnd> {
        let before = self.facts().await?;
        if let Some(why) = marks::unfit_to_open(&before, must_hold) {
            return Err(StepEnd::Refused { why });
        }
        let mut statements = Vec::new();
        if let Some(acks) = acks {
            self.check_acks(acks)?;
            if !self.has_semi_sync().await? {
                return Err(self.refuse("the semi-sync source plug-in is not loaded"));
            }
            statements.extend(self.enabling(acks));
        }
        statements.push(Statement::ReadOnly(false));
        if self.flavor() == Flavor::MySql {
            statements.push(Statement::OfflineMode(false));
        }
        let after = self.change_all(&statements).await?;
        match after.writable() {
            true => Ok(done(after)),
            false => Err(self.unknown("unfenced, but the server says that clients cannot write")),
        }
    }
}

/// It runs a statement or holds a transaction open.
pub(super) fn is_writer(client: &Client) -> bool {
    !client.killed && (client.transaction.is_some() || !client.idle)
}

/// The connection ids of those clients that `chosen` picks.
pub(super) fn ids(clients: &[Client], chosen: impl Fn(&Client) -> bool) -> Vec<u64> {
    clients.iter().filter(|client| chosen(client)).map(|client| client.id).collect()
}
