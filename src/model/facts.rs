//! What one probe of one server brought back. A value that was not read is `None`, never false or zero.

use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    gtid::GtidSet,
    server::{Identity, Version},
};

/// Whether two readings date the same start of a server, Unix seconds: the seconds of its clock and of its uptime turn at
/// different moments.
pub fn is_same_start(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= 2
}

/// From this uptime on no later start can bear the date of this one ([`is_same_start`]), seconds: two seconds apart count as one,
/// each date may be off by nearly one, and a second may pass between the two values of which a date is made.
pub const DATED_FROM_S: u64 = 5;

/// Everything a finished probe of a server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Who answered.
    pub identity: Identity,
    /// Its version.
    pub version: Version,
    /// When the server says it started: its clock minus its uptime, Unix seconds. Jitters by a second (see
    /// [`is_same_start`]).
    pub started_at_s: Option<u64>,
    /// For how long it has been up, whole seconds.
    pub uptime_s: Option<u64>,
    /// `@@report_host`:`@@report_port` where set, else `@@hostname`:`@@port`: where it wants to be dialled.
    pub reports_as: Option<Address>,
    /// `@@read_only`.
    pub read_only: bool,
    /// `@@super_read_only` (MySQL).
    pub super_read_only: Option<bool>,
    /// `@@offline_mode` (MySQL).
    pub offline_mode: Option<bool>,
    /// MySQL: `@@gtid_mode` is `ON`. MariaDB: always true.
    pub gtid_on: bool,
    /// MySQL: `@@gtid_executed`. MariaDB: `@@gtid_binlog_state` merged with `@@gtid_slave_pos`.
    pub executed: GtidSet,
    /// MySQL: `@@gtid_purged`. MariaDB: `None` (see `binlog_first_pos` when it comes).
    pub purged: Option<GtidSet>,
    /// `@@log_bin`.
    pub log_bin: bool,
    /// `@@log_replica_updates` / `@@log_slave_updates`.
    pub log_replica_updates: bool,
    /// `@@binlog_format`.
    pub binlog_format: Option<String>,
    /// Semi-sync, where the plug-in is there.
    pub semi_sync: SemiSync,
    /// `Threads_connected` and `@@max_connections`.
    pub connections: Option<(u32, u32)>,
    /// Replication channels this server receives from. Empty on a primary.
    pub channels: Vec<Channel>,
    /// What `SHOW REPLICAS` lists; only read by a full inventory, else `None`.
    pub replicas: Option<Vec<ListedReplica>>,
    /// Dump threads in the process list; only read by a full inventory, else `None`.
    pub dump_clients: Option<Vec<DumpClient>>,
    /// `@@datadir`-independent durability: `(sync_binlog, innodb_flush_log_at_trx_commit)`; inventory only.
    pub durability: Option<(u32, u32)>,
}

impl ServerFacts {
    /// Whether ordinary clients can write here, as far as the switches say.
    pub fn writable(&self) -> bool {
        !self.read_only && self.super_read_only != Some(true) && self.offline_mode != Some(true)
    }

    /// Executed and received together: everything this server has in hand.
    pub fn in_hand(&self) -> GtidSet {
        let mut all = self.executed.clone();
        for channel in &self.channels {
            all.merge(&channel.received);
        }
        all
    }

    /// The channel that receives from that source; of several the one of this name.
    pub fn channel_from(&self, source: &Identity, address: &Address, name: &str) -> Option<&Channel> {
        self.channels.iter().filter(|c| c.is_from(source, address)).min_by_key(|c| c.name != name)
    }
}

impl Channel {
    /// Whether it receives from that source.
    pub fn is_from(&self, source: &Identity, address: &Address) -> bool {
        match (&self.source_uuid, &source.server_uuid) {
            (Some(seen), Some(bound)) if !seen.is_empty() => seen == bound,
            _ => &self.source == address || self.source_server_id == Some(source.server_id),
        }
    }
}

/// Semi-sync switches and states, both roles. `None` where the plug-in is not loaded or the value was not read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SemiSync {
    /// Source side switched on.
    pub source_enabled: Option<bool>,
    /// Source side in effect (`Rpl_semi_sync_source_status`).
    pub source_status: Option<bool>,
    /// Time after which the source gives up waiting, milliseconds.
    pub source_timeout_ms: Option<u64>,
    /// Whether the source waits even with no replica connected.
    pub source_wait_no_replica: Option<bool>,
    /// How many acknowledgements a commit needs (MariaDB: always 1).
    pub source_wait_for: Option<u32>,
    /// Ackers connected now.
    pub source_clients: Option<u32>,
    /// Replica side switched on.
    pub replica_enabled: Option<bool>,
    /// Replica side in effect.
    pub replica_status: Option<bool>,
}

/// State of the thread that receives from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receiver {
    /// Connected to the source.
    Running,
    /// Trying to connect.
    Connecting,
    /// Not running.
    Stopped,
}

/// One replication channel as the replica describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Channel name, `""` for the default one.
    pub name: String,
    /// Where it receives from, as configured.
    pub source: Address,
    /// The source's `server_uuid` as last seen by the receiver (MySQL).
    pub source_uuid: Option<String>,
    /// The source's `server_id` as last seen by the receiver.
    pub source_server_id: Option<u32>,
    /// State of the receiver.
    pub receiver: Receiver,
    /// Number and text of the receiver's last error; `None` when it has none.
    pub receiver_error: Option<(u32, String)>,
    /// Whether the applier runs.
    pub applier_running: bool,
    /// Number and text of the applier's last error; `None` when it has none.
    pub applier_error: Option<(u32, String)>,
    /// Received transactions. MySQL: `Retrieved_Gtid_Set`. MariaDB: from `Gtid_IO_Pos`.
    pub received: GtidSet,
    /// Whether the channel positions itself by GTID (`SOURCE_AUTO_POSITION`, `Using_Gtid` not `No`).
    pub by_gtid: bool,
    /// Position read from the source: file and offset. Moves whenever anything arrives.
    pub read_position: (String, u64),
    /// Position executed, in the source's terms.
    pub executed_position: (String, u64),
    /// Seconds behind the source as the server says; `None` where it says NULL.
    pub lag_s: Option<u64>,
    /// Configured delay, seconds.
    pub delay_s: u64,
    /// Heartbeat period, milliseconds.
    pub heartbeat_period_ms: Option<u64>,
    /// Heartbeats received since the receiver started.
    pub heartbeats: Option<u64>,
    /// Age of the last heartbeat by the replica's own clock, milliseconds (MySQL).
    pub heartbeat_age_ms: Option<u64>,
    /// Whether replication filters are set.
    pub filtered: bool,
    /// Whether the receiver uses TLS.
    pub tls: bool,
}

/// A line of `SHOW REPLICAS` / `SHOW SLAVE HOSTS`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedReplica {
    /// The replica's `server_id`.
    pub server_id: u32,
    /// `report_host`:`report_port`, where the replica set them.
    pub address: Option<Address>,
    /// The replica's `server_uuid` (MySQL).
    pub server_uuid: Option<String>,
}

/// A dump thread in the process list: a replica, or a CDC tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DumpClient {
    /// Connection id on the source.
    pub id: u64,
    /// Account name.
    pub user: String,
    /// Host the client connects from, without its ephemeral port.
    pub host: String,
}
