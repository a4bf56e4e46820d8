//! The first packet of a server, read before any driver sees it: who is there, or why nobody gets in.

use crate::model::server::{Flavor, Version};

use super::SessionError;

/// A greeting longer than this is none (those of MySQL 9.7 and MariaDB 10.11 take about 100 bytes).
pub(super) const GREETING_MAX: usize = 1024;

/// What the greeting says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Greeting {
    pub(super) flavor: Flavor,
    pub(super) version: Version,
}

/// Reads the first packet (MySQL internals, `Protocol::HandshakeV10` and `ERR_Packet`). `None`: not complete yet.
pub(super) fn parse(bytes: &[u8]) -> Option<Result<Greeting, SessionError>> {
    let not_mysql = |why: &str| Some(Err(SessionError::NotMySql(why.to_owned())));
    let [a, b, c, sequence] = bytes.first_chunk::<4>().copied()?;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    if sequence != 0 || length == 0 || length > GREETING_MAX {
        return not_mysql("it greets in another protocol");
    }
    match (bytes.get(4), bytes.get(4..4 + length)) {
        (Some(10 | 0xff), None) | (None, _) => None,
        (Some(10), Some(payload)) => Some(version(&payload[1..])),
        (Some(0xff), Some(payload)) => Some(Err(refusal(&payload[1..]))),
        _ => not_mysql("its greeting is of another protocol (the X Protocol port, perhaps?)"),
    }
}

fn version(rest: &[u8]) -> Result<Greeting, SessionError> {
    let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let flavor = if text.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql };
    let version = text.parse().map_err(|error| SessionError::NotMySql(format!("{error}")))?;
    Ok(Greeting { flavor, version })
}

/// An error in place of a greeting: too many connections, host blocked. It has no SQLSTATE in most versions.
fn refusal(rest: &[u8]) -> SessionError {
    let Some([low, high]) = rest.first_chunk::<2>().copied() else {
        return SessionError::NotMySql("it greets with a broken error".to_owned());
    };
    let text = String::from_utf8_lossy(&rest[2..]).into_owned();
    let message = text.strip_prefix('#').and_then(|text| text.get(5..)).unwrap_or(&text);
    SessionError::from_server(u16::from_le_bytes([low, high]), "08004", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![payload.len() as u8, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn both_flavours_greet() {
        let mysql = parse(&packet(b"\x0a9.7.4-2\0rest")).unwrap().unwrap();
        assert_eq!((mysql.flavor, mysql.version.number), (Flavor::MySql, (9, 7, 4)));
        let maria = parse(&packet(b"\x0a5.5.5-10.6.1-MariaDB\0rest")).unwrap().unwrap();
        assert_eq!((maria.flavor, maria.version.number), (Flavor::MariaDb, (10, 6, 1)));
    }

    #[test]
    fn an_incomplete_greeting_is_awaited() {
        let whole = packet(b"\x0a9.7.4\0rest");
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn an_error_in_place_of_a_greeting_is_sorted() {
        let full = parse(&packet(b"\xff\x10\x04Too many connections")).unwrap().unwrap_err();
        assert!(matches!(full, SessionError::TooManyConnections { code: 1040, .. }), "{full}");
        let blocked = parse(&packet(b"\xff\x69\x04#HY000Host 'x' is blocked")).unwrap().unwrap_err();
        assert_eq!(
            blocked,
            SessionError::AccessDenied { code: 1129, message: "Host 'x' is blocked".to_owned() }
        );
    }

    #[test]
    fn other_protocols_are_told_apart() {
        for bytes in
            [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/1.1 400 Bad\r\n", b"\x05\0\0\0\x0b\x08\x05\x1a\0"]
        {
            assert!(matches!(parse(bytes), Some(Err(SessionError::NotMySql(_)))), "{bytes:?}");
        }
    }
}
