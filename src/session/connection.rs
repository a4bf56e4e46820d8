//! A session: one driver connection that is never used again once it may be out of step.

use std::{collections::HashMap, fmt, panic::AssertUnwindSafe, path::Path, time::Duration};

use futures::FutureExt as _;
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, SslOpts, prelude::Queryable};
use tokio::time::{Instant, timeout_at};

use super::{
    Account, Purpose, ResultSet, SessionError, Tls,
    greeting::Greeting,
    line::{self, DIAL_AGAIN, LOGIN_WITHIN, LineEnd},
};
use crate::model::{
    address::Address,
    server::{Flavor, Version},
};

/// How a session is opened.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Bound of dialling, greeting and login together. Default 1 s.
    pub login_within: Duration,
    /// Pause before an unanswered connection request is sent again. Default 250 ms.
    pub dial_again: Duration,
    /// What it is for.
    pub purpose: Purpose,
    /// Number of this node, shown among the connection's attributes; 0 where there is none.
    pub node: u64,
    /// `lock_wait_timeout` of the session, seconds: how long one statement may wait for metadata or global locks.
    pub lock_wait_s: u32,
}

impl SessionOptions {
    /// The defaults for `purpose`.
    pub fn new(purpose: Purpose, node: u64) -> Self {
        Self { login_within: LOGIN_WITHIN, dial_again: DIAL_AGAIN, purpose, node, lock_wait_s: 1 }
    }
}

/// What a multi-statement brought: the result sets of the statements that were done, and the error that ended it.
#[derive(Debug)]
pub struct Answer {
    /// One for each statement done, empty where it returns none.
    pub sets: Vec<ResultSet>,
    /// The server's error to the statement after those; later statements were not begun.
    pub error: Option<SessionError>,
}

/// A logged-in connection. mysql_async is not cancel-safe: a query whose future is dropped leaves its answer in the
/// stream for the next one to take for its own. So the connection is taken out for each statement and put back only
/// after a whole answer; after a time-out, an I/O error or a dropped future the session is cut and stays closed.
pub struct Session {
    conn: Option<Conn>,
    end: LineEnd,
    greeting: Greeting,
    /// Settings that go before the first statement, in its round trip.
    settings: Option<String>,
}

/// Cuts the line unless it is told that the answer was whole: a drop in the middle of an await ends up here.
struct CutOnDrop(Option<LineEnd>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end.cut();
        }
    }
}

impl Session {
    /// Dials, reads the greeting and logs in, all within `options.login_within`.
    pub async fn open(
        address: &Address,
        account: &Account,
        options: &SessionOptions,
    ) -> Result<Self, SessionError> {
        let deadline = Instant::now() + options.login_within;
        let line = line::dial(address, account.tls == Tls::Off, deadline, options.dial_again).await?;
        let mut cut = CutOnDrop(Some(line.end.clone()));
        let tls = tls(address, &account.tls).await?;
        let opts = driver_options(line.entrance.port(), account, tls, options);
        let login = timeout_at(deadline, unpanicked(Conn::new(opts))).await;
        let conn = match login {
            Ok(Ok(Ok(conn))) => conn,
            Ok(Ok(Err(error))) => return Err(failed_login(error.into(), &line.end, &account.tls)),
            Ok(Err(nonsense)) => return Err(nonsense),
            Err(_) => return Err(SessionError::Silent { awaited: "login", after: options.login_within }),
        };
        cut.0 = None;
        line.end.logged_in();
        let settings = Some(settings(line.greeting.flavor, options));
        Ok(Self { conn: Some(conn), end: line.end, greeting: line.greeting, settings })
    }

    /// Dialect, as the greeting told it.
    pub fn flavor(&self) -> Flavor {
        self.greeting.flavor
    }

    /// Version, as the greeting told it.
    pub fn version(&self) -> &Version {
        &self.greeting.version
    }

    /// Connection id on the server.
    pub fn id(&self) -> Option<u32> {
        self.conn.as_ref().map(Conn::id)
    }

    /// Whether statements can still be sent, as far as is known.
    pub fn is_open(&self) -> bool {
        self.conn.is_some() && self.end.why().is_none()
    }

