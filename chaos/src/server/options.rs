//! Command lines of servers: small, quick to start, and with GTID replication as shops run it.

use crate::{flavor::Flavor, install::Install};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

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
    // One a server: a MariaDB that starts deletes the temporary tables of every other one in the same directory.
    let mut tmp = data.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    // Where it cannot be made, the server says so in its own log.
    let _ = std::fs::create_dir_all(&tmp);
    let mut args = vec![
        OsString::from("--no-defaults"),
        "--user=root".into(),
        with("basedir", &install.basedir),
        with("plugin-dir", &install.plugins),
        with("datadir", data),
        with("tmpdir", &tmp),
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
    args.extend(small(install.flavor).into_iter().map(OsString::from));
    args
}

/// A member of a topology.
pub fn member(flavor: Flavor, settings: &Settings, number: usize, ip: IpAddr, port: u16) -> Vec<OsString> {
    let place = [
        format!("--port={port}"),
        format!("--bind-address={ip}"),
        format!("--server-id={}", server_id(number)),
        format!("--report-host={ip}"),
        format!("--report-port={port}"),
    ];
    let wished = as_wished(flavor, settings, number == 1);
    place.into_iter().chain(wished).map(OsString::from).collect()
}

/// What tells its transactions apart in a binlog.
pub fn server_id(number: usize) -> u32 {
    100 + number as u32
}

/// Every option of a first primary but those that say who and where it is.
pub fn named(flavor: Flavor, settings: &Settings) -> Vec<String> {
    small(flavor).into_iter().map(str::to_owned).chain(as_wished(flavor, settings, true)).collect()
}

fn small(flavor: Flavor) -> Vec<&'static str> {
    let common = [
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-buffer-size=1M",
        "--max-connections=200",
        "--innodb-use-native-aio=OFF",
    ];
    let own: &[&str] = match flavor {
        Flavor::Mysql => &["--mysqlx=OFF", "--innodb-redo-log-capacity=32M", "--temptable-max-ram=16M"],
        Flavor::Mariadb => &["--innodb-log-file-size=32M"],
    };
    common.iter().chain(own).copied().collect()
}

fn as_wished(flavor: Flavor, settings: &Settings, is_first_primary: bool) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| args.extend(words.iter().map(ToString::to_string));
    add(&["--log-bin=binlog", "--relay-log=relay", "--binlog-format=ROW"]);
    add(&["--table-open-cache=200", "--table-definition-cache=400"]);
    match flavor {
        Flavor::Mysql => {
            add(&["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-replica-updates=ON"])
        }
        Flavor::Mariadb => add(&["--gtid-strict-mode=ON", "--log-slave-updates=ON"]),
    }
    if settings.durable {
        add(&["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--performance-schema=ON"]);
    } else {
        add(&["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"]);
        add(&["--innodb-doublewrite=OFF", "--performance-schema=OFF"]);
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
        args.extend(semi_sync(flavor, count, is_first_primary));
    }
    args
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_figures_names_every_option() {
        let page = std::fs::read_to_string(crate::paths::root().join("docs/benchmarks.md")).unwrap();
        for flavor in Flavor::ALL {
            for durable in [false, true] {
                for option in named(flavor, &Settings { durable, ..Settings::default() }) {
                    let option = option.trim_start_matches("--");
                    assert!(page.contains(&format!("`{option}`")), "docs/benchmarks.md lacks {option}");
                }
            }
        }
    }
}
