//! `SHOW REPLICA STATUS` and its kin -> channels.

use super::parse::Answers;
use crate::{
    model::{
        address::Address,
        facts::{Channel, Receiver},
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

/// All channels. Those of group replication are not replication channels in Quorate's sense and are left out.
pub(super) fn read(answers: &Answers<'_>) -> Result<Vec<Channel>, SessionError> {
    let Some(set) = answers.of(Part::Channels) else { return Ok(Vec::new()) };
    let mut channels = Vec::new();
    for row in set.rows() {
        let name = row.get("channel_name").or_else(|| row.get("connection_name")).unwrap_or_default();
        let Some(host) = row.filled("source_host").filter(|_| !name.starts_with("group_replication_")) else {
            continue;
        };
        let source = Address::new(host, row.number("source_port").unwrap_or(3306));
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
    let age_us: Option<i64> = heartbeat.and_then(|row| row.number("age_us"));
    Ok(Channel {
        name: name.to_owned(),
        source,
        source_uuid: row.filled("source_uuid").map(str::to_ascii_lowercase),
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
    (number != 0).then(|| (number, row.get(text).unwrap_or_default().to_owned()))
}

fn position(row: &Row<'_>, file: &str, offset: &str) -> (String, u64) {
    (row.get(file).unwrap_or_default().to_owned(), row.number(offset).unwrap_or(0))
}
