//! What a simulated server is before anything happens to it: its programme, its configuration file, its machine.

use quorate::model::{
    address::Address,
    server::{Flavor, Identity, Version},
};

/// One server as its operator set it up.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Dialect.
    pub flavor: Flavor,
    /// Version.
    pub version: Version,
    /// `server_id`, unique in the fleet.
    pub server_id: u32,
    /// `server_uuid` (MySQL).
    pub uuid: Option<String>,
    /// `server_uid` (MariaDB, where it has one).
    pub uid: Option<String>,
    /// Where it listens, and what it reports.
    pub address: Address,
    /// Where it stands; means nothing to the fleet.
    pub datacenter: String,
    /// Semi-sync plug-ins are loaded (MySQL; MariaDB has them built in).
    pub semi_sync_plugins: bool,
    /// `log_bin`.
    pub log_bin: bool,
    /// `log_replica_updates`.
    pub log_replica_updates: bool,
    /// `replica_net_timeout`, milliseconds.
    pub net_timeout_ms: u64,
    /// `max_connections`.
    pub max_connections: u32,
    /// `sync_binlog`: with 0 a power failure takes what was written last.
    pub sync_binlog: u32,
    /// `innodb_flush_log_at_trx_commit`; shown, not simulated.
    pub flush_log: u32,
    /// `performance_schema` (MySQL): without it no table locks are shown.
    pub performance_schema: bool,
    /// `gtid_strict_mode` (MariaDB).
    pub gtid_strict: bool,
    /// From start to the first greeting, milliseconds.
    pub startup_ms: u64,
    /// How long the applier works at one transaction, milliseconds.
    pub apply_ms: u64,
    /// The switches in its configuration file, as they are after each start.
    pub config: Config,
}

/// Switches a start sets, whatever `SET GLOBAL` said before it.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `read_only`.
    pub read_only: bool,
    /// `super_read_only` (MySQL).
    pub super_read_only: bool,
    /// `skip_replica_start`.
    pub skip_replica_start: bool,
    /// `relay_log_recovery` (MySQL): relay log is thrown away at a start and fetched again.
    pub relay_log_recovery: bool,
    /// Semi-sync source side on, with these values.
    pub semi_sync_source: Option<SemiSyncSource>,
    /// Semi-sync replica side on.
    pub semi_sync_replica: bool,
}

/// The source side of semi-sync as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSyncSource {
    /// Time after which a commit is acknowledged alone, milliseconds.
    pub timeout_ms: u64,
    /// Whether it waits with fewer ackers connected than it needs.
    pub wait_no_replica: bool,
    /// Acknowledgements a commit needs (MariaDB: 1).
    pub wait_for: u32,
}

impl Default for SemiSyncSource {
    /// What the servers come with.
    fn default() -> Self {
        Self { timeout_ms: 10_000, wait_no_replica: true, wait_for: 1 }
    }
}

impl ServerSpec {
    /// An ordinary server of the versions that were measured; its address is `db<number>:3306`.
    pub fn ordinary(flavor: Flavor, number: u32) -> Self {
        let text = match flavor {
            Flavor::MySql => "9.7.4",
            Flavor::MariaDb => "10.11.19-MariaDB-log",
        };
        let mysql = flavor == Flavor::MySql;
        Self {
            flavor,
            version: text.parse().expect("a version"),
            server_id: number,
            uuid: mysql.then(|| format!("00000000-0000-4000-8000-{number:012}")),
            uid: (!mysql).then(|| format!("uid-{number}")),
            address: Address::new(format!("db{number}"), 3306),
            datacenter: String::new(),
            semi_sync_plugins: true,
            log_bin: true,
            log_replica_updates: true,
            net_timeout_ms: 60_000,
            max_connections: 100,
            sync_binlog: 1,
            flush_log: 1,
            performance_schema: true,
            gtid_strict: true,
            startup_ms: 500,
            apply_ms: 0,
            config: Config::default(),
        }
    }

    /// What it says of itself.
    pub fn identity(&self) -> Identity {
        Identity {
            flavor: self.flavor,
            server_uuid: self.uuid.clone(),
            server_id: self.server_id,
            server_uid: self.uid.clone(),
        }
    }

    /// Whether it knows the semi-sync variables.
    pub fn has_semi_sync(&self) -> bool {
        self.flavor == Flavor::MariaDb || self.semi_sync_plugins
    }
}

/// Who logs in, which is to say with which rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Quorate's account, for looking.
    Probe,
    /// Quorate's account, for acting.
    Executor,
    /// The application: no administrative right.
    App,
    /// An operator with every right.
    Admin,
    /// A replica's account.
    Replication,
}

impl Account {
    /// The account's name in the process list.
    pub fn user(self) -> &'static str {
        match self {
            Self::Probe | Self::Executor => "quorate",
            Self::App => "app",
            Self::Admin => "admin",
            Self::Replication => "repl",
        }
    }

    /// CONNECTION_ADMIN (MySQL) or READ ONLY ADMIN with CONNECTION ADMIN (MariaDB): writes under `read_only`, stays in
    /// `offline_mode`, and has the connection above `max_connections`.
    pub fn is_privileged(self) -> bool {
        matches!(self, Self::Probe | Self::Executor | Self::Admin)
    }
}