    /// Resolves as soon as the server's side of the connection has ended, with the reason. Cancel-safe; several may wait.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let mut end = self.end.clone();
        async move { end.ended().await }
    }

    /// The connection under it, to cut it from outside.
    pub fn line(&self) -> LineEnd {
        self.end.clone()
    }

    /// Runs statements joined by `;` in one round trip; the result sets, or the first error.
    pub async fn run(&mut self, sql: &str, within: Duration) -> Result<Vec<ResultSet>, SessionError> {
        let answer = self.run_all(sql, within).await?;
        match answer.error {
            None => Ok(answer.sets),
            Some(error) => Err(error),
        }
    }

    /// The same, with what was done before an error. `Err`: the session is gone, and whatever was not answered may
    /// still happen.
    pub async fn run_all(&mut self, sql: &str, within: Duration) -> Result<Answer, SessionError> {
        let Some(mut conn) = self.conn.take() else {
            return Err(SessionError::Closed(self.end.why().unwrap_or_else(|| "by this node".to_owned())));
        };
        let mut cut = CutOnDrop(Some(self.end.clone()));
        let settings = self.settings.take();
        let whole = match &settings {
            Some(settings) => format!("{settings}; {sql}"),
            None => sql.to_owned(),
        };
        let answer = timeout_at(Instant::now() + within, unpanicked(collect(&mut conn, &whole))).await;
        let (mut sets, error) = match answer {
            Err(_) => return Err(SessionError::Silent { awaited: "answer", after: within }),
            Ok(Err(nonsense)) => return Err(nonsense),
            Ok(Ok((sets, Some(error)))) if !error.keeps_session() => {
                // The sets before it are lost with the session: nobody may act on half an answer.
                drop(sets);
                return Err(refused_instead(error, &self.end));
            }
            Ok(Ok(answer)) => answer,
        };
        cut.0 = None;
        self.conn = Some(conn);
        if settings.is_some() && !sets.is_empty() {
            sets.remove(0);
        } else if settings.is_some() && error.is_some() {
            self.settings = settings;
        }
        Ok(Answer { sets, error })
    }

    /// Says goodbye, so that the server counts no aborted connection. Bounded at 100 ms.
    pub async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            let goodbye = unpanicked(conn.disconnect());
            let _ = tokio::time::timeout(Duration::from_millis(100), goodbye).await;
        }
        self.end.cut();
    }
}

impl fmt::Debug for Session {
    /// The driver's own `Debug` prints the password: it is never used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} {}, connection {:?})", self.flavor(), self.version(), self.id())
    }
}

/// mysql_async 0.37 has assertions that a server's bytes reach (an empty row, an RSA key that is none, a second change of
/// the login method). What they stop is this one connection, which its caller then cuts.
async fn unpanicked<T>(work: impl Future<Output = T>) -> Result<T, SessionError> {
    let nonsense = |_| SessionError::Protocol("the server's bytes make no sense to the driver".to_owned());
    AssertUnwindSafe(work).catch_unwind().await.map_err(nonsense)
}

/// The server was cut off for what it sent: the driver only saw the end.
fn refused_instead(error: SessionError, end: &LineEnd) -> SessionError {
    match end.refused() {
        Some(why) => SessionError::Protocol(why.to_owned()),
        None => error,
    }
}

/// rustls and the driver's reader of packets report what they do not understand alike.
fn failed_login(error: SessionError, end: &LineEnd, tls: &Tls) -> SessionError {
    match refused_instead(error, end) {
        SessionError::Tls(why) if *tls == Tls::Off => SessionError::Protocol(why),
        error => error,
    }
}

/// Most rows and result sets of one answer together. Process lists have at most 100,000 (`max_connections`).
const ROWS_MAX: usize = 200_000;

