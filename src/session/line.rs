//! The TCP connection under a session, owned by us and lent to the driver.
//!
//! mysql_async shows neither its socket nor the end of an idle connection: a killed server would be noticed at the
//! next probe only, 125 ms later on average, in a failover that is to take 200. So the connection to the server is
//! dialled here, its greeting is read here, and the driver is given a loopback connection whose bytes are carried
//! over unchanged (TLS passes through it). The end of the server's side is seen the moment it comes; a connection is
//! cut by dropping it, without a word from the driver; and a port that greets in another protocol, refuses, or never
//! greets is told apart before a driver could be confused by it.
//!
//! Looked at and left: a `SLEEP` kept in flight on the session (seen by every operator and slow log of that server,
//! and the session is then busy when an answer is wanted at once); a second, idle raw connection (the server counts
//! it against the host: `max_connect_errors`); duplicating the driver's socket through `pidfd_getfd` (refused in
//! containers); a Unix socket to the driver (it then takes the transport for safe and sends passwords in clear).
//! The cost here, measured in an unoptimised build: two file descriptors a session, and up to 60 us of CPU and 0.1 ms
//! for each round trip (`tests/live_probe/cost.rs`).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, lookup_host},
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    SessionError,
    greeting::{self, GREETING_MAX, Greeting},
    guard::Guard,
};
use crate::model::address::Address;

/// A dialled server: its greeting, and where the driver finds it.
pub(super) struct Line {
    pub(super) greeting: Greeting,
    /// The loopback address the driver connects to, once.
    pub(super) entrance: SocketAddr,
    pub(super) end: LineEnd,
}

/// The end of a line: seen by many, caused by its holder.
#[derive(Debug, Clone)]
pub struct LineEnd {
    ended: watch::Receiver<Option<String>>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What a line and its holder tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The driver is logged in.
    logged_in: AtomicBool,
    /// Why the server's bytes are not passed on any more.
    refused: OnceLock<String>,
}

impl LineEnd {
    /// Cuts the connection at once; a statement in flight may go on, on the server.
    pub fn cut(&self) {
        self.task.abort();
    }

    /// From now on the server answers statements.
    pub(super) fn logged_in(&self) {
        self.shared.logged_in.store(true, Ordering::Relaxed);
    }

    /// What the server sent that is not passed on to any driver; the connection has ended then.
    pub(super) fn refused(&self) -> Option<&str> {
        self.shared.refused.get().map(String::as_str)
    }

    /// Why the connection ended, when it has.
    pub fn why(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Resolves when the server's side has ended, with the reason.
    pub async fn ended(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "cut by this node".to_owned(),
        }
    }
}

/// Connects and reads the greeting. The name is resolved anew each time; its addresses share the time there is.
/// `plain`: nothing will be encrypted.
pub(super) async fn dial(
    address: &Address,
    plain: bool,
    deadline: Instant,
    dial_again: Duration,
) -> Result<Line, SessionError> {
    let began = Instant::now();
    let silent = |awaited| SessionError::Silent { awaited, after: deadline.duration_since(began) };
    let server = connect(address, deadline, dial_again).await?;
    server.set_nodelay(true).map_err(|error| SessionError::from_io(&error))?;
    let (server, opening, greeting) =
        timeout_at(deadline, read_greeting(server)).await.map_err(|_| silent("greeting"))??;

    let local = |error: std::io::Error| SessionError::Protocol(format!("no loopback connection: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(local)?;
    let entrance = listener.local_addr().map_err(local)?;
    let (tell, ended) = watch::channel(None);
    let shared = Arc::new(Shared::default());
    let theirs = shared.clone();
    let task = tokio::spawn(async move {
        let driver = match timeout_at(deadline, listener.accept()).await {
            Ok(Ok((driver, _))) => driver,
            _ => return,
        };
        drop(listener);
        if let Some(why) = carry(server, driver, &opening, plain, &theirs).await {
            tell.send_replace(Some(why));
        }
    })
    .abort_handle();
    Ok(Line { greeting, entrance, end: LineEnd { ended, shared, task } })
}

/// A lost SYN is sent again by the kernel after 1 s at the earliest, so a healed partition would go unnoticed that
/// long: another connection is begun every so often beside the first, and whichever is answered first is used.
async fn connect_to(target: SocketAddr, dial_again: Duration) -> std::io::Result<TcpStream> {
    let mut dials = FuturesUnordered::from_iter([TcpStream::connect(target)]);
    loop {
        tokio::select! {
            Some(answered) = dials.next() => return answered,
            () = tokio::time::sleep(dial_again) => dials.push(TcpStream::connect(target)),
        }
    }
}

async fn connect(
    address: &Address,
    deadline: Instant,
    dial_again: Duration,
) -> Result<TcpStream, SessionError> {
    let began = Instant::now();
    let silent = |since: Instant| SessionError::Silent { awaited: "connection", after: since.elapsed() };
    let found: Vec<SocketAddr> = match address.host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, address.port)],
        Err(_) => timeout_at(deadline, lookup_host((address.host.as_str(), address.port)))
            .await
            .map_err(|_| {
                SessionError::Unreachable(format!("the name {} was not resolved in time", address.host))
            })?
            .map_err(|error| SessionError::Unreachable(format!("the name {}: {error}", address.host)))?
            .collect(),
    };
    let mut last = SessionError::Unreachable(format!("the name {} has no address", address.host));
    for (tried, target) in found.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(found.len() - tried).unwrap_or(u32::MAX);
        last = match timeout_at(Instant::now() + share, connect_to(*target, dial_again)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => SessionError::from_io(&error),
            Err(_) => silent(began),
        };
    }
    Err(last)
}

