//! Running the statements of sessions, one after another, each until it ends or must wait.

use std::sync::Arc;

use quorate::model::server::Flavor;

use super::{
    log::Payload,
    server::{Effect, Process, SimServer},
    session::{Running, Transaction, Wait},
    spec::Account,
    statement::{Answer, Profile, Reply, SqlError, Statement, code},
};

/// What a statement came to, for now.
pub(super) enum Turn {
    /// It is done.
    Done(Reply),
    /// It failed: the batch ends here.
    Fail(SqlError),
    /// It waits.
    Wait(Wait),
}

pub(super) fn ok() -> Turn {
    Turn::Done(Reply::Ok)
}

pub(super) fn fail(code: u16, message: impl Into<String>) -> Turn {
    Turn::Fail(SqlError::new(code, message))
}

impl SimServer {
    /// Lets every session go on as far as it can.
    pub(super) fn run_sessions(&mut self, now_ms: u64) {
        if !self.runs() || self.process != Process::Up {
            return;
        }
        self.semi_sync_times_out(now_ms);
        loop {
            let mut moved = false;
            let mut from = 0;
            // Most hold a connection and do nothing.
            while let Some((&id, _)) = self.sessions.range(from..).find(|(_, session)| session.has_work()) {
                from = id + 1;
                moved |= self.run_session(id, now_ms);
            }
            if !moved {
                return;
            }
        }
    }

