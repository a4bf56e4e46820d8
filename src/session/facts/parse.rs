//! Answers of one reading -> `ServerFacts`. A value the server did not give is `None`; one that makes no sense where
//! a decision rests on it is an error.

use super::channels;
use crate::{
    model::{
        address::Address,
        facts::{DumpClient, ListedReplica, SemiSync, ServerFacts},
        gtid::GtidSet,
        server::{Flavor, Identity, Version},
        words::{is_uuid, tame},
    },
    session::{
        ResultSet, Row, SessionError,
        dialect::{Part, Profile},
        rows::switch,
    },
};

/// Longest name of anything (user names have 32 characters on MySQL and 128 on MariaDB, hosts 255).
const NAME_MAX: usize = 255;

/// The answers by the statement they belong to.
pub(super) struct Answers<'a> {
    flavor: Flavor,
    parts: &'a [(Part, String)],
    sets: &'a [ResultSet],
}

impl<'a> Answers<'a> {
    pub(super) fn of(&self, part: Part) -> Option<&'a ResultSet> {
        self.sets.get(self.parts.iter().position(|(p, _)| *p == part)?)
    }

    pub(super) fn gtids(&self, text: &str) -> Result<GtidSet, SessionError> {
        GtidSet::parse(self.flavor, text).map_err(|error| SessionError::Protocol(error.to_string()))
    }
}

/// Reads the answers to `parts`.
pub(super) fn facts(
    profile: &Profile,
    parts: &[(Part, String)],
    sets: &[ResultSet],
) -> Result<ServerFacts, SessionError> {
    let missing = |what: &str| SessionError::Protocol(format!("the server gave no {what}"));
    // A list that is not there would be read as an empty one: a replica that follows nobody.
    if sets.len() != parts.len() {
        let what = format!("the server gave {} answers to {} statements", sets.len(), parts.len());
        return Err(SessionError::Protocol(what));
    }
    let answers = Answers { flavor: profile.flavor, parts, sets };
    let variables =
        answers.of(Part::Variables).and_then(ResultSet::first).ok_or_else(|| missing("variables"))?;
    let status = Status(answers.of(Part::Status));
    let needed = |name: &str| variables.switch(name).ok_or_else(|| missing(name));
    let version: Version = variables
        .get("version")
        .ok_or_else(|| missing("version"))?
        .parse()
        .map_err(|error| SessionError::Protocol(format!("{error}")))?;
    let gtids = |name: &str| answers.gtids(variables.get(name).unwrap_or_default());
    let (executed, purged) = match profile.flavor {
        Flavor::MySql => (gtids("gtid_executed")?, Some(gtids("gtid_purged")?)),
        Flavor::MariaDb => {
            let mut executed = gtids("gtid_binlog_state")?;
            executed.merge(&gtids("gtid_replica_pos")?);
            (executed, None)
        }
    };
    let connections = status.number("threads_connected").zip(variables.number("max_connections"));
    let uptime_s = status.number("uptime");
    Ok(ServerFacts {
        identity: identity(profile.flavor, &variables)?,
        version,
        started_at_s: variables.number::<u64>("now_s").zip(uptime_s).map(|(now, up)| now.saturating_sub(up)),
        uptime_s,
        reports_as: reports_as(&variables),
        read_only: read_only(&variables).ok_or_else(|| missing("read_only"))?,
        super_read_only: variables.switch("super_read_only"),
        offline_mode: variables.switch("offline_mode"),
        gtid_on: profile.flavor == Flavor::MariaDb || variables.get("gtid_mode") == Some("ON"),
        executed,
        purged,
        log_bin: needed("log_bin")?,
        log_replica_updates: needed("log_replica_updates")?,
        binlog_format: Some(variables.words("binlog_format", NAME_MAX)).filter(|format| !format.is_empty()),
        semi_sync: semi_sync(profile.flavor, &variables, &status),
        connections,
        channels: channels::read(&answers)?,
        replicas: answers.of(Part::Replicas).map(|set| set.rows().filter_map(|row| replica(&row)).collect()),
        dump_clients: answers
            .of(Part::DumpThreads)
            .map(|set| set.rows().filter_map(|row| dump_client(&row)).collect()),
        durability: answers
            .of(Part::Durability)
            .and_then(ResultSet::first)
            .and_then(|row| row.number("sync_binlog").zip(row.number("innodb_flush_log_at_trx_commit"))),
    })
}

