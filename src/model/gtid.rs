//! Sets of transactions, in the two dialects' own terms. They are never mixed.

pub mod mariadb;
pub mod mysql;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{mariadb::MariaDbGtids, mysql::MySqlGtids};
use super::server::Flavor;

/// A set of transactions of one dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GtidSet {
    /// `uuid[:tag]:interval...`
    MySql(MySqlGtids),
    /// The last sequence number per (domain, server_id).
    MariaDb(MariaDbGtids),
}

/// A text that is no GTID set of its dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {flavor} GTID set: {why}")]
pub struct GtidError {
    /// Dialect it was read as.
    pub flavor: Flavor,
    /// The offending part, cut to a readable length.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl GtidSet {
    /// The empty set.
    pub fn empty(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Self::MySql(MySqlGtids::default()),
            Flavor::MariaDb => Self::MariaDb(MariaDbGtids::default()),
        }
    }

    /// Reads what a server prints.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self, GtidError> {
        Ok(match flavor {
            Flavor::MySql => Self::MySql(text.parse()?),
            Flavor::MariaDb => Self::MariaDb(text.parse()?),
        })
    }

    /// Dialect.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::MySql(_) => Flavor::MySql,
            Self::MariaDb(_) => Flavor::MariaDb,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(set) => set.is_empty(),
        }
    }

    /// Whether every transaction of `other` is in `self`. Sets of different dialects contain nothing of each other.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => a.contains(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => a.contains(b),
            _ => other.is_empty(),
        }
    }

    /// What is in `self` and not in `other`.
    pub fn subtract(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Self::MySql(a.subtract(b)),
            (Self::MariaDb(a), Self::MariaDb(b)) => Self::MariaDb(a.subtract(b)),
            _ => self.clone(),
        }
    }

    /// Adds every transaction of `other`; sets of another dialect are left out.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => a.merge(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => a.merge(b),
            _ => {}
        }
    }

    /// How many transactions of `other` are not here. MariaDB: by sequence numbers, which may have gaps.
    pub fn lacks(&self, other: &Self) -> u64 {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => b.subtract(a).count(),
            (Self::MariaDb(a), Self::MariaDb(b)) => a.lacks(b),
            _ => u64::from(!other.is_empty()),
        }
    }

    /// What is in both.
    pub fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Self::MySql(a.subtract(&a.subtract(b))),
            (Self::MariaDb(a), Self::MariaDb(b)) => Self::MariaDb(a.meet(b)),
            _ => Self::empty(self.flavor()),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}

impl GtidSet {
    /// The part that this server wrote as a primary: MySQL by `server_uuid`, MariaDB by `server_id`.
    pub fn written_by(&self, identity: &super::server::Identity) -> Self {
        match self {
            Self::MySql(set) => match &identity.server_uuid {
                Some(uuid) => Self::MySql(set.of_source(uuid)),
                None => Self::empty(Flavor::MySql),
            },
            Self::MariaDb(set) => Self::MariaDb(set.of_server(identity.server_id)),
        }
    }

    /// What `source` holds of the transactions that this server wrote and `self`, its own set, lacks. It stays so: a receiver drops
    /// what carries its own server_id, and the server counts it as passed (measured on MySQL 9.7 and MariaDB 10.11). A set
    /// that knows nothing of its own of a domain (MariaDB) was begun anew, and says nothing about it; but where it has not come
    /// to that number at all, it cannot hold it.
    pub fn lost_of_its_own(&self, identity: &super::server::Identity, source: &Self) -> Self {
        let missing = source.written_by(identity).subtract(self);
        match (missing, self) {
            (Self::MariaDb(missing), Self::MariaDb(all)) => {
                let mut lost = missing.of_pairs_in(all);
                lost.merge(&missing.ahead_of(all));
                Self::MariaDb(lost)
            }
            (missing, _) => missing,
        }
    }

    /// What of this set, a server's, stands at or before a place in its history (MariaDB, where sequence numbers of a domain grow;
    /// MySQL names all of it anyway: nothing).
    pub fn passed_at(&self, place: &Self) -> Self {
        match (self, place) {
            (Self::MariaDb(set), Self::MariaDb(place)) => Self::MariaDb(set.passed_at(place)),
            _ => Self::empty(self.flavor()),
        }
    }

    /// What remains to be compared when `other` is a server's set and `self` a position in it (MariaDB), or the set
    /// itself (MySQL).
    pub fn position(&self) -> Self {
        match self {
            Self::MySql(set) => Self::MySql(set.clone()),
            Self::MariaDb(set) => Self::MariaDb(set.position()),
        }
    }
}

#[cfg(test)]
mod tests;
