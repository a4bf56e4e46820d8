//! What clients do that are many, rude, or broken. Each attack goes on until it is dropped; who is thrown out comes back.
//! They have threads of their own, which run when nobody else wants to: attackers have machines of their own.

use super::wire::{Fate, Wire, framed};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A window that never stops anybody.
pub const WIDE: u32 = (1 << 31) - 1;
/// Calls of a flood, in turn.
const CALLS: [&str; 4] = [
    "/quorate.v1.Nodes/Status",
    "/quorate.v1.Topology/ListClusters",
    "/quorate.v1.Recovery/ListRecoveries",
    "/quorate.v1.Events/ListEvents",
];
/// Who was thrown out comes back after this.
const BACK_AFTER: Duration = Duration::from_millis(20);
/// A byte of a slow one.
const BYTE_EVERY: Duration = Duration::from_secs(1);
/// The largest message that is tried.
const HUGE: usize = 4 << 20;

/// How the calls of an attack ended.
#[derive(Clone, Default)]
pub struct Fates(Arc<Mutex<BTreeMap<Fate, u64>>>);

impl Fates {
    fn count(&self, fate: Fate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(fate).or_default() += 1;
    }

    /// All so far.
    pub fn all(&self) -> BTreeMap<Fate, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running attack.
#[derive(Default)]
pub struct Attack {
    /// How its calls ended.
    pub fates: Fates,
    tasks: JoinSet<()>,
}

/// Where the attackers run.
pub struct Elsewhere(Option<Runtime>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Elsewhere {
    /// Its threads begin.
    pub fn begin() -> std::io::Result<Elsewhere> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(|| {
                // Linux: of this thread alone. Where it is not allowed, the attackers only take more.
                let _ = rustix::process::nice(19);
            })
            .enable_all()
            .build()?;
        Ok(Elsewhere(Some(runtime)))
    }

    /// To start tasks there.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("it ends when it is dropped").handle().clone()
    }
}

impl Attack {
    /// So many clients that each do this again and again; it returns how it ended.
    fn by(at: &Handle, count: usize, mut client: impl FnMut(usize, Fates) -> BoxedClient) -> Attack {
        let mut attack = Attack::default();
        for number in 0..count {
            attack.tasks.spawn_on(client(number, attack.fates.clone()), at);
        }
        attack
    }
}

type BoxedClient = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Does this for ever; an end of the connection is counted, and followed by another.
async fn again(fates: Fates, mut once: impl AsyncFnMut() -> Result<(), Fate>) {
    loop {
        if let Err(fate) = once().await {
            fates.count(fate);
        }
        sleep(BACK_AFTER).await;
    }
}

/// Connections whose client asks for much and never reads: half of them let nothing be sent, half let everything be sent
/// and leave it in the socket.
pub fn never_read(at: &Handle, address: &str, connections: usize) -> Attack {
    let address = address.to_owned();
    Attack::by(at, connections, move |number, fates| {
        let address = address.clone();
        Box::pin(async move {
            loop {
                let ended = match number % 2 {
                    0 => no_window(&address).await,
                    _ => unread_socket(&address).await,
                };
                fates.count(ended.err().unwrap_or(Fate::Closed));
                sleep(BACK_AFTER).await;
            }
        })
    })
}

async fn no_window(address: &str) -> Result<(), Fate> {
    let mut wire = Wire::connect(address, 0).await?;
    let mut open = Vec::new();
    for number in 0..120 {
        let path = if number % 2 == 0 { "/quorate.v1.Events/WatchEvents" } else { CALLS[number / 2 % 4] };
        open.push(wire.begin(path, framed(&[])).await?);
    }
    wire.ended().await;
    Ok(())
}