async fn collect(conn: &mut Conn, sql: &str) -> (Vec<ResultSet>, Option<SessionError>) {
    let mut sets = Vec::new();
    let mut room = ROWS_MAX;
    let mut result = match conn.query_iter(sql).await {
        Ok(result) => result,
        Err(error) => return (sets, Some(error.into())),
    };
    loop {
        let columns = result.columns();
        let mut rows = Vec::new();
        loop {
            match result.next().await {
                Ok(Some(row)) if rows.len() < room => rows.push(row),
                Ok(Some(_)) => return (sets, Some(too_much())),
                Ok(None) => break,
                // It failed while it ran: it was not done.
                Err(error) => return (sets, Some(error.into())),
            }
        }
        room = room.saturating_sub(rows.len() + 1);
        sets.push(ResultSet::from_driver(columns.as_deref().unwrap_or_default(), rows));
        if room == 0 {
            return (sets, Some(too_much()));
        }
        if result.is_empty() {
            break;
        }
    }
    // "Empty" hides two things: a last OK without rows, and the error of the next statement, which the driver keeps
    // for whoever asks next. It must be taken here, else the next query on this connection gets it.
    let last_ok = result.columns().is_some();
    match result.next().await {
        Ok(_) if last_ok => sets.push(ResultSet::default()),
        Ok(_) => {}
        Err(error) => return (sets, Some(error.into())),
    }
    (sets, None)
}

fn too_much() -> SessionError {
    SessionError::Protocol(format!("the server sends more than {ROWS_MAX} rows"))
}

/// What a session sets for itself: no server-wide mode may change what our statements mean, and none of them waits
/// for a lock for ever (the default of `lock_wait_timeout` is a year on MySQL and a day on MariaDB).
fn settings(flavor: Flavor, options: &SessionOptions) -> String {
    let own_bound = match flavor {
        Flavor::MySql => "max_execution_time=0",
        Flavor::MariaDb => "max_statement_time=0",
    };
    format!(
        "SET SESSION sql_mode='', time_zone='+00:00', wait_timeout=28800, lock_wait_timeout={lock}, \
         innodb_lock_wait_timeout={lock}, {own_bound}",
        lock = options.lock_wait_s.max(1)
    )
}

fn driver_options(port: u16, account: &Account, tls: Option<SslOpts>, options: &SessionOptions) -> Opts {
    let attributes: HashMap<String, String> = [
        ("program_name", "quorate".to_owned()),
        ("quorate_node", options.node.to_string()),
        ("quorate_purpose", options.purpose.name().to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(account.user.clone()))
        .pass(Some(account.password.expose()))
        .ssl_opts(tls)
        .connect_attributes(attributes)
        .tcp_nodelay(true)
        // Each of these unset costs a query at login, or moves the session to a Unix socket.
        .prefer_socket(false)
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(0)
        .into()
}

/// mysql_async 0.37 leaves names unchecked by looking for this word in the text of the error, where rustls 0.23
/// no longer puts it: there now stands the name that was expected. So this word is the name that is expected, which
/// no certificate has; the authority and the dates are checked before the name, and their errors do not contain it.
const NO_NAME: &str = "NotValidForName";

/// Reads the files anew at each login, so that renewed certificates are taken up. An error names the file.
async fn tls(address: &Address, tls: &Tls) -> Result<Option<SslOpts>, SessionError> {
    let Tls::Required { ca, identity, host_name, check_name } = tls else {
        return Ok(None);
    };
    let name = match check_name {
        true => host_name.clone().unwrap_or_else(|| address.host.clone()),
        false => NO_NAME.to_owned(),
    };
    let mut ssl = SslOpts::default()
        .with_danger_tls_hostname_override(Some(name))
        .with_danger_skip_domain_validation(!check_name);
    if let Some(ca) = ca {
        let pem = read_pem(ca, "CERTIFICATE").await?;
        ssl = ssl.with_root_certs(vec![pem.into()]).with_disable_built_in_roots(true);
    }
    if let Some((cert, key)) = identity {
        let (cert, key) = (read_pem(cert, "CERTIFICATE").await?, read_pem(key, "PRIVATE KEY").await?);
        ssl = ssl.with_client_identity(Some(ClientIdentity::new(cert.into(), key.into())));
    }
    Ok(Some(ssl))
}

async fn read_pem(path: &Path, what: &str) -> Result<Vec<u8>, SessionError> {
    let named = |why: &dyn fmt::Display| SessionError::Tls(format!("{}: {why}", path.display()));
    let pem = tokio::fs::read(path).await.map_err(|error| named(&error))?;
    match String::from_utf8_lossy(&pem).contains(&format!("{what}-----")) {
        true => Ok(pem),
        false => Err(named(&format!("no PEM `{what}` in it"))),
    }
}
