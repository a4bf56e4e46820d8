//! Which grant a refused statement lacked, in words that can be pasted.

use super::{SessionError, dialect::Part};
use crate::model::server::Flavor;

/// A statement that the server refused for want of a privilege, and the grant that allows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no privilege for `{statement}`: give the account `{grant}` (server: {message})")]
pub struct MissingGrant {
    /// What was asked, cut to its beginning.
    pub statement: String,
    /// The `GRANT` that allows it on this flavour.
    pub grant: String,
    /// The server's words.
    pub message: String,
}

/// Whether an error is the want of a privilege: 1142 on a table, 1143 on a column, 1227 server-wide, 1370 routine.
pub(crate) fn lacks_privilege(error: &SessionError) -> bool {
    matches!(error.code(), Some(1142 | 1143 | 1227 | 1370)) && error.keeps_session()
}

impl MissingGrant {
    pub(super) fn of(flavor: Flavor, part: Part, statement: &str, error: &SessionError, user: &str) -> Self {
        // MySQL 9.7 and MariaDB 10.11, tried with an account without SUPER; MariaDB split these out of
        // REPLICATION CLIENT / SUPER in 10.5 (MariaDB manual, GRANT, Global Privileges).
        let (privilege, object) = match (flavor, part) {
            (Flavor::MySql, Part::Channels) => ("REPLICATION CLIENT", "*.*"),
            (Flavor::MySql, Part::Replicas) => ("REPLICATION SLAVE", "*.*"),
            (Flavor::MySql, Part::Heartbeats | Part::Status) => ("SELECT", "performance_schema.*"),
            (Flavor::MariaDb, Part::Channels) => ("SLAVE MONITOR", "*.*"),
            (Flavor::MariaDb, Part::Replicas) => ("REPLICATION MASTER ADMIN", "*.*"),
            (Flavor::MariaDb, Part::Variables | Part::Status) => ("BINLOG MONITOR", "*.*"),
            _ => ("PROCESS", "*.*"),
        };
        let message = match error {
            SessionError::Server { code, message, .. } => format!("{message} ({code})"),
            other => other.to_string(),
        };
        Self {
            statement: statement.chars().take(60).collect(),
            grant: format!("GRANT {privilege} ON {object} TO '{user}'"),
            message,
        }
    }
}
