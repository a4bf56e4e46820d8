//! Replication statements, and the applier.

use quorate::model::{gtid::GtidSet, server::Flavor};

use super::{
    channel::{Channel, Receiver},
    execute::{Turn, fail, ok},
    log::Conflict,
    server::{Effect, SimServer},
    session::Wait,
    statement::{ChangeSource, Thread, code},
};

/// STOP REPLICA while the receiver dials a silent host takes about this long on MySQL (measured 2.0-2.25 s on 9.7).
const SLOW_STOP_MS: u64 = 2_000;

impl SimServer {
    fn no_channel(&self, name: &str) -> Turn {
        match (self.flavor(), name) {
            (Flavor::MySql, "") => fail(
                code::NOT_CONFIGURED,
                "This operation cannot be performed, the server is not configured as replica",
            ),
            (Flavor::MySql, _) => fail(code::NO_CHANNEL, format!("Replica channel '{name}' does not exist.")),
            (Flavor::MariaDb, "") => {
                fail(code::NOT_CONFIGURED, "Misconfigured slave: MASTER_HOST was not set")
            }
            (Flavor::MariaDb, _) => {
                fail(code::NO_CONNECTION, format!("There is no master connection '{name}'"))
            }
        }
    }

    /// START REPLICA.
    pub(super) fn start_replica(&mut self, name: &str, thread: Thread, now_ms: u64) -> Turn {
        let flavor = self.flavor();
        let applied = self.log.slave_pos().clone();
        if self.channel(name).is_none() {
            return self.no_channel(name);
        }
        let Some(channel) = self.channel_mut(name) else { return ok() };
        if flavor == Flavor::MariaDb && channel.stands() {
            // Measured on 10.11: what was received and not applied is deleted, without an error.
            channel.discard_relay(applied);
        }
        if thread.receiver() && channel.receiver == Receiver::Stopped {
            channel.receiver = Receiver::Waiting(now_ms);
            channel.receiver_error = None;
            channel.flow = Default::default();
        }
        if thread.applier() && !channel.applier_running {
            channel.applier_running = true;
            channel.applier_error = None;
        }
        self.effects.push(Effect::Wake(now_ms));
        ok()
    }

    /// STOP REPLICA.
    pub(super) fn stop_replica(
        &mut self,
        name: &str,
        thread: Thread,
        wait: Option<Wait>,
        now_ms: u64,
    ) -> Turn {
        let flavor = self.flavor();
        let Some(channel) = self.channel(name) else {
            return match (flavor, name) {
                // The default channel is always there.
                (_, "") => ok(),
                _ => self.no_channel(name),
            };
        };
        let slow = flavor == Flavor::MySql
            && thread.receiver()
            && matches!(channel.receiver, Receiver::Dialling(..))
            && channel.receiver_error.is_some();
        match wait {
            Some(Wait::SlowStop(at)) if now_ms < at => return Turn::Wait(Wait::SlowStop(at)),
            None if slow => return Turn::Wait(Wait::SlowStop(now_ms + SLOW_STOP_MS)),
            _ => {}
        }
        let Some(channel) = self.channel_mut(name) else { return ok() };
        if thread.applier() {
            channel.applier_running = false;
            channel.apply_at = None;
        }
        if thread.receiver() {
            let stream = channel.receiver.stream();
            channel.receiver = Receiver::Stopped;
            channel.flow.settle(now_ms);
            channel.flow.on = false;
            self.semi.replica_on = false;
            self.effects.extend(stream.map(Effect::CloseReceiver));
        }
        ok()
    }

    /// Somebody sets a server up as a replica that has not started yet.
    pub fn replicate_from(&mut self, change: &ChangeSource) {
        drop(self.change_source("", change));
    }