    /// Whether anything changed.
    fn run_session(&mut self, id: u64, now_ms: u64) -> bool {
        let mut moved = false;
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return moved };
            if session.running.is_none() {
                let Some((ticket, statements)) = session.inbox.pop_front() else { break };
                session.since_ms = now_ms;
                session.running =
                    Some(Running { ticket, statements, replies: Vec::new(), began_ms: now_ms, wait: None });
            }
            match self.turn(id, now_ms) {
                true => moved = true,
                false => break,
            }
        }
        if self.sessions.get(&id).is_some_and(|session| session.is_over()) {
            self.sessions.remove(&id);
            self.facts_stale = true;
            return true;
        }
        moved
    }

    /// One statement of that session, begun or resumed; whether it ended.
    fn turn(&mut self, id: u64, now_ms: u64) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(running) = session.running.as_mut() else { return false };
        let Some(statement) = running.statements.get(running.replies.len()).cloned() else {
            self.end_batch(id, None, now_ms);
            return true;
        };
        let wait = running.wait.take();
        if wait.is_none() {
            running.began_ms = now_ms;
        }
        let limit = match session.statement_ms {
            0 => u64::MAX,
            ms => running.began_ms.saturating_add(ms),
        };
        if wait.is_some() && now_ms >= limit && session.interrupted.is_none() {
            session.interrupted = Some(code::STATEMENT_TIME);
        }
        let interrupted = match session.killed {
            true => Some(code::INTERRUPTED),
            false => session.interrupted,
        };
        let turn = match (interrupted, wait) {
            (Some(code), Some(wait)) => self.interrupt(id, &statement, wait, code, now_ms),
            (_, wait) => self.execute(id, &statement, wait, now_ms),
        };
        self.spy(id, &statement, &turn);
        self.settle_turn(id, turn, limit, now_ms)
    }

    /// Remembers what the executor's sessions have brought about.
    fn spy(&mut self, id: u64, statement: &Statement, turn: &Turn) {
        let executor = self.sessions.get(&id).is_some_and(|session| session.account == Account::Executor);
        if let (Some(spied), Turn::Done(_), true) = (&mut self.spied, turn, executor) {
            spied.push(statement.clone());
        }
    }

    fn settle_turn(&mut self, id: u64, turn: Turn, limit: u64, now_ms: u64) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(running) = session.running.as_mut() else { return false };
        match turn {
            Turn::Done(reply) => {
                running.replies.push(reply);
                session.interrupted = None;
                if session.killed || running.replies.len() == running.statements.len() {
                    self.end_batch(id, None, now_ms);
                }
                true
            }
            Turn::Fail(error) => {
                session.interrupted = None;
                self.end_batch(id, Some(error), now_ms);
                true
            }
            Turn::Wait(wait) => {
                let until = match &wait {
                    Wait::Ack(_, since) => Some(since.saturating_add(self.semi.source.timeout_ms)),
                    other => other.until(),
                };
                let first = until.unwrap_or(u64::MAX).min(limit);
                if first < u64::MAX && first > now_ms {
                    self.effects.push(Effect::Wake(first));
                }
                running.wait = Some(wait);
                false
            }
        }
    }

    fn end_batch(&mut self, id: u64, error: Option<SqlError>, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(running) = session.running.take() else { return };
        session.since_ms = now_ms;
        let (no, heard) = (session.no, !session.killed && !session.hung_up);
        if heard {
            self.tell(no, running.ticket, Answer { replies: running.replies, error });
        }
    }

    /// A waiting statement is told to end: by KILL, by KILL QUERY, or by its time limit.
    fn interrupt(&mut self, id: u64, statement: &Statement, wait: Wait, why: u16, now_ms: u64) -> Turn {
        match (wait, self.flavor()) {
            // Measured on MariaDB 10.11: KILL QUERY acknowledges the unreplicated write; KILL CONNECTION releases it.
            (Wait::Ack(..), Flavor::MariaDb) => ok(),
            // Measured on MySQL 9.7: neither releases it. And nothing interrupts a hung disk.
            (wait @ (Wait::Ack(..) | Wait::Disk), _) => self.execute(id, statement, Some(wait), now_ms),
            _ => fail(why, "Query execution was interrupted"),
        }
    }

    fn execute(&mut self, id: u64, statement: &Statement, wait: Option<Wait>, now_ms: u64) -> Turn {
        match statement {
            Statement::Ping => ok(),
            Statement::Sleep(ms) => match wait {
                Some(Wait::Until(at)) if now_ms >= at => ok(),
                Some(wait) => Turn::Wait(wait),
                None => Turn::Wait(Wait::Until(now_ms + ms)),
            },
            Statement::LockWaitTimeout(seconds) => {
                self.set_session(id, |session| session.lock_wait_ms = seconds.saturating_mul(1000))
            }
            Statement::MaxStatementTime(ms) => self.set_session(id, |session| session.statement_ms = *ms),
            Statement::CheckIdentity(identity) => match self.is_it(identity) {
                true => ok(),
                false if identity.flavor != self.flavor() => {
                    fail(code::UNKNOWN_VARIABLE, "Unknown system variable")
                }
                false => fail(code::GUARD, "BIGINT UNSIGNED value is out of range"),
            },
            Statement::GuardNoWaiting => match self.waiting_commits() {
                0 => ok(),
                _ => fail(code::GUARD, "BIGINT UNSIGNED value is out of range"),
            },
            Statement::AskProfile => Turn::Done(Reply::Profile(Profile {
                flavor: self.flavor(),
                version: self.spec.version.clone(),
                semi_sync: self.spec.has_semi_sync(),
            })),
            Statement::ReadFacts(inventory) => Turn::Done(Reply::Facts(self.read_facts(*inventory, now_ms))),
            Statement::TakeMark(mark) => Turn::Done(Reply::Mark(self.take_mark(id, mark))),
            Statement::MarkHolders(marks) => {
                let holders = marks.iter().filter_map(|mark| self.mark_holder(mark)).collect();
                Turn::Done(Reply::Holders(holders))
            }
            Statement::ListClients => Turn::Done(Reply::Clients(self.clients(id, now_ms))),
            Statement::ListTableLocks => Turn::Done(Reply::Clients(self.table_lockers(now_ms))),
            Statement::KillConnection(target) => self.kill_connection(id, *target),
            Statement::KillQuery(target) => self.kill_query(id, *target),
            Statement::ReadOnly(_) | Statement::SuperReadOnly(_) | Statement::OfflineMode(_) => {
                self.switch(id, statement, wait, now_ms)
            }
            Statement::SemiSyncSource(_)
            | Statement::SemiSyncTimeout(_)
            | Statement::SemiSyncWaitNoReplica(_)
            | Statement::SemiSyncWaitFor(_)
            | Statement::SemiSyncReplica(_) => self.set_semi_sync(statement),
            Statement::Start(channel, thread) => self.start_replica(channel, *thread, now_ms),
            Statement::Stop(channel, thread) => self.stop_replica(channel, *thread, wait, now_ms),
            Statement::ChangeSource(channel, change) => self.change_source(channel, change),
            Statement::ResetAll(channel) => self.reset_replica_all(channel),
            Statement::GtidSlavePos(position) => self.set_gtid_slave_pos(position),
            Statement::WaitForGtids(set, ms) => {
                let until = match wait {
                    Some(Wait::Gtids(_, until)) => until,
                    _ => now_ms + ms,
                };
                match self.has_applied(set) || now_ms >= until {
                    true => ok(),
                    false => Turn::Wait(Wait::Gtids(set.clone(), until)),
                }
            }
            Statement::Rollback => self.set_session(id, |session| session.transaction = None),
            Statement::Begin => {
                let number = self.id();
                self.set_session(id, |session| {
                    session.transaction = Some(Transaction { number, since_ms: now_ms, rows: Vec::new() });
                })
            }
            Statement::UnlockTables => self.set_session(id, |session| session.table_lock = false),
            _ => self.write(id, statement, wait, now_ms),
        }
    }

    fn set_session(&mut self, id: u64, set: impl FnOnce(&mut super::session::Session)) -> Turn {
        if let Some(session) = self.sessions.get_mut(&id) {
            set(session);
        }
        ok()
    }

    fn is_it(&self, wished: &quorate::model::server::Identity) -> bool {
        let own = self.spec.identity();
        wished.server_id == own.server_id
            && (wished.server_uuid.is_none() || wished.server_uuid == own.server_uuid)
            && (wished.server_uid.is_none() || wished.server_uid == own.server_uid)
    }

    fn has_applied(&self, set: &quorate::model::gtid::GtidSet) -> bool {
        self.log.executed_as_read().contains(set)
    }

    /// Takes a mark; who has it otherwise.
    fn take_mark(&mut self, id: u64, mark: &str) -> Option<u64> {
        match self.mark_holder(mark) {
            Some(holder) if holder != id => Some(holder),
            Some(_) => None,
            None => {
                let session = self.sessions.get_mut(&id)?;
                session.marks.push(mark.to_owned());
                None
            }
        }
    }

    fn mark_holder(&self, mark: &str) -> Option<u64> {
        let holds = |session: &&super::session::Session| session.marks.iter().any(|held| held == mark);
        self.sessions.values().find(holds).map(|session| session.id)
    }

    fn clients(&self, own: u64, now_ms: u64) -> Vec<super::statement::Client> {
        let theirs =
            |id: u64, account: Account| id != own && matches!(account, Account::App | Account::Admin);
        let chosen = self.sessions.values().filter(|session| theirs(session.id, session.account));
        chosen.map(|session| session.listed(self.flavor(), now_ms)).collect()
    }

    /// Where the server shows them at all: MySQL with performance_schema.
    fn table_lockers(&self, now_ms: u64) -> Vec<super::statement::Client> {
        match self.flavor() {
            Flavor::MySql if self.spec.performance_schema => {
                let lockers = self.sessions.values().filter(|session| session.table_lock);
                lockers.map(|session| session.listed(self.flavor(), now_ms)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn may_kill(&self, killer: u64, target: u64) -> Result<(), SqlError> {
        let account = |id: u64| self.sessions.get(&id).map(|session| session.account);
        let ours = account(killer) != Some(Account::Admin);
        match account(target) {
            // An operator's account has SYSTEM_USER, Quorate's has not.
            Some(Account::Admin) if ours && self.flavor() == Flavor::MySql => {
                Err(SqlError::new(code::NOT_OWNER, format!("You are not owner of thread {target}")))
            }
            Some(_) => Ok(()),
            None => Err(SqlError::new(code::NO_SUCH_THREAD, format!("Unknown thread id: {target}"))),
        }
    }

    fn kill_connection(&mut self, killer: u64, target: u64) -> Turn {
        if let Some(dump) = self.dumps.iter().find(|dump| dump.id == target) {
            self.effects.push(Effect::CloseDump(dump.stream));
            return ok();
        }
        match self.may_kill(killer, target) {
            Err(error) => Turn::Fail(error),
            Ok(()) => {
                self.cut(target, "killed");
                ok()
            }
        }
    }

    /// Cuts a session's client off; the session ends when its statement can.
    pub(super) fn cut(&mut self, target: u64, why: &str) {
        let Some(session) = self.sessions.get_mut(&target) else { return };
        if session.killed {
            return;
        }
        session.killed = true;
        session.inbox.clear();
        let no = session.no;
        self.tell_closed(no, why);
        self.facts_stale = true;
    }

    fn kill_query(&mut self, killer: u64, target: u64) -> Turn {
        match self.may_kill(killer, target) {
            Err(error) => Turn::Fail(error),
            Ok(()) => {
                if let Some(session) = self.sessions.get_mut(&target)
                    && session.running.is_some()
                {
                    session.interrupted = Some(code::INTERRUPTED);
                }
                ok()
            }
        }
    }

    /// A write: held up, refused, written, acknowledged.
    fn write(&mut self, id: u64, statement: &Statement, wait: Option<Wait>, now_ms: u64) -> Turn {
        match wait {
            Some(Wait::Ack(index, since)) => return self.acknowledge(index, since),
            Some(Wait::Disk) => return self.commit(id, statement, now_ms),
            Some(Wait::Update(at)) if now_ms < at => return Turn::Wait(Wait::Update(at)),
            Some(Wait::Update(_)) => return self.commit(id, statement, now_ms),
            _ => {}
        }
        if let Some(turn) = self.held_up(id, wait, now_ms) {
            return turn;
        }
        match statement {
            Statement::LockTables => self.set_session(id, |session| session.table_lock = true),
            Statement::InsertUnlogged(row) => {
                self.log.write_unlogged(*row);
                ok()
            }
            Statement::LongUpdate(ms) => Turn::Wait(Wait::Update(now_ms + ms)),
            Statement::Insert(row) if self.log.holds(*row) => {
                fail(code::DUPLICATE, format!("Duplicate entry '{row}' for key 't.PRIMARY'"))
            }
            Statement::Insert(row) => {
                let open = self.sessions.get_mut(&id).and_then(|session| session.transaction.as_mut());
                match open {
                    Some(open) => {
                        open.rows.push(*row);
                        ok()
                    }
                    None => self.commit(id, statement, now_ms),
                }
            }
            Statement::WriteProof(..) if !self.log.has_proof_schema() => {
                fail(code::NO_SUCH_TABLE, "Table 'quorate.verified_write' doesn't exist")
            }
            Statement::CreateProof(_) if self.log.has_proof_schema() => ok(),
            _ => self.commit(id, statement, now_ms),
        }
    }

    /// A new write behind a switch that is about to be thrown or another session's table lock, or refused.
    fn held_up(&mut self, id: u64, wait: Option<Wait>, now_ms: u64) -> Option<Turn> {
        let session = self.sessions.get(&id)?;
        let others = || self.sessions.values().filter(|other| other.id != id);
        let behind = others().any(|o| o.table_lock || matches!(o.wait(), Some(Wait::Switch(_))));
        if behind && !session.table_lock {
            let until = match wait {
                Some(Wait::Writes(until)) => until,
                _ => now_ms.saturating_add(session.lock_wait_ms),
            };
            return Some(match now_ms >= until {
                true => fail(code::LOCK_WAIT_OVER, "Lock wait timeout exceeded; try restarting transaction"),
                false => Turn::Wait(Wait::Writes(until)),
            });
        }
        let refused =
            self.switches.super_read_only || (self.switches.read_only && !session.account.is_privileged());
        refused.then(|| {
            fail(
                code::READ_ONLY,
                "The server is running with the --read-only option so it cannot execute this statement",
            )
        })
    }

    /// Writes the binlog, and waits for acknowledgements where it must.
    fn commit(&mut self, id: u64, statement: &Statement, now_ms: u64) -> Turn {
        let payload = match statement {
            Statement::Insert(row) => Payload::Rows(vec![*row]),
            Statement::LongUpdate(_) => Payload::Update,
            Statement::CreateUser => Payload::User,
            Statement::CreateProof(part) => Payload::Proof(*part),
            Statement::WriteProof(recovery, epoch) => Payload::Verified(recovery.clone(), *epoch),
            _ => {
                let session = self.sessions.get_mut(&id);
                let open = session.and_then(|session| session.transaction.clone());
                match open {
                    Some(open) if !open.rows.is_empty() => Payload::Rows(open.rows),
                    _ => return self.set_session(id, |session| session.transaction = None),
                }
            }
        };
        if self.stalled {
            return Turn::Wait(Wait::Disk);
        }
        self.set_session(id, |session| session.transaction = None);
        let index = self.log.write(payload, now_ms);
        self.facts_stale = true;
        if self.flavor() == Flavor::MariaDb {
            // Its default is AFTER_COMMIT: readers see what waits. MySQL's is AFTER_SYNC: they do not.
            self.log.commit(index);
        }
        self.acknowledge(index, now_ms)
    }

    fn acknowledge(&mut self, index: usize, since: u64) -> Turn {
        if self.semi.source_enabled && self.semi.source_on && !self.is_acknowledged(index) {
            return Turn::Wait(Wait::Ack(index, since));
        }
        self.log.commit(index);
        self.facts_stale = true;
        ok()
    }

    /// An account is being created and its commit waits: it holds the lock that a login takes.
    pub(super) fn login_hangs(&self) -> bool {
        self.sessions.values().any(|session| {
            matches!(session.statement(), Some(Statement::CreateUser)) && session.wait().is_some()
        }) && self.flavor() == Flavor::MySql
    }

    pub(super) fn fresh_facts(&mut self) -> Option<Arc<quorate::model::facts::ServerFacts>> {
        if self.facts_stale {
            self.facts = None;
        }
        self.facts.take()
    }
}
