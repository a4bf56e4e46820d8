//! One connection to one server, with a deadline on everything.
//!
//! mysql_async is not cancel-safe: after a time-out the next answer on the same connection belongs to the previous
//! question. So the connection is taken out of its slot for each query and put back only after a whole answer.

pub mod dialect;

use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value, prelude::Queryable};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// The rig's own account, with every right.
pub const ROOT: Account = Account { user: "root", password: "rig-root-4711" };
/// What the nodes log in with.
pub const QUORATE: Account = Account { user: "quorate", password: "canary-servers-2e7c91" };
/// What replicas log in with.
pub const REPL: Account = Account { user: "repl", password: "canary-replication-b804d3" };
/// An ordinary application.
pub const APP: Account = Account { user: "app", password: "app-writes-1138" };

/// User and password.
#[derive(Clone, Copy)]
pub struct Account {
    /// User name, at any host.
    pub user: &'static str,
    /// Its password.
    pub password: &'static str,
}

/// Where a server is reached.
#[derive(Clone, Debug)]
pub enum Address {
    /// Over the network, as clients do.
    Tcp(IpAddr, u16),
    /// Through the file system, which no firewall rule touches.
    Socket(PathBuf),
}

/// A row by column name.
pub type Named = BTreeMap<String, Option<String>>;

/// How a query ended, other than well.
#[derive(Debug)]
pub enum SqlError {
    /// The server said no.
    Server {
        /// MySQL's error number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// The connection failed: refused, reset, closed.
    Io(String),
    /// No answer in time; whether the statement took effect is unknown.
    Timeout,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlError::Server { code, message } => write!(f, "server error {code}: {message}"),
            SqlError::Io(why) => write!(f, "connection: {why}"),
            SqlError::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for SqlError {}

/// A lazily opened connection.
pub struct Db {
    opts: Opts,
    deadline: Duration,
    conn: Option<Conn>,
}

impl Db {
    /// Nothing is opened yet. `deadline` bounds connecting and each query, one by one.
    pub fn new(address: &Address, account: Account, deadline: Duration) -> Db {
        let builder = OptsBuilder::default()
            .user(Some(account.user))
            .pass(Some(account.password))
            .prefer_socket(false)
            .max_allowed_packet(Some(16 * 1024 * 1024))
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0)
            .tcp_nodelay(true);
        let builder = match address {
            Address::Tcp(ip, port) => builder.ip_or_hostname(ip.to_string()).tcp_port(*port),
            Address::Socket(path) => builder.socket(Some(path.display().to_string())),
        };
        Db { opts: builder.into(), deadline, conn: None }
    }

    /// Runs a statement whose rows do not matter.
    pub async fn exec(&mut self, sql: &str) -> Result<(), SqlError> {
        self.rows(sql).await.map(|_| ())
    }

    /// The first column of the first row.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>, SqlError> {
        let rows = self.rows(sql).await?;
        Ok(rows.first().and_then(|row| row.as_ref(0)).and_then(text))
    }

    /// The first column of every row.
    pub async fn column(&mut self, sql: &str) -> Result<Vec<String>, SqlError> {
        let rows = self.rows(sql).await?;
        Ok(rows.iter().filter_map(|row| row.as_ref(0).and_then(text)).collect())
    }

    /// Every row, by column name.
    pub async fn named(&mut self, sql: &str) -> Result<Vec<Named>, SqlError> {
        let rows = self.rows(sql).await?;
        let name = |row: &Row, i: usize| row.columns_ref()[i].name_str().into_owned();
        Ok(rows
            .iter()
            .map(|row| (0..row.len()).map(|i| (name(row, i), row.as_ref(i).and_then(text))).collect())
            .collect())
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => match timeout(self.deadline, Conn::new(self.opts.clone())).await {
                Ok(conn) => conn.map_err(sort)?,
                Err(_) => return Err(SqlError::Timeout),
            },
        };
        match timeout(self.deadline, conn.query::<Row, _>(sql)).await {
            Ok(Ok(rows)) => {
                self.conn = Some(conn);
                Ok(rows)
            }
            Ok(Err(error)) => {
                let error = sort(error);
                if matches!(error, SqlError::Server { .. }) {
                    self.conn = Some(conn);
                }
                Err(error)
            }
            Err(_) => Err(SqlError::Timeout),
        }
    }
}

fn sort(error: Error) -> SqlError {
    match error {
        // 1053, 1927, 3169: shutdown or killed; the connection is over.
        Error::Server(e) if ![1053, 1927, 3169].contains(&e.code) => {
            SqlError::Server { code: e.code, message: e.message }
        }
        other => SqlError::Io(other.to_string()),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_string()),
    }
}
