//! Command lines of servers: small, quick to start, and with GTID replication as shops run it.

use crate::{flavor::Flavor, install::Install};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

/// What a topology's description says about its servers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Wait for this many acknowledgements; asynchronous when absent.
    pub semi_sync: Option<u32>,
    /// Flush on each commit, and performance_schema on: as a careful shop runs it.
    pub durable: bool,
    /// Come back read-only after a restart. Off as in most shops, so that a returned old primary accepts writes.
    pub restart_read_only: bool,
    /// Write every statement to a file, for scenarios that show what was *not* sent.
    pub general_log: bool,
    /// `replica_net_timeout`; the server's default of 60 s when absent.
    pub net_timeout: Option<u32>,
}

/// Where the program finds its own files, and its data.
pub fn base(install: &Install, data: &Path) -> Vec<OsString> {
    let with = |name: &str, path: &Path| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(path);
        word
    };
    let mut args = vec![
        OsString::from("--no-defaults"),
        "--user=root".into(),
        with("basedir", &install.basedir),
        with("plugin-dir", &install.plugins),
        with("datadir", data),
        with("lc-messages-dir", &install.share),
        with("character-sets-dir", &install.share.join("charsets")),
    ];
    if install.flavor == Flavor::Mysql {
        // Debian's default directory does not exist here, and the server would refuse to start.
        args.push("--secure-file-priv=".into());
    }
    args
}

/// A running server of this data directory: memory and disk use kept small.
pub fn program(install: &Install, data: &Path, socket: &Path) -> Vec<OsString> {
    let mut args = base(install, data);
    let mut socket_word = OsString::from("--socket=");
    socket_word.push(socket);
    args.push(socket_word);
    let common = [
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-buffer-size=1M",
        "--max-connections=200",
    ];
    let own: &[&str] = match install.flavor {
        Flavor::Mysql => &[
            "--mysqlx=OFF",
            "--innodb-redo-log-capacity=32M",
            "--innodb-use-native-aio=OFF",
            "--temptable-max-ram=16M",
        ],
        Flavor::Mariadb => &["--innodb-log-file-size=32M", "--innodb-use-native-aio=OFF"],
    };
    args.extend(common.iter().chain(own).map(OsString::from));
    args
}

/// A member of a topology.
pub fn member(flavor: Flavor, settings: &Settings, number: usize, ip: IpAddr, port: u16) -> Vec<OsString> {
    let mut args = vec![
        format!("--port={port}"),
        format!("--bind-address={ip}"),
        format!("--server-id={}", 100 + number),
        format!("--report-host={ip}"),
        format!("--report-port={port}"),
        "--log-bin=binlog".into(),
        "--relay-log=relay".into(),
        "--binlog-format=ROW".into(),
        "--table-open-cache=200".into(),
        "--table-definition-cache=400".into(),
    ];
    let mut add = |words: &[&str]| args.extend(words.iter().map(ToString::to_string));
    match flavor {
        Flavor::Mysql => {
            add(&["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-replica-updates=ON"])
        }
        Flavor::Mariadb => add(&["--gtid-strict-mode=ON", "--log-slave-updates=ON"]),
    }
    if settings.durable {
        add(&["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--performance-schema=ON"]);
    } else {
        add(&[
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=OFF",
            "--performance-schema=OFF",
        ]);
    }
    if settings.restart_read_only {
        add(&["--read-only=ON"]);
    }
    if settings.general_log {
        add(&["--general-log=ON", "--general-log-file=general.log", "--log-output=FILE"]);
    }
    if let Some(seconds) = settings.net_timeout {
        let name = if flavor == Flavor::Mysql { "replica" } else { "slave" };
        args.push(format!("--{name}-net-timeout={seconds}"));
    }
    if let Some(count) = settings.semi_sync {
        args.extend(semi_sync(flavor, count, number == 1));
    }
    args.into_iter().map(OsString::from).collect()
}

/// Semi-sync that never degrades: the longest time-out, and waiting even without replicas. The source's side is on
/// for the first primary only, since a replica with it on would wait for acknowledgements of what it applies.
fn semi_sync(flavor: Flavor, count: u32, is_first_primary: bool) -> Vec<String> {
    let source = if is_first_primary { "ON" } else { "OFF" };
    match flavor {
        Flavor::Mysql => vec![
            format!("--loose-rpl-semi-sync-source-enabled={source}"),
            "--loose-rpl-semi-sync-source-timeout=4294967295".into(),
            "--loose-rpl-semi-sync-source-wait-no-replica=ON".into(),
            format!("--loose-rpl-semi-sync-source-wait-for-replica-count={count}"),
            "--loose-rpl-semi-sync-replica-enabled=ON".into(),
        ],
        Flavor::Mariadb => vec![
            format!("--rpl-semi-sync-master-enabled={source}"),
            "--rpl-semi-sync-master-timeout=18446744073709551615".into(),
            "--rpl-semi-sync-master-wait-no-slave=ON".into(),
            "--rpl-semi-sync-slave-enabled=ON".into(),
        ],
    }
}
