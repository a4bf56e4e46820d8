//! The door of a port: how many connections there may be, and for how long one may dawdle.
//!
//! A connection must bring a request within [`FIRST_REQUEST`] of its being accepted, TLS and HTTP/2 handshakes included,
//! and must take what is sent to it: one that takes nothing for [`TAKES_NOTHING`] is closed. Where there is no room, a
//! newcomer gets the place of the one that has brought nothing for longest, if that had [`GRACE`]; else it is closed at
//! once: nobody is let wait.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};
use tonic::{
    codegen::http::Extensions,
    service::Routes,
    transport::server::{Connected, TcpConnectInfo, TlsConnectInfo},
};

use super::limit::{Rules, limited};

/// Within this a connection must have brought a request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(20);
/// A connection that takes nothing of what is sent to it for this long is closed.
pub const TAKES_NOTHING: Duration = Duration::from_secs(15);
/// For so long a connection may have brought nothing before a newcomer can get its place.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after an accept that failed: there may be no file descriptor left.
const AGAIN: Duration = Duration::from_millis(100);
/// That connections are turned away is logged this often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Accepts connections.
pub struct Door {
    listener: TcpListener,
    guests: Guests,
    again: Option<Pin<Box<Sleep>>>,
}

/// Who is inside.
#[derive(Clone)]
pub struct Guests(Arc<Book>);

struct Book {
    /// The port, in words.
    name: &'static str,
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// All, by where they come from.
    guests: HashMap<SocketAddr, Arc<Stay>>,
    /// Those that have brought no request yet, the first to come first; some may have in the meantime.
    strangers: BTreeMap<u64, Arc<Stay>>,
    /// How many came.
    came: u64,
    turned_away: u64,
    told: Option<Instant>,
}

/// One connection's time inside.
struct Stay {
    number: u64,
    since: Instant,
    /// It has brought a request.
    called: AtomicBool,
    /// A newcomer has its place.
    dismissed: AtomicBool,
    reader: AtomicWaker,
}

impl Inside {
    /// Makes room by the stranger that has been here for longest; whether it could.
    fn makes_room(&mut self) -> bool {
        while let Some((number, stay)) = self.strangers.first_key_value() {
            let (number, called) = (*number, stay.called.load(Ordering::Relaxed));
            if !called && stay.since.elapsed() < GRACE {
                return false;
            }
            let Some(stay) = self.strangers.remove(&number) else { return false };
            if !called {
                stay.dismissed.store(true, Ordering::Relaxed);
                stay.reader.wake();
                self.guests.retain(|_, guest| guest.number != number);
                return true;
            }
        }
        false
    }

    fn turn_away(&mut self, book: &Book, from: SocketAddr) {
        self.turned_away += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            let (most, away) = (book.most, self.turned_away);
            tracing::warn!(most, turned_away = away, %from, "no room for another connection on {}", book.name);
        }
    }
}

impl Door {
    /// Of this listener, for `most` connections at once.
    pub fn new(listener: TcpListener, name: &'static str, most: usize) -> Self {
        let book = Book { name, most, inside: Mutex::default() };
        Self { listener, guests: Guests(Arc::new(book)), again: None }
    }

    /// Who is inside.
    pub fn guests(&self) -> Guests {
        self.guests.clone()
    }

    /// These routes, and the door hears which connections bring requests to them.
    pub fn noting(&self, routes: Routes) -> Routes {
        limited(routes, Rules { guests: Some(self.guests()), ..Rules::default() })
    }
}