async fn read_greeting(mut server: TcpStream) -> Result<(TcpStream, Vec<u8>, Greeting), SessionError> {
    let mut opening = Vec::with_capacity(256);
    loop {
        let read = server.read_buf(&mut opening).await.map_err(|error| SessionError::from_io(&error))?;
        match greeting::parse(&opening) {
            Some(greeting) => return Ok((server, opening, greeting?)),
            None if read == 0 => return Err(SessionError::Closed("it closed before it greeted".to_owned())),
            None if opening.len() > GREETING_MAX => {
                return Err(SessionError::NotMySql("its greeting does not end".to_owned()));
            }
            None => {}
        }
    }
}

/// Carries bytes both ways until one side ends. `Some`: the server's side ended, and why.
async fn carry(
    mut server: TcpStream,
    mut driver: TcpStream,
    opening: &[u8],
    plain: bool,
    shared: &Shared,
) -> Option<String> {
    let _ = driver.set_nodelay(true);
    let guard = Mutex::new(Guard::new(plain));
    let guard = || guard.lock().unwrap_or_else(PoisonError::into_inner);
    let passed = |bytes: &[u8]| {
        let passed = guard().pass(bytes, shared.logged_in.load(Ordering::Relaxed));
        passed.map_err(|what| {
            let why = format!("the server sends {what}");
            // Before the driver sees the end of its connection, so that whoever waits for it can say why.
            std::io::Error::other(shared.refused.get_or_init(|| why).clone())
        })
    };
    if let Err(error) = passed(opening) {
        return Some(error.to_string());
    }
    driver.write_all(opening).await.ok()?;
    let (mut from_server, mut to_server) = server.split();
    let (mut from_driver, mut to_driver) = driver.split();
    let down = async {
        match copy(&mut from_server, &mut to_driver, &passed).await {
            Ok(()) => "end of stream".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let asked = |_: &[u8]| {
        guard().asked();
        Ok(())
    };
    let up = copy(&mut from_driver, &mut to_server, &asked);
    tokio::select! {
        why = down => Some(why),
        done = up => match done {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        },
    }
}

/// Copies until the end of `from`, or until `look` does not let it pass. Small buffer: sessions are many, their packets
/// small.
async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    look: &impl Fn(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 2048];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        look(&buffer[..read])?;
        to.write_all(&buffer[..read]).await?;
        if read == buffer.len() && buffer.len() < 32 * 1024 {
            buffer.resize(buffer.len() * 4, 0);
        }
    }
}

/// How often an unanswered connection request is repeated, where nothing else is said; and where every moment that a
/// healed server goes unnoticed costs writes.
pub const DIAL_AGAIN: Duration = Duration::from_millis(250);
/// See [`DIAL_AGAIN`].
pub const DIAL_AGAIN_SOON: Duration = Duration::from_millis(40);

/// What a login may take where nothing else is said.
pub(super) const LOGIN_WITHIN: Duration = Duration::from_secs(1);
