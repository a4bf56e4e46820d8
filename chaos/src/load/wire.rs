//! gRPC as bytes over HTTP/2: what an honest client needs, and what a rude one does.

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Request};
use std::fmt;
use tokio::{net::TcpStream, task::JoinHandle};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// With a gRPC code; 0 is success.
    Code(u8),
    /// The stream was reset.
    Reset,
    /// The connection was closed, or there was none.
    Closed,
}

/// Names of the gRPC codes, by number.
const CODES: [&str; 17] = [
    "ok",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Fate {
    /// Success.
    pub const OK: Self = Self::Code(0);
    /// Too much is asked at once.
    pub const OVERLOADED: Self = Self::Code(8);
    /// Longer than a request may be.
    pub const TOO_LONG: Self = Self::Code(11);

    fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get("grpc-status")?.to_str().ok()?.parse().ok().map(Self::Code)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.write_str(CODES.get(usize::from(*code)).unwrap_or(&"a code that is none")),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl From<h2::Error> for Fate {
    fn from(error: h2::Error) -> Self {
        match error.is_reset() {
            true => Self::Reset,
            false => Self::Closed,
        }
    }
}

/// A connection. Dropping it closes it.
pub struct Wire {
    send: SendRequest<Bytes>,
    address: String,
    drive: Option<JoinHandle<()>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(drive) = &self.drive {
            drive.abort();
        }
    }
}

impl Wire {
    /// One that lets the other side send `window` bytes ahead in each stream.
    pub async fn connect(address: &str, window: u32) -> Result<Wire, Fate> {
        let stream = TcpStream::connect(address).await.map_err(|_| Fate::Closed)?;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
        let (send, connection) = builder.handshake(stream).await?;
        let drive = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Wire { send, address: address.to_owned(), drive: Some(drive) })
    }

    /// Whether it still runs.
    pub fn is_open(&self) -> bool {
        self.drive.as_ref().is_some_and(|drive| !drive.is_finished())
    }

    /// Waits for its end.
    pub async fn ended(&mut self) {
        if let Some(drive) = self.drive.take() {
            let _ = drive.await;
        }
    }

    /// Begins a call with this body; what comes is up to the caller.
    pub async fn begin(&self, path: &str, body: Bytes) -> Result<h2::client::ResponseFuture, Fate> {
        let mut send = self.send.clone().ready().await?;
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|_| Fate::Closed)?;
        let (answer, mut stream) = send.send_request(request, false)?;
        stream.send_data(body, true)?;
        Ok(answer)
    }

    /// Begins a call and takes it back at once.
    pub async fn take_back(&self, path: &str) -> Result<(), Fate> {
        let mut send = self.send.clone().ready().await?;
        let request =
            Request::post(format!("http://{}{path}", self.address)).body(()).map_err(|_| Fate::Closed)?;
        let (_, mut stream) = send.send_request(request, false)?;
        stream.send_reset(h2::Reason::CANCEL);
        Ok(())
    }

    /// A stream of answers.
    pub async fn watch(&self, path: &str, body: Bytes) -> Result<RecvStream, Fate> {
        let answer = self.begin(path, body).await?.await?;
        match Fate::of(answer.headers()) {
            Some(fate) => Err(fate),
            None => Ok(answer.into_body()),
        }
    }

    /// A call to its end; the answer is read and thrown away.
    pub async fn call(&self, path: &str, body: Bytes) -> Fate {
        match self.watch(path, body).await {
            Ok(stream) => whole(stream).await,
            Err(fate) => fate,
        }
    }
}

async fn whole(mut stream: RecvStream) -> Fate {
    while let Some(part) = stream.data().await {
        match part {
            Ok(part) => {
                let _ = stream.flow_control().release_capacity(part.len());
            }
            Err(error) => return error.into(),
        }
    }
    match stream.trailers().await {
        Ok(trailers) => trailers.as_ref().and_then(Fate::of).unwrap_or(Fate::Closed),
        Err(error) => error.into(),
    }
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}
