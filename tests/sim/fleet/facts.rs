//! What the real reader would make of this server's answers. Built when asked for; kept until something changes, with
//! only ages and counts renewed.

use std::sync::Arc;

use quorate::model::{
    facts::{self, DumpClient, ListedReplica, ServerFacts},
    server::Flavor,
};

use super::{
    channel::{Channel, Receiver},
    server::SimServer,
};

/// Unix seconds at the fleet's zero.
const EPOCH_S: u64 = 1_700_000_000;
/// Where the first event of a binlog stands, and how long a transaction is there.
const BINLOG_HEAD: u64 = 158;
const TRANSACTION: u64 = 300;
/// How long those have been up that were there at the beginning, seconds.
const OLD_S: u64 = 86_400;

impl SimServer {
    /// The facts now.
    pub fn read_facts(&mut self, inventory: bool, now_ms: u64) -> Arc<ServerFacts> {
        self.channels.iter_mut().for_each(|channel| channel.flow.settle(now_ms));
        let mut facts = match self.fresh_facts() {
            Some(facts) => facts,
            None => Arc::new(self.build_facts()),
        };
        self.facts_stale = false;
        if !self.channels.is_empty() {
            let changing = Arc::make_mut(&mut facts);
            for (shown, channel) in changing.channels.iter_mut().zip(&self.channels) {
                renew(self.flavor(), shown, channel, now_ms);
            }
        }
        let uptime_s = (EPOCH_S + now_ms / 1000).saturating_sub(self.started_at_s());
        // Nobody asks how old an old one is exactly.
        if facts.uptime_s.is_none_or(|shown| shown != uptime_s && shown < OLD_S) {
            Arc::make_mut(&mut facts).uptime_s = Some(uptime_s);
        }
        self.facts = Some(facts.clone());
        if inventory {
            let full = Arc::make_mut(&mut facts);
            full.replicas = Some(self.listed_replicas());
            full.dump_clients = Some(self.dump_clients());
            full.durability = Some((self.spec.sync_binlog, self.spec.flush_log));
        }
        facts
    }

    /// Those that were there at the beginning have been up for a day.
    fn started_at_s(&self) -> u64 {
        match self.started_ms {
            0 => EPOCH_S - OLD_S,
            at => EPOCH_S + at / 1000,
        }
    }

    fn build_facts(&self) -> ServerFacts {
        let mysql = self.flavor() == Flavor::MySql;
        ServerFacts {
            identity: self.spec.identity(),
            version: self.spec.version.clone(),
            started_at_s: Some(self.started_at_s()),
            uptime_s: None,
            reports_as: Some(self.spec.address.clone()),
            read_only: self.switches.read_only,
            super_read_only: mysql.then_some(self.switches.super_read_only),
            offline_mode: mysql.then_some(self.switches.offline),
            gtid_on: true,
            executed: self.log.executed_as_read(),
            purged: mysql.then(|| self.log.purged().clone()),
            log_bin: self.spec.log_bin,
            log_replica_updates: self.spec.log_replica_updates,
            binlog_format: Some(if mysql { "ROW" } else { "MIXED" }.to_owned()),
            semi_sync: self.semi_sync_facts(),
            connections: Some((self.connected(), self.spec.max_connections)),
            channels: self.channels.iter().map(|channel| shown(self.flavor(), channel)).collect(),
            replicas: None,
            dump_clients: None,
            durability: None,
        }
    }

    fn semi_sync_facts(&self) -> facts::SemiSync {
        if !self.spec.has_semi_sync() {
            return facts::SemiSync::default();
        }
        let wait_for = match self.flavor() {
            Flavor::MySql => self.semi.source.wait_for,
            Flavor::MariaDb => 1,
        };
        facts::SemiSync {
            source_enabled: Some(self.semi.source_enabled),
            source_status: Some(self.semi.source_enabled && self.semi.source_on),
            source_timeout_ms: Some(self.semi.source.timeout_ms),
            source_wait_no_replica: Some(self.semi.source.wait_no_replica),
            source_wait_for: Some(wait_for),
            source_clients: Some(self.semi_sync_clients()),
            replica_enabled: Some(self.semi.replica_enabled),
            replica_status: Some(self.semi.replica_on),
        }
    }

    fn listed_replicas(&self) -> Vec<ListedReplica> {
        let listed = |dump: &super::server::Dump| ListedReplica {
            server_id: dump.replica.server_id,
            address: Some(dump.reports.clone()),
            server_uuid: dump.replica.server_uuid.clone(),
        };
        self.dumps.iter().map(listed).collect()
    }

    fn dump_clients(&self) -> Vec<DumpClient> {
        let client = |dump: &super::server::Dump| DumpClient {
            id: dump.id,
            user: "repl".into(),
            host: dump.host.clone(),
        };
        self.dumps.iter().map(client).collect()
    }
}

fn position(transactions: usize) -> (String, u64) {
    ("binlog.000001".to_owned(), BINLOG_HEAD + transactions as u64 * TRANSACTION)
}

/// What of a channel does not change with time.
fn shown(flavor: Flavor, channel: &Channel) -> facts::Channel {
    let seen = channel.seen.as_ref();
    facts::Channel {
        name: channel.name.clone(),
        source: channel.options.source.clone(),
        source_uuid: seen.and_then(|(uuid, _)| uuid.clone()).filter(|_| flavor == Flavor::MySql),
        source_server_id: seen.map(|(_, id)| *id),
        receiver: match channel.receiver {
            Receiver::Stopped => facts::Receiver::Stopped,
            Receiver::Waiting(_) | Receiver::Dialling(..) => facts::Receiver::Connecting,
            Receiver::Running(_) => facts::Receiver::Running,
        },
        receiver_error: channel.receiver_error.clone(),
        applier_running: channel.applier_running,
        applier_error: channel.applier_error.clone(),
        received: channel.received.clone(),
        by_gtid: true,
        read_position: position(channel.read),
        executed_position: position(channel.applied),
        lag_s: None,
        delay_s: channel.delay_ms / 1000,
        heartbeat_period_ms: Some(channel.options.heartbeat_ms),
        heartbeats: None,
        heartbeat_age_ms: None,
        filtered: false,
        tls: flavor == Flavor::MySql,
    }
}

/// What does.
fn renew(flavor: Flavor, shown: &mut facts::Channel, channel: &Channel, now_ms: u64) {
    shown.heartbeats = Some(channel.flow.count);
    if flavor == Flavor::MySql {
        // Before the first one the server shows a timestamp of zero, whose age is NULL.
        shown.heartbeat_age_ms = channel.flow.last_ms.map(|last| now_ms.saturating_sub(last));
    }
    shown.lag_s = lag(flavor, channel, now_ms);
}

/// Seconds behind: NULL without an applier; on MariaDB without a connection too, on MySQL only when all is applied.
fn lag(flavor: Flavor, channel: &Channel, now_ms: u64) -> Option<u64> {
    let connected = matches!(channel.receiver, Receiver::Running(_));
    if !channel.applier_running || (flavor == Flavor::MariaDb && !connected) {
        return None;
    }
    match channel.relay.front() {
        Some((_, txn)) => Some(now_ms.saturating_sub(txn.at_ms) / 1000),
        None => connected.then_some(0),
    }
}
