//! The daemon: joins the parts and decides nothing.
//!
//! `observer` sees, `reporter` carries verdicts to the leader, `leader` proposes and keeps the record, `driver` carries
//! a recovery out, `fencer` fences returned primaries, `peer` answers other nodes: these are the `actors` of a node, and
//! know the world by its `ports` only. `backend` answers the API.

pub mod actors;
pub mod backend;
pub mod discovery;
pub mod driver;
mod expiry;
pub mod fencer;
mod files;
pub mod group;
pub mod leader;
mod marks;
pub mod observer;
pub mod pause;
pub mod peer;
pub mod ports;
pub mod reporter;
pub mod rescue;
pub mod tools;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::watch};
use tonic::{service::RoutesBuilder, transport::Server};

use self::{
    backend::NodeBackend,
    peer::{Answers, service::PeerApi},
    ports::{Ports, host::Machine, peers::GrpcPeers, servers::SqlServers},
};
use crate::{
    api,
    config::{self, Config},
    executor::{Executor, ExecutorOptions},
    proto::node::v1::peer_server::PeerServer,
    raft::{NodeTls, Options, Profile, Raft},
    session::{Account, Secret, Tls},
};

/// Connections to the node port: three from each other node, and some for those that come and go.
const NODE_CONNECTIONS: usize = 512;
/// What another node may send ahead in one stream, and in all of a connection's together: snapshots are pipelined.
const NODE_STREAM_WINDOW: u32 = 1 << 20;
const NODE_CONNECTION_WINDOW: u32 = 2 << 20;
/// Streams of one connection to the node port.
const NODE_STREAMS: u32 = 512;

/// Runs a node until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let options = raft_options(&config);
    let limits = limits(&config);
    // The ports first: a taken port is said before the data directory is touched.
    let node_port = bind_node(&config).await?;
    let client_tls = client_tls(&config);
    let client_port = api::bind(&config.listen.client.to_string(), client_tls.is_some()).await?;
    let raft = Raft::open(options).await?;
    let actors = actors::start(ports(&config, &raft));
    let backend = Arc::new(NodeBackend {
        raft: raft.clone(),
        tools: actors.tools.clone(),
        views: actors.observer.views(),
        observer: actors.observer.clone(),
        leader: actors.leader.clone(),
        discovery: actors.discovery.clone(),
        leads: follow_leader(&raft),
    });
    expiry::watch(&raft, client_tls.as_ref().map(|tls| tls.cert.clone()));
    let (stop, stopping) = watch::channel(false);
    let peers =
        tokio::spawn(serve_peers(raft.clone(), actors.answers, backend.clone(), node_port, stopping.clone()));
    let clients =
        tokio::spawn(
            async move { api::serve(backend, client_port, client_tls.as_ref(), limits, stopping).await },
        );
    tracing::info!(node = config.node_id, group = config.group, client = %config.listen.client, "serving");
    let why = tokio::select! {
        why = stop_signal() => why,
        why = raft.stopped() => format!("raft stopped: {why}"),
    };
    tracing::info!(why, "stopping");
    hand_over(&raft).await;
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(3), async { (peers.await, clients.await) }).await;
    raft.shutdown().await;
    match why.starts_with("raft stopped") {
        true => anyhow::bail!(why),
        false => Ok(()),
    }
}

/// The world as the daemon knows it: Raft, the node port, MySQL's protocol, this machine.
fn ports(config: &Config, raft: &Raft) -> Ports {
    let account = server_account(config);
    let executor = Executor::new(ExecutorOptions {
        group: config.group.clone(),
        node: config.node_id,
        account: account.clone(),
        replication: replication_account(config),
        nodes: raft.membership().nodes.keys().copied().collect(),
    });
    let host = Arc::new(Machine::new(executor.pulse()));
    Ports {
        log: Arc::new(raft.clone()),
        peers: Arc::new(GrpcPeers::new(raft.clone())),
        servers: Arc::new(SqlServers::new(executor, account, config.node_id)),
        host,
    }
}

fn raft_options(config: &Config) -> Options {
    let mut options = Options::new(config.node_id, config.group.clone(), config.data_dir.clone());
    options.profile = match config.profile {
        config::Profile::Lan => Profile::Lan,
        config::Profile::Wan => Profile::Wan,
    };
    options.tls = config.tls.node().map(|pem| NodeTls { ca: pem.ca, cert: pem.cert, key: pem.key });
    options.node_addr = config.listen.node_advertised().to_string();
    options.client_addr = config.listen.client_advertised().to_string();
    options.datacenter = config.datacenter.clone();
    options
}

