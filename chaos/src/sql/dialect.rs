//! The statements in which the two flavours differ, as the rig needs them.

use super::{Named, REPL};
use crate::flavor::Flavor;
use std::time::Duration;

impl Flavor {
    /// Points a replica at its source, by GTID.
    pub fn change_source(self, host: &str, port: u16, heartbeat: Duration) -> String {
        let (user, password, seconds) = (REPL.user, REPL.password, heartbeat.as_secs_f64());
        match self {
            Flavor::Mysql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{user}', \
                 SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, \
                 SOURCE_RETRY_COUNT=86400, SOURCE_HEARTBEAT_PERIOD={seconds} FOR CHANNEL ''"
            ),
            Flavor::Mariadb => format!(
                "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{user}', \
                 MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, \
                 MASTER_HEARTBEAT_PERIOD={seconds}"
            ),
        }
    }

    /// Starts both threads of the default channel.
    pub fn start_replica(self) -> &'static str {
        match self {
            Flavor::Mysql => "START REPLICA",
            Flavor::Mariadb => "START SLAVE",
        }
    }

    /// Stops the receiver only, as an operator might.
    pub fn stop_receiver(self) -> &'static str {
        match self {
            Flavor::Mysql => "STOP REPLICA IO_THREAD",
            Flavor::Mariadb => "STOP SLAVE IO_THREAD",
        }
    }

    /// The replica's own report.
    pub fn replica_status(self) -> &'static str {
        match self {
            Flavor::Mysql => "SHOW REPLICA STATUS",
            Flavor::Mariadb => "SHOW SLAVE STATUS",
        }
    }

    /// Refuses writes from everyone but administrators.
    pub fn set_read_only(self) -> &'static str {
        match self {
            Flavor::Mysql => "SET GLOBAL super_read_only=ON",
            Flavor::Mariadb => "SET GLOBAL read_only=ON",
        }
    }

    /// 1 when ordinary accounts are refused.
    pub fn is_read_only(self) -> &'static str {
        match self {
            Flavor::Mysql => "SELECT @@read_only OR @@super_read_only OR @@offline_mode",
            Flavor::Mariadb => "SELECT @@read_only",
        }
    }

    /// Forgets all binary logs and GTIDs.
    pub fn reset_binary_logs(self) -> &'static str {
        match self {
            Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
            Flavor::Mariadb => "RESET MASTER",
        }
    }

    /// What a change by anybody would alter; compared before and after scenarios in which nothing may happen.
    pub fn settings(self) -> &'static str {
        match self {
            Flavor::Mysql => {
                "SELECT @@read_only, @@super_read_only, @@offline_mode, @@rpl_semi_sync_source_enabled, \
                 @@rpl_semi_sync_replica_enabled, @@rpl_semi_sync_source_timeout, @@rpl_semi_sync_source_wait_for_replica_count"
            }
            Flavor::Mariadb => {
                "SELECT @@read_only, @@rpl_semi_sync_master_enabled, @@rpl_semi_sync_slave_enabled, @@rpl_semi_sync_master_timeout"
            }
        }
    }

    /// What the server executed, as text.
    pub fn executed(self) -> &'static str {
        match self {
            Flavor::Mysql => "SELECT REPLACE(@@global.gtid_executed, '\\n', '')",
            Flavor::Mariadb => "SELECT @@global.gtid_binlog_pos",
        }
    }

    /// Starts acknowledging commits only after `count` replicas have them; the time-out is practically never.
    pub fn enable_semi_sync_source(self, count: u32) -> Vec<String> {
        match self {
            Flavor::Mysql => vec![
                format!("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count={count}"),
                "SET GLOBAL rpl_semi_sync_source_enabled=ON".into(),
            ],
            Flavor::Mariadb => vec!["SET GLOBAL rpl_semi_sync_master_enabled=ON".into()],
        }
    }

    /// How many semi-sync replicas the source counts.
    pub fn semi_sync_clients(self) -> &'static str {
        match self {
            Flavor::Mysql => "SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'",
            Flavor::Mariadb => "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'",
        }
    }
}

/// The part of a replica's report the rig looks at, by either flavour's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Source's port; every server of the rig has its own address.
    pub source: String,
    /// `Yes`, `No`, `Connecting`.
    pub receiver: String,
    /// `Yes`, `No`.
    pub applier: String,
    /// Last error of either thread.
    pub error: String,
}

impl ReplicaStatus {
    /// Reads one row; `None` for a server that is no replica.
    pub fn read(rows: &[Named]) -> Option<ReplicaStatus> {
        let row = rows.first()?;
        let field = |names: [&str; 2]| {
            names.iter().find_map(|n| row.get(*n)).and_then(Clone::clone).unwrap_or_default()
        };
        let errors = [field(["Last_IO_Error", ""]), field(["Last_SQL_Error", ""])];
        Some(ReplicaStatus {
            source: format!(
                "{}:{}",
                field(["Source_Host", "Master_Host"]),
                field(["Source_Port", "Master_Port"])
            ),
            receiver: field(["Replica_IO_Running", "Slave_IO_Running"]),
            applier: field(["Replica_SQL_Running", "Slave_SQL_Running"]),
            error: errors.into_iter().find(|e| !e.is_empty()).unwrap_or_default(),
        })
    }

    /// Both threads run.
    pub fn is_running(&self) -> bool {
        self.receiver == "Yes" && self.applier == "Yes"
    }
}
