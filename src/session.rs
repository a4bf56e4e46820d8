//! One logged-in connection to one server: how it is dialled, what can go wrong with it, what is read over it.
//!
//! Shared by `probe` (which decides when to look) and `executor` (which carries out steps); it decides nothing and
//! keeps nothing beyond its connection. Nobody else talks to a server.

mod account;
mod connection;
mod dialect;
mod error;
mod facts;
mod grants;
mod greeting;
mod guard;
mod line;
mod rows;

#[doc(hidden)]
pub use self::facts::parse_recorded;
pub use self::{
    account::{Account, Purpose, Secret, Tls},
    connection::{Answer, Session, SessionOptions},
    error::SessionError,
    facts::{FactsReader, ReadError, Reading},
    grants::MissingGrant,
    line::{DIAL_AGAIN, DIAL_AGAIN_SOON, LineEnd},
    rows::{ResultSet, Row},
};
pub(crate) use self::{
    dialect::{Profile, SemiSyncNames},
    rows::{identity_condition, literal},
};