/// Clients get at most half of the files that this process may have open: the servers, the other nodes and the log need
/// theirs.
fn limits(config: &Config) -> api::Limits {
    let asked = config.limits.client_connections;
    let connections = asked.min(files::most() / 2);
    if connections < asked {
        tracing::warn!(
            connections,
            "`limits.client_connections` is {asked}, but the system lets this process open too few files"
        );
    }
    api::Limits { connections, streams: config.limits.client_streams }
}

fn client_tls(config: &Config) -> Option<api::ClientTls> {
    config.tls.client().map(|pem| api::ClientTls { ca: Some(pem.ca), cert: pem.cert, key: pem.key })
}

fn server_account(config: &Config) -> Account {
    let servers = &config.servers;
    let tls = match servers.tls {
        config::ServerTls::Off => Tls::Off,
        config::ServerTls::Required => Tls::Required {
            ca: servers.tls_ca.clone(),
            identity: servers.tls_cert.clone().zip(servers.tls_key.clone()),
            host_name: None,
            check_name: false,
        },
    };
    Account { user: servers.user.clone(), password: Secret::new(servers.password.reveal()), tls }
}

fn replication_account(config: &Config) -> Account {
    Account::plain(config.replication.user.clone(), config.replication.password.reveal())
}

async fn bind_node(config: &Config) -> anyhow::Result<TcpListener> {
    let address = &config.listen.node;
    let listener = TcpListener::bind(address.to_string())
        .await
        .with_context(|| format!("the node port cannot be opened at {address} (key `listen.node`)"))?;
    if config.tls.node().is_none() && listener.local_addr().is_ok_and(|bound| !bound.ip().is_loopback()) {
        tracing::warn!(
            "THE NODE PORT {address} IS OPEN TO THE NETWORK WITHOUT TLS: whoever reaches it can act as a node. \
             Set `tls.node_ca`, `tls.node_cert` and `tls.node_key`"
        );
    }
    Ok(listener)
}

async fn serve_peers(
    raft: Raft,
    answers: Answers,
    backend: Arc<NodeBackend>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let peer = PeerServer::with_interceptor(PeerApi { raft: raft.clone(), answers }, raft.gate());
    let mut server = Server::builder()
        .max_concurrent_streams(NODE_STREAMS)
        .initial_stream_window_size(NODE_STREAM_WINDOW)
        .initial_connection_window_size(NODE_CONNECTION_WINDOW);
    if let Some(tls) = raft.server_tls() {
        server = server.tls_config(tls)?;
    }
    let door = api::Door::new(listener, "the node port", NODE_CONNECTIONS);
    let mut all = RoutesBuilder::from(api::peer_routes(backend, raft.gate()));
    all.add_service(raft.grpc_service()).add_service(peer);
    server
        .add_routes(door.noting(all.routes()))
        .serve_with_incoming_shutdown(door, async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await?;
    Ok(())
}

/// Mirrors who leads for the API.
fn follow_leader(raft: &Raft) -> watch::Receiver<Option<u64>> {
    let mut leadership = raft.leadership();
    let (tx, rx) = watch::channel(leadership.borrow().leader);
    tokio::spawn(async move {
        while leadership.changed().await.is_ok() {
            let leader = leadership.borrow_and_update().leader;
            tx.send_if_modified(|now| std::mem::replace(now, leader) != leader);
        }
    });
    rx
}

/// A leader that stops on purpose hands over, so that nobody waits for an election.
async fn hand_over(raft: &Raft) {
    if !raft.leadership().borrow().is_leader {
        return;
    }
    let status = raft.status();
    let best =
        status.peers.iter().filter(|(id, p)| p.trouble.is_none() && status.membership.voters.contains(id));
    let Some((to, _)) = best.max_by_key(|(_, p)| p.matched) else { return };
    let transfer = tokio::time::timeout(Duration::from_secs(1), raft.transfer_leader(*to));
    if !matches!(transfer.await, Ok(Ok(()))) {
        tracing::info!(to, "leadership was not handed over");
    }
}

async fn stop_signal() -> String {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM".into(),
        _ = interrupt.recv() => "SIGINT".into(),
    }
}

#[cfg(test)]
mod tests;