    /// CHANGE REPLICATION SOURCE TO / CHANGE MASTER TO.
    pub(super) fn change_source(&mut self, name: &str, change: &ChangeSource) -> Turn {
        let (flavor, nothing) = (self.flavor(), GtidSet::empty(self.flavor()));
        let Some(channel) = self.channel_mut(name) else {
            self.channels.push(Channel::new(name, change.clone(), nothing));
            self.facts_stale = true;
            return ok();
        };
        let code = if flavor == Flavor::MySql { code::CHANNEL_RUNS } else { code::MUST_STOP };
        if channel.receiver != Receiver::Stopped {
            return fail(code, "This operation cannot be performed with a running replica io thread");
        }
        let needs_applier_stopped = flavor == Flavor::MariaDb || change.sets_auto_position;
        if channel.applier_running && needs_applier_stopped {
            return fail(code, "This operation cannot be performed with a running replica sql thread");
        }
        if channel.stands() {
            // MariaDB goes on showing the position it had received until it is started.
            let shown = if flavor == Flavor::MySql { nothing } else { channel.received.clone() };
            channel.discard_relay(shown);
        }
        if channel.options.source != change.source {
            channel.seen = channel.seen.take().map(|(_, id)| (None, id));
        }
        channel.options = change.clone();
        ok()
    }

    /// RESET REPLICA ALL.
    pub(super) fn reset_replica_all(&mut self, name: &str) -> Turn {
        let flavor = self.flavor();
        match self.channel(name) {
            None if name.is_empty() => ok(),
            None => self.no_channel(name),
            Some(channel) if !channel.stands() => {
                let code = if flavor == Flavor::MySql { code::CHANNEL_RUNS } else { code::MUST_STOP };
                fail(code, "This operation cannot be performed as you have a running replica")
            }
            Some(_) => {
                self.channels.retain(|channel| !channel.name.eq_ignore_ascii_case(name));
                self.facts_stale = true;
                ok()
            }
        }
    }

    /// `SET GLOBAL gtid_slave_pos`.
    pub(super) fn set_gtid_slave_pos(&mut self, position: &str) -> Turn {
        if self.flavor() == Flavor::MySql {
            return fail(code::UNKNOWN_VARIABLE, "Unknown system variable 'gtid_slave_pos'");
        }
        if !self.channels.iter().all(Channel::stands) {
            return fail(code::MUST_STOP, "This operation cannot be performed as you have a running slave");
        }
        self.facts_stale = true;
        match self.log.set_slave_pos(position) {
            Ok(()) => ok(),
            Err(why) => fail(code::POSITION_CONFLICT, why),
        }
    }

    /// Lets each applier go on as far as it can.
    pub(super) fn run_appliers(&mut self, now_ms: u64) {
        if !self.runs() || self.applier_held || self.stalled {
            return;
        }
        for at in 0..self.channels.len() {
            while self.apply_next(at, now_ms) {}
        }
    }

    /// Whether a transaction was applied and there may be another.
    fn apply_next(&mut self, at: usize, now_ms: u64) -> bool {
        let (apply_ms, logged) = (self.spec.apply_ms, self.spec.log_bin && self.spec.log_replica_updates);
        let channel = &mut self.channels[at];
        if !channel.applier_running {
            return false;
        }
        let Some((_, txn)) = channel.relay.front() else { return false };
        let due =
            *channel.apply_at.get_or_insert_with(|| (now_ms + apply_ms).max(txn.at_ms + channel.delay_ms));
        if due > now_ms {
            self.effects.push(Effect::Wake(due));
            return false;
        }
        let txn = txn.clone();
        let result = self.log.apply(&txn, logged, now_ms);
        self.facts_stale = true;
        let channel = &mut self.channels[at];
        channel.apply_at = None;
        match result {
            Ok(()) => {
                channel.relay.pop_front();
                channel.applied += 1;
                true
            }
            Err(conflict) => {
                channel.applier_running = false;
                channel.applier_error = Some(words(&conflict, &txn.gtid));
                false
            }
        }
    }
}

fn words(conflict: &Conflict, gtid: &GtidSet) -> (u32, String) {
    match conflict {
        Conflict::Duplicate(row) => (
            u32::from(code::DUPLICATE),
            format!(
                "Could not execute Write_rows event on table app.t; Duplicate entry '{row}' for key 't.PRIMARY' ({gtid})"
            ),
        ),
        Conflict::OutOfOrder(gtid) => (
            u32::from(code::OUT_OF_ORDER),
            format!(
                "An attempt was made to binlog GTID {gtid} which would create an out-of-order sequence number, and gtid strict mode is enabled"
            ),
        ),
    }
}
