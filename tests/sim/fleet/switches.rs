//! `SET GLOBAL`: the switches that keep clients out, behind whatever is writing, and those of semi-sync.

use quorate::model::server::Flavor;

use super::{
    execute::{Turn, fail, ok},
    server::SimServer,
    session::Wait,
    spec::Account,
    statement::{Statement, code},
};

impl SimServer {
    /// `read_only`, `super_read_only`, `offline_mode`.
    pub(super) fn switch(&mut self, id: u64, statement: &Statement, wait: Option<Wait>, now_ms: u64) -> Turn {
        let mysql = self.flavor() == Flavor::MySql;
        let mut after = self.switches;
        match statement {
            Statement::ReadOnly(on) => {
                after.read_only = *on;
                // MySQL 8.4 manual, 7.1.8: read_only=OFF switches super_read_only off too.
                after.super_read_only &= *on;
            }
            Statement::SuperReadOnly(on) if mysql => {
                after.super_read_only = *on;
                after.read_only |= *on;
            }
            Statement::OfflineMode(on) if mysql => return self.switch_offline_mode(id, *on),
            _ => return fail(code::UNKNOWN_VARIABLE, "Unknown system variable"),
        }
        let closes = (after.read_only && !self.switches.read_only)
            || (after.super_read_only && !self.switches.super_read_only);
        if closes && let Some(turn) = self.behind_writers(id, wait, now_ms) {
            return turn;
        }
        self.switches = after;
        self.facts_stale = true;
        ok()
    }

    /// The global read lock waits for everybody who is writing.
    fn behind_writers(&self, id: u64, wait: Option<Wait>, now_ms: u64) -> Option<Turn> {
        if !self.sessions.values().any(|other| other.id != id && other.blocks_switch()) {
            return None;
        }
        let patience = self.sessions.get(&id).map_or(0, |session| session.lock_wait_ms);
        let until = match wait {
            Some(Wait::Switch(until)) => until,
            _ => now_ms.saturating_add(patience),
        };
        Some(match now_ms >= until {
            true => fail(code::LOCK_WAIT_OVER, "Lock wait timeout exceeded; try restarting transaction"),
            false => Turn::Wait(Wait::Switch(until)),
        })
    }

    /// Cuts every client without an OK, and replicas too: their account is an ordinary one.
    fn switch_offline_mode(&mut self, own: u64, on: bool) -> Turn {
        self.switches.offline = on;
        self.facts_stale = true;
        if on {
            let plain = |account: Account| !account.is_privileged();
            let cut: Vec<u64> =
                self.sessions.values().filter(|s| s.id != own && plain(s.account)).map(|s| s.id).collect();
            cut.into_iter().for_each(|id| self.cut(id, "The server is currently in offline mode"));
            let dumps: Vec<u64> = self.dumps.iter().map(|dump| dump.stream).collect();
            self.effects.extend(dumps.into_iter().map(super::server::Effect::CloseDump));
        }
        ok()
    }

    /// The variables of semi-sync.
    pub(super) fn set_semi_sync(&mut self, statement: &Statement) -> Turn {
        if !self.spec.has_semi_sync() {
            return fail(code::UNKNOWN_VARIABLE, "Unknown system variable");
        }
        self.facts_stale = true;
        match statement {
            Statement::SemiSyncSource(on) if *on && self.semi.source_enabled => {}
            Statement::SemiSyncSource(on) => self.switch_semi_sync_source(*on),
            Statement::SemiSyncTimeout(ms) => self.semi.source.timeout_ms = *ms,
            Statement::SemiSyncWaitNoReplica(on) => {
                self.semi.source.wait_no_replica = *on;
                self.leave_if_too_few();
            }
            Statement::SemiSyncWaitFor(_) if self.flavor() == Flavor::MariaDb => {
                return fail(code::UNKNOWN_VARIABLE, "Unknown system variable");
            }
            Statement::SemiSyncWaitFor(acks) => self.semi.source.wait_for = *acks,
            Statement::SemiSyncReplica(on) => {
                self.semi.replica_enabled = *on;
                self.semi.replica_on &= *on;
            }
            _ => {}
        }
        ok()
    }
}