/// Counters, by lower-case name.
struct Status<'a>(Option<&'a ResultSet>);

impl Status<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let row = self.0?.rows().find(|row| row.get("name").is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
        row.get("value")
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.trim().parse().ok()
    }

    /// Of a semi-sync counter under either name.
    fn semi(&self, role: [&str; 2], of: &str) -> Option<&str> {
        role.iter().find_map(|role| self.text(&format!("rpl_semi_sync_{role}_{of}")))
    }
}

/// A part of the identity that is left out would be no evidence against anybody: what a flavour always tells must be there.
fn identity(flavor: Flavor, variables: &Row<'_>) -> Result<Identity, SessionError> {
    let missing = |what: &str| SessionError::Protocol(format!("the server gave no {what}"));
    let server_uuid = uuid(variables, "server_uuid");
    if flavor == Flavor::MySql && server_uuid.is_none() {
        return Err(missing("server_uuid"));
    }
    // `unknown` where the machine has no network card to derive it from.
    let server_uid = variables.filled("server_uid").filter(|uid| *uid != "unknown");
    Ok(Identity {
        flavor,
        server_uuid,
        server_id: variables.number("server_id").ok_or_else(|| missing("server_id"))?,
        server_uid: server_uid.map(|uid| tame(uid, NAME_MAX)),
    })
}

/// A UUID; `None` for a text that is none.
pub(super) fn uuid(row: &Row<'_>, name: &str) -> Option<String> {
    row.filled(name).filter(|text| is_uuid(text)).map(str::to_ascii_lowercase)
}

/// MariaDB 12 made it an enumeration whose values other than `OFF` all refuse ordinary writes.
fn read_only(variables: &Row<'_>) -> Option<bool> {
    let text = variables.filled("read_only")?;
    Some(switch(text).unwrap_or(true))
}

fn reports_as(variables: &Row<'_>) -> Option<Address> {
    let host = variables.filled("report_host").or_else(|| variables.filled("hostname"))?;
    let port =
        variables.number("report_port").filter(|port| *port != 0).or_else(|| variables.number("port"))?;
    Address::told(host, port)
}

fn semi_sync(flavor: Flavor, variables: &Row<'_>, status: &Status<'_>) -> SemiSync {
    let source_enabled = variables.switch("semi_source_enabled");
    SemiSync {
        source_enabled,
        source_status: status.semi(["source", "master"], "status").and_then(switch),
        source_timeout_ms: variables.number("semi_source_timeout"),
        source_wait_no_replica: variables.switch("semi_source_wait_no_replica"),
        source_wait_for: match flavor {
            Flavor::MySql => variables.number("semi_source_wait_for"),
            Flavor::MariaDb => source_enabled.map(|_| 1),
        },
        source_clients: status
            .semi(["source", "master"], "clients")
            .and_then(|text| text.trim().parse().ok()),
        replica_enabled: variables.switch("semi_replica_enabled"),
        replica_status: status.semi(["replica", "slave"], "status").and_then(switch),
    }
}

fn replica(row: &Row<'_>) -> Option<ListedReplica> {
    let port = row.number("port").filter(|port| *port != 0);
    Some(ListedReplica {
        server_id: row.number("server_id")?,
        address: row.filled("host").zip(port).and_then(|(host, port)| Address::told(host, port)),
        server_uuid: uuid(row, "replica_uuid"),
    })
}

fn dump_client(row: &Row<'_>) -> Option<DumpClient> {
    let host = row.words("host", NAME_MAX);
    let host = host.as_str();
    Some(DumpClient {
        id: row.number("id")?,
        user: row.words("user", NAME_MAX),
        host: host.rsplit_once(':').map_or(host, |(host, _)| host).to_owned(),
    })
}
