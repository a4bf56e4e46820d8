//! Where a server or a node listens: host and port, written `host:port`, IPv6 in brackets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::words::tame;

/// A network address. The host may be a name; it is resolved anew on each dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or IP address, without brackets, lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address: {why} (write HOST:PORT, or [IPV6]:PORT)")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl Address {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into().to_ascii_lowercase(), port }
    }

    /// An address that a server tells; `None` where nobody could dial it. What this gives can be written and read again.
    pub fn told(host: &str, port: u16) -> Option<Self> {
        let fits = port != 0 && !host.is_empty() && host.len() <= HOST_MAX && host.chars().all(is_of_host);
        fits.then(|| Self::new(host, port))
    }

    /// Parses `host:port`, or a bare host with `default_port`.
    pub fn parse_with_port(text: &str, default_port: u16) -> Result<Self, AddressError> {
        let bare_v6 = text.matches(':').count() > 1 && !text.starts_with('[');
        let portless = !text.contains(':') || (text.starts_with('[') && text.ends_with(']'));
        match (bare_v6, portless) {
            (true, _) => format!("[{text}]:{default_port}").parse(),
            (_, true) => format!("{text}:{default_port}").parse(),
            _ => text.parse(),
        }
    }
}

/// Longest host name (RFC 1035, 2.3.4).
const HOST_MAX: usize = 255;

fn is_of_host(c: char) -> bool {
    super::words::is_plain(c) && !c.is_whitespace() && !matches!(c, '/' | '@' | '[' | ']')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |why| AddressError { text: tame(text, 300), why };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(|| fail("no `]:PORT` after the IPv6 address"))?,
            None => text.rsplit_once(':').ok_or_else(|| fail("no port"))?,
        };
        if host.is_empty() {
            return Err(fail("no host"));
        }
        if host.contains(':') && !text.starts_with('[') {
            return Err(fail("an IPv6 address needs brackets"));
        }
        if host.len() > HOST_MAX {
            return Err(fail("the host is longer than a name may be"));
        }
        if !host.chars().all(is_of_host) {
            return Err(fail("the host has a character that no host name has"));
        }
        let port: u16 = port.parse().map_err(|_| fail("the port is not a number from 1 to 65535"))?;
        if port == 0 {
            return Err(fail("the port is not a number from 1 to 65535"));
        }
        Ok(Self::new(host, port))
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_as_it_is_parsed() {
        for text in ["db1:3306", "10.0.0.1:3306", "[::1]:3306", "db.example.com:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("DB1:3306".parse::<Address>().unwrap(), Address::new("db1", 3306));
        assert_eq!(Address::parse_with_port("db1", 3306).unwrap(), Address::new("db1", 3306));
        assert_eq!(Address::parse_with_port("::1", 3306).unwrap(), Address::new("::1", 3306));
        assert_eq!(Address::parse_with_port("[::1]", 3306).unwrap(), Address::new("::1", 3306));
        assert!(Address::parse_with_port("::[", 3306).is_err());
    }

    #[test]
    fn what_a_server_tells_can_be_read_again() {
        let long = "x".repeat(256);
        for host in
            ["db1", "10.0.0.1", "fe80::1%eth0", "a b", "a/b", "a@b", "[::1]", "", "a\nb", "\u{202e}a", &long]
        {
            if let Some(told) = Address::told(host, 3306) {
                assert_eq!(told.to_string().parse(), Ok(told), "{host}");
            } else {
                assert!(!["db1", "10.0.0.1", "fe80::1%eth0"].contains(&host), "{host}");
            }
        }
        assert_eq!(Address::told("db1", 0), None);
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        for (text, why) in [
            ("db1", "no port"),
            (":3306", "no host"),
            ("db1:0", "port is not"),
            ("db1:x", "port is not"),
            ("::1:3306", "brackets"),
            ("[::1]", "no `]:PORT`"),
            ("db 1:3306", "character"),
            ("db\x1b[2J:3306", "character"),
            (&format!("{}:3306", "x".repeat(10_000)), "longer"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
