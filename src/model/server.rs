//! Who a server is: flavour, version, identity (P11).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::words::tame;

/// The two dialects Quorate speaks. They share a protocol and little else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// Oracle MySQL and its close relatives (Percona Server).
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        })
    }
}

/// A server's name inside Quorate: `server_uuid` on MySQL, an id chosen at adoption on MariaDB. Never an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub String);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster's own id; outlives its primary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a server says of itself, as far as its flavour says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Dialect.
    pub flavor: Flavor,
    /// `@@server_uuid` (MySQL only).
    pub server_uuid: Option<String>,
    /// `@@server_id`, unique within a replication topology.
    pub server_id: u32,
    /// `@@server_uid` (MariaDB 10.11 and later); `None` where the server says `unknown` (it derives from the
    /// network card, which a container may not have).
    pub server_uid: Option<String>,
}

impl Identity {
    /// Whether `seen` can be the server that was bound under `self`. A part that either side does not know is no
    /// evidence against it.
    pub fn matches(&self, seen: &Identity) -> bool {
        let agrees = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.flavor == seen.flavor
            && self.server_id == seen.server_id
            && agrees(&self.server_uuid, &seen.server_uuid)
            && agrees(&self.server_uid, &seen.server_uid)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} server_id {}", self.flavor, self.server_id)?;
        if let Some(uuid) = &self.server_uuid {
            write!(f, " uuid {uuid}")?;
        }
        if let Some(uid) = &self.server_uid {
            write!(f, " uid {uid}")?;
        }
        Ok(())
    }
}

/// A server version: three numbers; what follows them is kept by `text` for display only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// E.g. `(9, 7, 4)`.
    pub number: (u16, u16, u16),
    /// As the server printed it.
    pub text: String,
}

impl Version {
    /// Whether this version is at least `number`.
    pub fn at_least(&self, number: (u16, u16, u16)) -> bool {
        self.number >= number
    }
}

/// A version text without three leading numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not begin with a server version such as 8.4.2")]
pub struct VersionError(String);

/// Longest text of a version that is kept; packagers' run to some 60 characters.
const TEXT_MAX: usize = 120;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let fail = || VersionError(tame(text, 80));
        // MariaDB before 11 may prefix `5.5.5-` for old replicas' sake.
        let body = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut parts = body.splitn(3, '.');
        let mut next = || -> Result<u16, VersionError> {
            let part = parts.next().ok_or_else(fail)?;
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().map_err(|_| fail())
        };
        let number = (next()?, next()?, next()?);
        Ok(Self { number, text: tame(text, TEXT_MAX) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_flavours_are_read() {
        for (text, number) in [
            ("9.7.4-2", (9, 7, 4)),
            ("10.11.19-MariaDB-log", (10, 11, 19)),
            ("5.5.5-10.6.1-MariaDB", (10, 6, 1)),
        ] {
            assert_eq!(text.parse::<Version>().unwrap().number, number, "{text}");
        }
        assert!("MariaDB".parse::<Version>().is_err());
    }

    #[test]
    fn an_unknown_part_of_an_identity_is_no_evidence() {
        let bound = Identity {
            flavor: Flavor::MariaDb,
            server_uuid: None,
            server_id: 7,
            server_uid: Some("a".into()),
        };
        assert!(bound.matches(&Identity { server_uid: None, ..bound.clone() }));
        assert!(!bound.matches(&Identity { server_uid: Some("b".into()), ..bound.clone() }));
        assert!(!bound.matches(&Identity { server_id: 8, ..bound.clone() }));
    }
}
