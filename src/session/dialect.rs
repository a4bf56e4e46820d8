//! What each flavour and version calls things: statements and column lists as data.

use super::rows::{ResultSet, switch};
use crate::model::server::{Flavor, Version};

/// Which of the two generations of semi-sync names a server knows (MySQL 8.0.26 brought the new ones; a server has
/// the names of the plug-in that was installed, never both. MySQL 8.4 manual, 19.4.10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SemiSyncNames {
    /// `source`, `replica`.
    New,
    /// `master`, `slave` (MariaDB has no others).
    Old,
}

impl SemiSyncNames {
    /// `rpl_semi_sync_source` or `rpl_semi_sync_master`.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::New => "rpl_semi_sync_source",
            Self::Old => "rpl_semi_sync_master",
        }
    }

    /// `rpl_semi_sync_replica` or `rpl_semi_sync_slave`.
    pub(crate) fn replica(self) -> &'static str {
        match self {
            Self::New => "rpl_semi_sync_replica",
            Self::Old => "rpl_semi_sync_slave",
        }
    }

    /// Name of the switch that makes a source wait even with no replica connected.
    pub(crate) fn wait_no_replica(self) -> &'static str {
        match self {
            Self::New => "rpl_semi_sync_source_wait_no_replica",
            Self::Old => "rpl_semi_sync_master_wait_no_slave",
        }
    }

    /// Name of the number of acknowledgements (MySQL; MariaDB has none and waits for one).
    pub(crate) fn wait_for(self) -> &'static str {
        match self {
            Self::New => "rpl_semi_sync_source_wait_for_replica_count",
            Self::Old => "rpl_semi_sync_master_wait_for_slave_count",
        }
    }
}

/// What a particular server can be asked, found out once a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    pub(crate) flavor: Flavor,
    pub(crate) version: Version,
    /// Names of the semi-sync source side, where it is loaded.
    pub(crate) semi_source: Option<SemiSyncNames>,
    /// Names of the semi-sync replica side, where it is loaded.
    pub(crate) semi_replica: Option<SemiSyncNames>,
    /// Whether `@@server_uid` exists (MariaDB).
    server_uid: bool,
    /// Whether `performance_schema` is on: without it its process list is empty.
    pub(crate) performance_schema: bool,
    /// Whether this session itself was found to be free of `PROCESS` (see [`super::grants`]).
    pub(crate) without: Vec<Part>,
}

/// One statement of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// System variables.
    Variables,
    /// Status counters.
    Status,
    /// Replication channels.
    Channels,
    /// Heartbeats (MySQL; MariaDB shows them among the channels).
    Heartbeats,
    /// Replicas that registered here.
    Replicas,
    /// Whether the whole process list may be seen: PROCESS is what `innodb_trx` demands; the process list itself
    /// says nothing and shows less.
    MayProcess,
    /// Dump threads.
    DumpThreads,
    /// Durability settings.
    Durability,
}

/// Asks which optional variables a server has. `SHOW` gives no error for those it does not.
pub(crate) const ASK_PROFILE: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('rpl_semi_sync_source_enabled',\
    'rpl_semi_sync_master_enabled','rpl_semi_sync_replica_enabled','rpl_semi_sync_slave_enabled','server_uid',\
    'performance_schema')";

/// Variables whose value goes into the facts, by flavour: `@@name AS name`.
const MYSQL_VARIABLES: &[&str] = &[
    "server_uuid",
    "server_id",
    "version",
    "hostname",
    "port",
    "report_host",
    "report_port",
    "read_only",
    "super_read_only",
    "offline_mode",
    "gtid_mode",
    "gtid_executed",
    "gtid_purged",
    "log_bin",
    "binlog_format",
    "max_connections",
];
const MARIADB_VARIABLES: &[&str] = &[
    "server_id",
    "version",
    "hostname",
    "port",
    "report_host",
    "report_port",
    "read_only",
    "gtid_binlog_state",
    "gtid_slave_pos",
    "log_bin",
    "binlog_format",
    "max_connections",
];

impl Profile {
    /// Reads the answer to [`ASK_PROFILE`].
    pub(crate) fn new(flavor: Flavor, version: Version, answer: &ResultSet) -> Self {
        let has = |name: &str| answer.rows().any(|row| row.get("variable_name") == Some(name));
        let names = |new: &str, old: &str| match (has(new), has(old)) {
            (true, _) => Some(SemiSyncNames::New),
            (_, true) => Some(SemiSyncNames::Old),
            _ => None,
        };
        let value = |name: &str| {
            let row = answer.rows().find(|row| row.get("variable_name") == Some(name))?;
            switch(row.get("value")?)
        };
        Self {
            flavor,
            version,
            semi_source: names("rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"),
            semi_replica: names("rpl_semi_sync_replica_enabled", "rpl_semi_sync_slave_enabled"),
            server_uid: has("server_uid"),
            performance_schema: value("performance_schema") == Some(true),
            without: Vec::new(),
        }
    }

