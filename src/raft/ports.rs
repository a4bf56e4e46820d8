//! What a node's Raft stands on, and nothing of how it is made: its disk, the ways to the other nodes, its process. The
//! daemon has this machine's (`store::dir`, `tcp`, tokio); the simulation has its own, and runs all the rest of this
//! module as it is.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt as _};
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};
use tonic::transport::Channel;

use super::error::OpenError;
use super::options::Options;
pub use super::store::StoreError;
pub use super::store::base::{Base, Batch, Found, Pair, Pairs, Slots, StartQueue, Tree};
pub use super::store::mark::{BYTES as MARK_BYTES, blank as blank_mark};
pub use super::store::sync::{Job, Queue, Worker};

/// The directory of a node, and the disk it lies on.
pub trait Disk: Send + Sync {
    /// Takes the directory, which is made if it is nobody's. May take long.
    fn open(&self, options: &Options) -> Result<Directory, OpenError>;
    /// Bytes that may still be written there.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A directory that this process holds.
pub struct Directory {
    /// Its random name (P9).
    pub incarnation: String,
    /// Its database.
    pub found: Found,
}

/// Ways to other nodes.
pub trait Net: Send + Sync {
    /// A connection to whoever listens at `address` and can show that it is `node_id`, made on first use, and anew when
    /// it breaks. The error is for people.
    fn dial_lazily(&self, node_id: u64, address: &str) -> Result<Line, String>;
}

/// A connection over which gRPC is spoken.
#[derive(Clone)]
pub enum Line {
    /// HTTP/2 over TCP.
    Tcp(Channel),
    /// Anything else.
    Other(Arc<dyn Carrier>),
}

/// The end of a call: an answer, or the transport's words.
pub type Carried = BoxFuture<'static, Result<http::Response<Body>, StdError>>;

/// Whoever brings a call to its other end, and the answer back.
pub trait Carrier: Send + Sync {
    /// Begins when it is polled, ends when it is dropped.
    fn carry(&self, call: http::Request<Body>) -> Carried;
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Carried;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            Line::Tcp(channel) => channel.poll_ready(context).map_err(StdError::from),
            Line::Other(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, call: http::Request<Body>) -> Carried {
        match self {
            Line::Tcp(channel) => channel.call(call).map(|end| end.map_err(StdError::from)).boxed(),
            Line::Other(carrier) => carrier.carry(call),
        }
    }
}

/// The process that a node's tasks live in, where it is not simply this one.
pub trait Process: Send + Sync {
    /// What is to be spawned in place of `task`.
    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
    /// 64 random bits.
    fn chance(&self) -> u64;
}

/// All of it, for one node.
#[derive(Clone)]
pub struct Ports {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// The ways to the others.
    pub net: Arc<dyn Net>,
    /// Its process; `None`: this one, with its threads and its chance.
    pub process: Option<Arc<dyn Process>>,
}
