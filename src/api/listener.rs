//! The client port: TLS, health, reflection, bounds.
//!
//! A thread of its own speaks with the clients: ten thousand streams that hear of an event, or a flood of requests, do
//! not stand in the way of a recovery.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{oneshot, watch},
};
use tonic::{
    service::RoutesBuilder,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use tonic_health::server::HealthReporter;

use super::{
    backend::Backend,
    door::Door,
    home::AtHome,
    limit::{Places, Rules, limited},
    routes,
};

/// Open streams of one connection.
const STREAMS_MAX: u32 = 128;
/// What a client may send ahead: in one stream, a whole request; in all of a connection's together, which is what may lie
/// here unread.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// A silent connection is asked whether it lives ...
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// ... and closed without an answer after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Services whose health follows the leader: without one they cannot answer.
const NEEDS_LEADER: [&str; 4] =
    ["quorate.v1.Recovery", "quorate.v1.Operations", "quorate.v1.Policy", "quorate.v1.Topology"];
/// Services that any node answers alone.
const ALONE: [&str; 3] = ["", "quorate.v1.Events", "quorate.v1.Nodes"];

/// How many clients there may be at once (`limits` in the node's file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Streams and waits, of all connections together.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1_024, streams: 16_384 }
    }
}

/// PEM files of the client port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Authorities that clients' certificates must come from; `None`: clients need none.
    pub ca: Option<PathBuf>,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the client port is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port, or the address is not of this machine.
    #[error("the client port cannot be opened at {address} (key `listen.client`)")]
    Bind {
        /// The address wanted.
        address: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A PEM file cannot be read.
    #[error("{} cannot be read", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// There is no thread for the clients.
    #[error("the client port at {address} has no thread of its own")]
    Thread {
        /// Where.
        address: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The descriptors built into the program are broken.
    #[error("reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The certificates do not fit, or the transport gave up.
    #[error("the client port at {address}")]
    Transport {
        /// Where.
        address: String,
        /// Its words.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Opens the client port. Beyond loopback without TLS it warns loudly.
pub async fn bind(address: &str, tls: bool) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::Bind { address: address.to_owned(), source })?;
    let bound = listener.local_addr();
    if !tls && bound.is_ok_and(|bound: SocketAddr| !bound.ip().is_loopback()) {
        tracing::warn!(
            "THE CLIENT PORT {address} IS OPEN TO THE NETWORK WITHOUT TLS: whoever reaches it can replace primaries. \
             Set `tls.client_ca`, `tls.client_cert` and `tls.client_key`, or listen on 127.0.0.1"
        );
    }
    Ok(listener)
}

/// Serves the client port until `stop` becomes true or its sender is gone.
pub async fn serve(
    backend: Arc<dyn Backend>,
    listener: TcpListener,
    tls: Option<&ClientTls>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), ListenError> {
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let broken = |source| ListenError::Thread { address: address.clone(), source };
    let listener = listener.into_std().map_err(broken)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let port = Port { backend, tls: tls.cloned(), limits, home: Handle::current(), address: address.clone() };
    let (mut done, ended) = oneshot::channel();
    let work = move || {
        let served = runtime.block_on(async {
            tokio::select! {
                served = port.serve(listener, stop) => Some(served),
                () = done.closed() => None,
            }
        });
        // What clients still hold is dropped, not waited for.
        runtime.shutdown_background();
        let _ = served.map(|served| done.send(served));
    };
    std::thread::Builder::new().name("clients".to_owned()).spawn(work).map_err(broken)?;
    ended.await.unwrap_or_else(|_| Err(broken(io::Error::other("it panicked"))))
}

/// What the clients' thread serves.
struct Port {
    backend: Arc<dyn Backend>,
    tls: Option<ClientTls>,
    limits: Limits,
    home: Handle,
    address: String,
}

impl Port {
    async fn serve(
        self,
        listener: std::net::TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ListenError> {
        let Self { backend, tls, limits, home, address } = self;
        let listener = TcpListener::from_std(listener)
            .map_err(|source| ListenError::Thread { address: address.clone(), source })?;
        let fail = |source| ListenError::Transport { address: address.clone(), source };
        let mut server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
        if let Some(tls) = &tls {
            server = server.tls_config(tls_config(tls)?).map_err(fail)?;
        }
        let (reporter, health) = tonic_health::server::health_reporter();
        tokio::spawn(follow_health(reporter, backend.leader()));
        let applied = relayed(backend.applied());
        let backend = Arc::new(AtHome::new(backend, home));
        let mut all = RoutesBuilder::from(routes(backend, applied));
        all.add_service(health)
            .add_service(described().build_v1()?)
            .add_service(described().build_v1alpha()?);
        let door = Door::new(listener, "the client port", limits.connections);
        let rules = Rules { places: Some(Places::of_clients(limits.streams)), guests: Some(door.guests()) };
        let served =
            server.add_routes(limited(all.routes(), rules)).serve_with_incoming_shutdown(door, async move {
                let _sender_gone = stop.wait_for(|stop| *stop).await;
            });
        served.await.map_err(fail)
    }
}

/// The same for many: they are woken from here, not from where it changes.
fn relayed(mut from: watch::Receiver<u64>) -> watch::Receiver<u64> {
    let (to, relayed) = watch::channel(*from.borrow_and_update());
    tokio::spawn(async move {
        while from.changed().await.is_ok() {
            to.send_replace(*from.borrow_and_update());
        }
    });
    relayed
}

fn tls_config(tls: &ClientTls) -> Result<ServerTlsConfig, ListenError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|source| ListenError::Pem { path: path.clone(), source });
    let mut config = ServerTlsConfig::new().identity(Identity::from_pem(read(&tls.cert)?, read(&tls.key)?));
    if let Some(ca) = &tls.ca {
        config = config.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(config)
}

/// Keeps health true: what needs a leader does not serve without one.
async fn follow_health(reporter: HealthReporter, mut leader: watch::Receiver<Option<u64>>) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    for service in ALONE {
        reporter.set_service_status(service, Serving).await;
    }
    loop {
        let led = leader.borrow_and_update().is_some();
        for service in NEEDS_LEADER {
            reporter.set_service_status(service, if led { Serving } else { NotServing }).await;
        }
        if leader.changed().await.is_err() {
            return;
        }
    }
}

/// What clients are told by reflection: the public package, not what nodes say to each other.
fn described() -> tonic_reflection::server::Builder<'static> {
    let public = NEEDS_LEADER.into_iter().chain(ALONE).filter(|name| !name.is_empty());
    public.chain(["grpc.health.v1.Health"]).fold(
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET),
        |builder, name| builder.with_service_name(name),
    )
}