    /// The statements of one reading, in order.
    pub(crate) fn statements(&self, inventory: bool) -> Vec<(Part, String)> {
        let mut all = vec![
            (Part::Variables, self.variables()),
            (Part::Status, self.status()),
            (Part::Channels, self.channels().to_owned()),
        ];
        if self.flavor == Flavor::MySql {
            all.push((Part::Heartbeats, MYSQL_HEARTBEATS.to_owned()));
        }
        if inventory {
            all.push((Part::Replicas, self.replicas().to_owned()));
            all.push((Part::Durability, DURABILITY.to_owned()));
            all.push((Part::MayProcess, MAY_PROCESS.to_owned()));
            all.push((Part::DumpThreads, self.dump_threads()));
        }
        all.retain(|(part, _)| !self.without.contains(part));
        all
    }

    fn variables(&self) -> String {
        let mut names: Vec<&str> = match self.flavor {
            Flavor::MySql => MYSQL_VARIABLES.to_vec(),
            Flavor::MariaDb => MARIADB_VARIABLES.to_vec(),
        };
        if self.server_uid && self.flavor == Flavor::MariaDb {
            names.push("server_uid");
        }
        let mut columns: Vec<String> = names.iter().map(|name| format!("@@{name} AS {name}")).collect();
        // MySQL 8.0.26 renamed it; 9.x still answers to the old name, but may cease to.
        let new = self.flavor == Flavor::MySql && self.version.at_least((8, 0, 26));
        let updates = if new { "log_replica_updates" } else { "log_slave_updates" };
        columns.push(format!("@@{updates} AS log_replica_updates"));
        if let Some(names) = self.semi_source {
            columns.push(format!("@@{}_enabled AS semi_source_enabled", names.source()));
            columns.push(format!("@@{}_timeout AS semi_source_timeout", names.source()));
            columns.push(format!("@@{} AS semi_source_wait_no_replica", names.wait_no_replica()));
            if self.flavor == Flavor::MySql {
                columns.push(format!("@@{} AS semi_source_wait_for", names.wait_for()));
            }
        }
        if let Some(names) = self.semi_replica {
            columns.push(format!("@@{}_enabled AS semi_replica_enabled", names.replica()));
        }
        format!("SELECT {}, UNIX_TIMESTAMP() AS now_s", columns.join(", "))
    }

    fn status(&self) -> String {
        let table = match self.flavor {
            Flavor::MySql => "performance_schema.global_status",
            Flavor::MariaDb => "information_schema.GLOBAL_STATUS",
        };
        let mut names = vec!["Uptime".to_owned(), "Threads_connected".to_owned()];
        if let Some(semi) = self.semi_source {
            for of in ["status", "clients", "wait_sessions"] {
                names.push(format!("{}_{of}", semi.source()));
            }
        }
        if let Some(semi) = self.semi_replica {
            names.push(format!("{}_status", semi.replica()));
        }
        format!(
            "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM {table} WHERE VARIABLE_NAME IN ('{}')",
            names.join("','")
        )
    }

    pub(crate) fn channels(&self) -> &'static str {
        match self.flavor {
            // Renamed in 8.0.22 (MySQL 8.0 manual, 15.7.7.35); gone under the old name in 8.4.
            Flavor::MySql if self.version.at_least((8, 0, 22)) => "SHOW REPLICA STATUS",
            Flavor::MySql => "SHOW SLAVE STATUS",
            Flavor::MariaDb => "SHOW ALL SLAVES STATUS",
        }
    }

    fn replicas(&self) -> &'static str {
        match self.flavor {
            Flavor::MySql if self.version.at_least((8, 0, 22)) => "SHOW REPLICAS",
            _ => "SHOW SLAVE HOSTS",
        }
    }

    /// The process list that is complete on this server.
    pub(crate) fn process_list(&self) -> &'static str {
        // The table came with 8.0.22 (MySQL 8.0 manual, 29.12.21.7) and is empty while performance_schema is off.
        let has =
            self.flavor == Flavor::MySql && self.version.at_least((8, 0, 22)) && self.performance_schema;
        match has {
            true => "performance_schema.processlist",
            false => "information_schema.PROCESSLIST",
        }
    }

    fn dump_threads(&self) -> String {
        format!(
            "SELECT ID AS id, USER AS user, HOST AS host FROM {} WHERE COMMAND LIKE 'Binlog Dump%'",
            self.process_list()
        )
    }
}

/// The age is taken on the server: its clock and ours need not agree.
const MYSQL_HEARTBEATS: &str = "SELECT s.CHANNEL_NAME AS channel_name, s.COUNT_RECEIVED_HEARTBEATS AS heartbeats, \
    TIMESTAMPDIFF(MICROSECOND, s.LAST_HEARTBEAT_TIMESTAMP, NOW(6)) AS age_us, c.HEARTBEAT_INTERVAL AS period_s \
    FROM performance_schema.replication_connection_status s \
    JOIN performance_schema.replication_connection_configuration c ON c.CHANNEL_NAME = s.CHANNEL_NAME";

const MAY_PROCESS: &str = "SELECT COUNT(*) AS transactions FROM information_schema.INNODB_TRX";

const DURABILITY: &str =
    "SELECT @@sync_binlog AS sync_binlog, @@innodb_flush_log_at_trx_commit AS innodb_flush_log_at_trx_commit";
