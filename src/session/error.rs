//! What can go wrong between this node and one server, told apart as far as the verdicts need it: *refused*, *silent*,
//! *closed* and *overloaded* are different things (P12).

use std::{io, time::Duration};

use mysql_async::{DriverError, Error, IoError, ServerError};

use crate::model::words::tame;

/// Longest text of a server's error that is kept; their own are below 512 characters.
const MESSAGE_MAX: usize = 512;
/// Longest name of a plug-in, and SQLSTATE.
const NAME_MAX: usize = 64;
const STATE_MAX: usize = 5;

/// Why there is no session, or no answer. After every variant but [`SessionError::Server`] the session is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nobody listens on that port (ECONNREFUSED).
    #[error("connection refused: nothing listens there")]
    Refused,
    /// No way there: the name does not resolve, or the network says so.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// A bounded wait ended without a word. What was asked may still happen on the server.
    #[error("no {awaited} within {} ms", after.as_millis())]
    Silent {
        /// `connection`, `greeting`, `login` or `answer`.
        awaited: &'static str,
        /// How long it was awaited.
        after: Duration,
    },
    /// The server, or something on the way, ended the connection.
    #[error("connection closed: {0}")]
    Closed(String),
    /// Something answers there, but it does not speak the MySQL protocol.
    #[error("not a MySQL or MariaDB port: {0}")]
    NotMySql(String),
    /// The server does not let this account in.
    #[error("access denied ({code}): {message}")]
    AccessDenied {
        /// Server error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The server lives and has no connection left for us.
    #[error("too many connections ({code}): {message}")]
    TooManyConnections {
        /// Server error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The server says that it is going down.
    #[error("the server is shutting down ({code}): {message}")]
    ShuttingDown {
        /// Server error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// `offline_mode` is on and this account lacks CONNECTION_ADMIN.
    #[error("the server is in offline mode: {message}")]
    OfflineMode {
        /// The server's words.
        message: String,
    },
    /// TLS could not be agreed on.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server answered with an error to a statement; the session is as good as before.
    #[error("error {code} ({state}): {message}")]
    Server {
        /// Server error number.
        code: u16,
        /// SQLSTATE.
        state: String,
        /// The server's words.
        message: String,
    },
    /// An answer that makes no sense to this client.
    #[error("unexpected answer: {0}")]
    Protocol(String),
}

impl SessionError {
    /// What a person may do about it, where the words alone do not say.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused => "start the server, or correct the address",
            Self::Unreachable(_) => "correct the name, or mend the way there from this node",
            Self::Silent { .. } => {
                "look whether the server is stopped, or a firewall drops what this node sends"
            }
            Self::NotMySql(_) => "name the port on which the server takes clients",
            Self::AccessDenied { .. } => {
                "correct `[servers]` in this node's configuration (user, password), or the account on the server"
            }
            Self::TooManyConnections { .. } => "free connections or raise max_connections, then try again",
            Self::ShuttingDown { .. } => "try again when it is up",
            Self::OfflineMode { .. } => "give the account CONNECTION_ADMIN, or switch offline_mode off",
            Self::Closed(_) | Self::Tls(_) | Self::Server { .. } | Self::Protocol(_) => return None,
        })
    }

    /// The error number, where a server sent one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::AccessDenied { code, .. }
            | Self::TooManyConnections { code, .. }
            | Self::ShuttingDown { code, .. }
            | Self::Server { code, .. } => Some(*code),
            Self::OfflineMode { .. } => Some(3032),
            _ => None,
        }
    }

    /// Whether the session survived it.
    pub fn keeps_session(&self) -> bool {
        matches!(self, Self::Server { .. })
    }

    /// Whether it is known that nothing of the statement was or will be carried out.
    pub fn nothing_happened(&self) -> bool {
        !matches!(self, Self::Silent { awaited: "answer", .. } | Self::Closed(_) | Self::Protocol(_))
    }

    /// Sorts a server's error by its number (MySQL 9.x and MariaDB 10.11 server error references).
    pub(super) fn from_server(code: u16, state: &str, message: &str) -> Self {
        let message = tame(message.trim(), MESSAGE_MAX);
        match code {
            // Wrong password or account, host not allowed or blocked, locked or expired account; 1698 and 4151: MariaDB.
            1044 | 1045 | 1129 | 1130 | 1698 | 1820 | 1862 | 3118 | 4151 => {
                Self::AccessDenied { code, message }
            }
            1040 | 1203 | 1226 => Self::TooManyConnections { code, message },
            1053 | 3168 => Self::ShuttingDown { code, message },
            3032 => Self::OfflineMode { message },
            // Our session was killed, or timed out while idle; 1927: MariaDB.
            1927 | 3169 | 4031 => Self::Closed(format!("{message} ({code})")),
            _ => Self::Server { code, state: tame(state, STATE_MAX), message },
        }
    }

    pub(super) fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof,
        };
        match error.kind() {
            ConnectionRefused => Self::Refused,
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => {
                Self::Closed(error.to_string())
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(ServerError { code, message, state }) => Self::from_server(code, &state, &message),
            Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                // rustls reports a failed handshake as invalid data of the stream under it.
                Self::Tls(error.to_string())
            }
            Error::Io(IoError::Io(error)) => Self::Closed(error.to_string()),
            Error::Io(IoError::Tls(error)) => Self::Tls(format!("{error}")),
            Error::Driver(DriverError::ConnectionClosed) => Self::Closed("end of stream".to_owned()),
            Error::Driver(DriverError::NoClientSslFlagFromServer) => {
                Self::Tls("the server offers no TLS, and this node's file demands it".to_owned())
            }
            Error::Driver(DriverError::UnknownAuthPlugin { name }) => Self::AccessDenied {
                code: 2059,
                message: format!(
                    "the account uses the authentication plug-in `{}`, which this client does not speak",
                    tame(&name, NAME_MAX)
                ),
            },
            // A payload may hold what a server echoed; its length is enough.
            Error::Driver(DriverError::UnexpectedPacket { payload }) => {
                Self::Protocol(format!("a packet of {} bytes that fits nothing", payload.len()))
            }
            Error::Driver(error) => Self::Protocol(tame(&error.to_string(), MESSAGE_MAX)),
            Error::Other(error) => Self::Protocol(tame(&error.to_string(), MESSAGE_MAX)),
            Error::Url(error) => Self::Protocol(error.to_string()),
        }
    }
}
