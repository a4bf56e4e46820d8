//! `SHOW REPLICA STATUS` and its kin -> channels.

use super::parse::{Answers, uuid};
use crate::{
    model::{
        address::Address,
        facts::{Channel, Receiver},
        words::{is_plain, tame},
    },
    session::{ResultSet, Row, SessionError, dialect::Part},
};

/// Columns that hold a replication filter (MySQL 8.4 manual, 15.7.7.35; MariaDB manual, SHOW REPLICA STATUS).
const FILTERS: &[&str] = &[
    "replicate_do_db",
    "replicate_ignore_db",
    "replicate_do_table",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "replicate_rewrite_db",
    "replicate_ignore_server_ids",
    "replicate_do_domain_ids",
    "replicate_ignore_domain_ids",
];

/// Longest channel name (MySQL 8.4 manual, 19.2.2.4; MariaDB: 64).
const NAME_MAX: usize = 64;
/// Longest text of a receiver's or applier's error that is kept: theirs are cut at 1024 bytes.
const ERROR_MAX: usize = 1_024;
/// Longest name of a binlog file.
const FILE_MAX: usize = 512;
/// A heartbeat may seem to come this much after the statement that dates it, microseconds: one more is recorded while that
/// runs. Beyond it the server's clock was set back, and the age is not known.
const AHEAD_MAX_US: i64 = 1_000_000;

/// All channels. Those of group replication are not replication channels in Quorate's sense and are left out.
pub(super) fn read(answers: &Answers<'_>) -> Result<Vec<Channel>, SessionError> {
    let Some(set) = answers.of(Part::Channels) else { return Ok(Vec::new()) };
    let mut channels = Vec::new();
    for row in set.rows() {
        let name = row.get("channel_name").or_else(|| row.get("connection_name")).unwrap_or_default();
        let Some(host) = row.filled("source_host").filter(|_| !name.starts_with("group_replication_")) else {
            continue;
        };
        let nonsense = |what: &str, told: &str| {
            let told = tame(told, 60);
            SessionError::Protocol(format!("the server tells `{told}` for the {what} of a channel"))
        };
        let source = Address::told(host, row.number("source_port").unwrap_or(3306))
            .ok_or_else(|| nonsense("source", host))?;
        if name.chars().count() > NAME_MAX || !name.chars().all(is_plain) {
            return Err(nonsense("name", name));
        }
        channels.push(channel(answers, &row, name, source)?);
    }
    Ok(channels)
}

fn channel(
    answers: &Answers<'_>,
    row: &Row<'_>,
    name: &str,
    source: Address,
) -> Result<Channel, SessionError> {
    let heartbeat = answers
        .of(Part::Heartbeats)
        .and_then(|set: &ResultSet| set.rows().find(|row| row.get("channel_name") == Some(name)));
    let received = row.get("retrieved_gtid_set").or_else(|| row.get("gtid_io_pos")).unwrap_or_default();
    let by_gtid = match row.get("using_gtid") {
        Some(using) => !using.eq_ignore_ascii_case("no"),
        None => row.switch("auto_position") == Some(true),
    };
    let period_s: Option<f64> = match heartbeat {
        Some(row) => row.number("period_s"),
        None => row.number("replica_heartbeat_period"),
    };
    let age_us: Option<i64> =
        heartbeat.and_then(|row| row.number("age_us")).filter(|us| *us >= -AHEAD_MAX_US);
    Ok(Channel {
        name: name.to_owned(),
        source,
        source_uuid: uuid(row, "source_uuid"),
        source_server_id: row.number("source_server_id").filter(|id| *id != 0),
        receiver: receiver(row),
        receiver_error: error(row, "last_io_errno", "last_io_error"),
        applier_running: row.switch("replica_sql_running").unwrap_or(false),
        applier_error: error(row, "last_sql_errno", "last_sql_error"),
        received: answers.gtids(received)?,
        by_gtid,
        read_position: position(row, "source_log_file", "read_source_log_pos"),
        executed_position: position(row, "relay_source_log_file", "exec_source_log_pos"),
        lag_s: row.number("seconds_behind_source"),
        delay_s: row.number("sql_delay").unwrap_or(0),
        heartbeat_period_ms: period_s.map(|s| (s * 1000.0).round() as u64),
        heartbeats: match answers_mariadb(row) {
            true => row.number("replica_received_heartbeats"),
            false => heartbeat.and_then(|row| row.number("heartbeats")),
        },
        heartbeat_age_ms: age_us.map(|us| u64::try_from(us / 1000).unwrap_or(0)),
        filtered: FILTERS.iter().any(|name| row.filled(name).is_some()),
        tls: row.switch("source_ssl_allowed") == Some(true),
    })
}

fn answers_mariadb(row: &Row<'_>) -> bool {
    row.get("replica_received_heartbeats").is_some()
}

/// `Yes`, `No`, `Connecting`; MariaDB also `Preparing`, which is on its way to a connection.
fn receiver(row: &Row<'_>) -> Receiver {
    match row.get("replica_io_running").unwrap_or_default().to_ascii_lowercase().as_str() {
        "yes" => Receiver::Running,
        "connecting" | "preparing" => Receiver::Connecting,
        _ => Receiver::Stopped,
    }
}

fn error(row: &Row<'_>, number: &str, text: &str) -> Option<(u32, String)> {
    let number: u32 = row.number(number)?;
    (number != 0).then(|| (number, row.words(text, ERROR_MAX)))
}

fn position(row: &Row<'_>, file: &str, offset: &str) -> (String, u64) {
    (row.words(file, FILE_MAX), row.number(offset).unwrap_or(0))
}