/// The client's half of HTTP/2 up to its calls, spelled by hand: there is nobody who could read.
async fn unread_socket(address: &str) -> Result<(), Fate> {
    let mut stream = TcpStream::connect(address).await.map_err(|_| Fate::Closed)?;
    let mut bytes = preface(WIDE);
    for number in 0..120_u32 {
        let path =
            if number % 2 == 0 { "/quorate.v1.Events/WatchEvents" } else { CALLS[number as usize / 2 % 4] };
        headers(&mut bytes, 2 * number + 1, address, path);
        http2_frame(&mut bytes, 0, 1, 2 * number + 1, &framed(&[]));
    }
    stream.write_all(&bytes).await.map_err(|_| Fate::Closed)?;
    // A byte now and then shows whether it was closed; it is never read.
    while stream.write_all(&[]).await.is_ok() && !hung_up(&stream).await {
        sleep(BYTE_EVERY).await;
    }
    Ok(())
}

/// Whether the other side has closed: a ping is refused then.
async fn hung_up(stream: &TcpStream) -> bool {
    stream.take_error().ok().flatten().is_some()
        || stream
            .try_write(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock)
}

/// Requests of megabytes, and such that announce gigabytes, `at_once` at a time.
pub fn oversized(at: &Handle, address: &str, at_once: usize) -> Attack {
    let address = address.to_owned();
    Attack::by(at, at_once, move |number, fates| {
        let address = address.clone();
        Box::pin(again(fates.clone(), async move || {
            let wire = Wire::connect(&address, WIDE).await?;
            let mut body = BytesMut::from(&framed(&vec![b'x'; HUGE >> (number % 2)])[..]);
            if number % 4 == 0 {
                body[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
            }
            let body = body.freeze();
            while wire.is_open() {
                fates.count(wire.call("/quorate.v1.Topology/SetAlias", body.clone()).await);
            }
            Ok(())
        }))
    })
}

/// Connections that are never finished: some say nothing, some a byte each second of a TLS, HTTP/1 or HTTP/2 beginning.
pub fn half_open(at: &Handle, address: &str, connections: usize) -> Attack {
    let address = address.to_owned();
    Attack::by(at, connections, move |number, fates| {
        let address = address.clone();
        Box::pin(async move {
            loop {
                let _ = drip(&address, number % 5).await;
                fates.count(Fate::Closed);
                sleep(BACK_AFTER).await;
            }
        })
    })
}

async fn drip(address: &str, kind: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut all = preface(WIDE);
    headers(&mut all, 1, address, CALLS[0]);
    let (at_once, slowly): (&[u8], &[u8]) = match kind {
        0 => (b"", b""),
        1 => (b"", &all),
        2 => all.split_at(all.len() - 8),
        3 => (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[7; 64]),
        _ => (b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ", &[b'y'; 64]),
    };
    stream.write_all(at_once).await?;
    let mut slowly = slowly.iter();
    let mut heard = [0; 512];
    loop {
        match timeout(BYTE_EVERY, stream.read(&mut heard)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(heard) => drop(heard?),
            Err(_) => {
                if let Some(byte) = slowly.next() {
                    stream.write_all(&[*byte]).await?;
                }
            }
        }
    }
}

/// As many short calls as go through, over so many connections with so many at once on each.
pub fn flood(at: &Handle, address: &str, connections: usize, at_once: usize) -> Attack {
    let address = address.to_owned();
    Attack::by(at, connections, move |_, fates| {
        let address = address.clone();
        Box::pin(again(fates.clone(), async move || {
            let wire = Arc::new(Wire::connect(&address, WIDE).await?);
            let mut callers = JoinSet::new();
            for number in 0..at_once {
                let (wire, fates) = (wire.clone(), fates.clone());
                callers.spawn(async move {
                    for call in CALLS.iter().cycle().skip(number) {
                        let fate = wire.call(call, framed(&[])).await;
                        fates.count(fate);
                        if !wire.is_open() {
                            return;
                        }
                    }
                });
            }
            callers.join_all().await;
            Ok(())
        }))
    })
}

/// Connections for one call each, and such that take back each call as they make it.
pub fn churn(at: &Handle, address: &str, at_once: usize) -> Attack {
    let address = address.to_owned();
    Attack::by(at, at_once, move |number, fates| {
        let address = address.clone();
        Box::pin(again(fates.clone(), async move || {
            let wire = Wire::connect(&address, WIDE).await?;
            if number % 2 == 0 {
                fates.count(wire.call(CALLS[0], framed(&[])).await);
                return Ok(());
            }
            loop {
                wire.take_back(CALLS[0]).await?;
                tokio::task::yield_now().await;
            }
        }))
    })
}

/// The beginning of a client's side: the words, and settings with that window.
fn preface(window: u32) -> BytesMut {
    let mut bytes = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
    let mut settings = BytesMut::new();
    settings.put_u16(4);
    settings.put_u32(window);
    http2_frame(&mut bytes, 4, 0, 0, &settings);
    http2_frame(&mut bytes, 8, 0, 0, &(WIDE - 65_535).to_be_bytes());
    bytes
}

fn headers(bytes: &mut BytesMut, stream: u32, host: &str, path: &str) {
    let mut block = BytesMut::new();
    // Indexed: POST, http; then literals, never indexed.
    block.put_slice(&[0x83, 0x86]);
    for (name, value) in
        [(":path", path), (":authority", host), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        block.put_u8(0x10);
        for text in [name, value] {
            block.put_u8(text.len() as u8);
            block.put_slice(text.as_bytes());
        }
    }
    http2_frame(bytes, 1, 4, stream, &block);
}

fn http2_frame(bytes: &mut BytesMut, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    bytes.put_uint(content.len() as u64, 3);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(content);
}

/// Streams of events that are read.
pub struct Watchers {
    /// Those that have heard of each mark.
    told: Arc<Mutex<BTreeMap<String, usize>>>,
    /// How streams ended that should not have.
    pub fates: Fates,
    tasks: JoinSet<()>,
}

/// Streams of one connection; the node allows 128.
const STREAMS: usize = 125;
/// What marks an event begins so.
pub const MARK: &str = "load-mark-";

impl Watchers {
    /// Opens so many; each is answered before this returns.
    pub async fn open(address: String, count: usize) -> Result<Watchers, Fate> {
        let mut watchers = Watchers { told: Arc::default(), fates: Fates::default(), tasks: JoinSet::new() };
        for begin in (0..count).step_by(STREAMS) {
            let wire = Arc::new(Wire::connect(&address, 65_535).await?);
            for _ in begin..count.min(begin + STREAMS) {
                // Only new ones.
                let mut stream = wire.watch("/quorate.v1.Events/WatchEvents", framed(&[0x10, 0x01])).await?;
                let (told, fates, wire) = (watchers.told.clone(), watchers.fates.clone(), wire.clone());
                watchers.tasks.spawn(async move {
                    let _wire = wire;
                    while let Some(part) = stream.data().await {
                        let part: Bytes = match part {
                            Ok(part) => part,
                            Err(error) => return fates.count(error.into()),
                        };
                        let _ = stream.flow_control().release_capacity(part.len());
                        for mark in marks(&part) {
                            *told.lock().unwrap_or_else(PoisonError::into_inner).entry(mark).or_default() +=
                                1;
                        }
                    }
                    fates.count(Fate::Closed);
                });
            }
        }
        Ok(watchers)
    }

    /// How many have heard of this mark.
    pub fn told(&self, mark: &str) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(mark).copied().unwrap_or(0)
    }
}

/// The marks in an answer: each once.
fn marks(part: &[u8]) -> std::collections::BTreeSet<String> {
    let text = String::from_utf8_lossy(part);
    let ends = text.split(MARK).skip(1);
    ends.map(|end| MARK.to_owned() + &end.chars().take_while(char::is_ascii_digit).collect::<String>())
        .collect()
}