impl Guests {
    /// A request has come over this connection.
    pub fn called(&self, extensions: &Extensions) {
        let Some(from) = remote(extensions) else { return };
        let mut inside = self.inside();
        let Some(stay) = inside.guests.get(&from).cloned() else { return };
        if !stay.called.swap(true, Ordering::Relaxed) {
            inside.strangers.remove(&stay.number);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stream: TcpStream, from: SocketAddr) -> Option<Guest> {
        let mut inside = self.inside();
        if inside.guests.len() >= self.0.most && !inside.makes_room() {
            inside.turn_away(&self.0, from);
            return None;
        }
        inside.came += 1;
        let stay = Arc::new(Stay {
            number: inside.came,
            since: Instant::now(),
            called: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        });
        inside.guests.insert(from, stay.clone());
        inside.strangers.insert(stay.number, stay.clone());
        let _ = stream.set_nodelay(true);
        let waited = Some(Box::pin(sleep(FIRST_REQUEST)));
        Some(Guest { stream, from, guests: self.clone(), stay, waited, stuck: None })
    }

    fn leave(&self, from: SocketAddr, number: u64) {
        let mut inside = self.inside();
        inside.strangers.remove(&number);
        if inside.guests.get(&from).is_some_and(|stay| stay.number == number) {
            inside.guests.remove(&from);
        }
    }
}

/// Where a request came from.
pub fn remote(extensions: &Extensions) -> Option<SocketAddr> {
    let plain = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let tls = || extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.get_ref().remote_addr();
    plain.or_else(tls)
}

impl Stream for Door {
    type Item = io::Result<Guest>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Guest>>> {
        loop {
            if let Some(again) = &mut self.again {
                ready!(again.as_mut().poll(context));
                self.again = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, from)) => {
                    if let Some(guest) = self.guests.enter(stream, from) {
                        return Poll::Ready(Some(Ok(guest)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted on {}", self.guests.0.name);
                    self.again = Some(Box::pin(sleep(AGAIN)));
                }
            }
        }
    }
}

/// An accepted connection.
pub struct Guest {
    stream: TcpStream,
    from: SocketAddr,
    guests: Guests,
    stay: Arc<Stay>,
    /// Runs until the first request.
    waited: Option<Pin<Box<Sleep>>>,
    /// Runs while the other side takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.leave(self.from, self.stay.number);
    }
}

impl Guest {
    /// Why nothing more is read from it.
    fn is_over(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        if self.stay.called.load(Ordering::Relaxed) {
            self.waited = None;
            return None;
        }
        self.stay.reader.register(context.waker());
        if self.stay.dismissed.load(Ordering::Relaxed) {
            return Some(gone(self.from, "it brings no request, and others come", GRACE));
        }
        let over = self.waited.as_mut().is_some_and(|waited| waited.as_mut().poll(context).is_ready());
        over.then(|| gone(self.from, "it brings no request", FIRST_REQUEST))
    }

    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(TAKES_NOTHING)));
        ready!(stuck.as_mut().poll(context));
        Poll::Ready(Err(gone(self.from, "it takes nothing", TAKES_NOTHING)))
    }
}

fn gone(from: SocketAddr, what: &str, after: Duration) -> io::Error {
    tracing::debug!(%from, "a connection is closed: {what} for {} s", after.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} for {} s", after.as_secs()))
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(over) = self.is_over(context) {
            return Poll::Ready(Err(over));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Guest {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn door(most: usize) -> (Door, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        (Door::new(listener, "a port", most), address)
    }

    async fn enters(door: &mut Door, address: SocketAddr) -> (TcpStream, Guest) {
        let stream = TcpStream::connect(address).await.expect("connect");
        (stream, door.next().await.expect("the door is open").expect("a guest"))
    }

    fn calls(guest: &Guest) {
        let mut extensions = Extensions::new();
        extensions.insert(guest.connect_info());
        guest.guests.called(&extensions);
    }

    /// What a read ends with, once it does.
    async fn why(guest: &mut Guest) -> String {
        guest.read(&mut [0]).await.expect_err("it is closed").to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_brings_no_request_is_closed_one_that_did_is_not() {
        let (mut door, address) = door(8).await;
        let (mut client, mut guest) = enters(&mut door, address).await;
        let (_silent, mut silent) = enters(&mut door, address).await;
        calls(&guest);
        assert_eq!(why(&mut silent).await, "it brings no request for 20 s");
        drop(silent);
        tokio::time::sleep(FIRST_REQUEST * 3).await;
        assert!(guest.read(&mut [0]).now_or_never().is_none());
        client.write_all(b"x").await.expect("write");
        assert_eq!(guest.read(&mut [0]).await.expect("it is read"), 1);
        assert_eq!(guest.guests.inside().guests.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_gets_the_place_of_the_one_that_brings_nothing_for_longest() {
        let (mut door, address) = door(3).await;
        let (_a, mut first) = enters(&mut door, address).await;
        let (_b, mut caller) = enters(&mut door, address).await;
        calls(&caller);
        tokio::time::sleep(GRACE).await;
        let (_c, mut young) = enters(&mut door, address).await;
        let (_d, _newcomer) = enters(&mut door, address).await;
        assert_eq!(why(&mut first).await, "it brings no request, and others come for 1 s");
        assert!(caller.read(&mut [0]).now_or_never().is_none());
        // Nobody else has had a second: the next is turned away. It hears of it as an end or as a reset.
        let mut away = TcpStream::connect(address).await.expect("connect");
        let turned_away = async {
            let mut buffer = [0];
            tokio::select! {
                heard = away.read(&mut buffer) => heard.unwrap_or(0),
                _ = door.next() => panic!("it was let in"),
            }
        };
        assert_eq!(turned_away.await, 0);
        drop(first);
        assert_eq!(door.guests().inside().guests.len(), 3);
        drop(caller);
        enters(&mut door, address).await;
        assert!(young.read(&mut [0]).now_or_never().is_none());
    }

    /// A client that takes nothing does not keep what is meant for it.
    #[tokio::test(start_paused = true)]
    async fn one_that_takes_nothing_is_closed() {
        let (mut door, address) = door(8).await;
        let (_client, mut guest) = enters(&mut door, address).await;
        calls(&guest);
        let full = async {
            loop {
                if let Err(error) = guest.write_all(&[0; 1 << 16]).await {
                    return error.to_string();
                }
            }
        };
        assert_eq!(full.await, "it takes nothing for 15 s");
    }
}
