//! The handle of an open node.

mod change;
mod duty;
mod handover;
mod init;
#[cfg(test)]
mod liars;
#[cfg(test)]
mod oddities;
#[cfg(test)]
mod promises;
mod propose;
mod read;
#[cfg(test)]
mod stage;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use openraft::async_runtime::WatchReceiver;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tonic::transport::server::ServerTlsConfig;

pub use self::init::Identified;
pub use self::propose::Committed;
pub use self::status::{PeerStatus, Status};
use super::error::{OpenError, PeerError};
use super::gate::{Gate, Me};
use super::machine::{Applied, Image, Machine};
use super::network::Factory;
use super::options::{Options, raft_config};
use super::peers::{Lane, PeerChannel, Peers};
use super::ports::{Directory, Disk, Ports, Process};
use super::runtime;
use super::service::{self, GrpcService, Shared};
use super::store::Store;
use super::store::dir::{HereDisk, explain};
use super::store::log::LogStore;
use super::store::sync::SyncStats;
use super::tcp::Tcp;
use super::tls::Tls;
use super::types::{LogId, NodeInfo, StoredMembership, Types};
use crate::core::replicated::State;

/// How long a shutdown waits for the database to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// One node of a group. Clones are the same node.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    me: Arc<Me>,
    disk: Arc<dyn Disk>,
    process: Option<Arc<dyn Process>>,
    tls: Option<Tls>,
    peers: Arc<Peers>,
    applied: Arc<Applied>,
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    stopped: Arc<watch::Sender<Option<String>>>,
    duties: Mutex<Option<JoinSet<()>>>,
    closed: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

/// Who leads, as far as this node knows: for routing, and for starting and stopping what only a leader does. Never an
/// authority: a leader that was cut off still believes in itself; only a committed entry or a read barrier proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Newest term this node has seen.
    pub term: u64,
    /// Leader of that term, if known.
    pub leader: Option<u64>,
    /// Whether it is this node.
    pub is_leader: bool,
}

/// Who belongs to the group, by the newest entry about it in this node's log, committed or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Those whose votes count.
    pub voters: BTreeSet<u64>,
    /// Those who only follow.
    pub learners: BTreeSet<u64>,
    /// All of them.
    pub nodes: BTreeMap<u64, NodeInfo>,
    /// Whether a change of voters is half done; the leader finishes it.
    pub changing: bool,
}

impl Raft {
    /// Opens the data directory, which is made if it is nobody's, checks all of it, and starts. A restarted node goes
    /// on where it was; a new one waits to be made a member (by [`Raft::init`] or by the leader of a group).
    ///
    /// Peers reach it once [`Raft::grpc_service`] is served.
    pub async fn open(options: Options) -> Result<Raft, OpenError> {
        options.check()?;
        let tls = options.tls.as_ref().map(|files| Tls::read(&options, files)).transpose()?;
        let disk = Arc::new(HereDisk { folder: options.data_dir.clone() });
        let net = Tcp::ways(&options.group, options.profile, tls.clone());
        Raft::start(options, Ports { disk, net, process: None }, tls).await
    }

    /// As [`Raft::open`], over other ports than this machine's; without TLS.
    pub async fn open_over(options: Options, ports: Ports) -> Result<Raft, OpenError> {
        options.check()?;
        runtime::within(ports.process.clone(), Raft::start(options, ports, None)).await
    }

    async fn start(options: Options, ports: Ports, tls: Option<Tls>) -> Result<Raft, OpenError> {
        let config = raft_config(&options)?;
        let Ports { disk, net, process } = ports;
        let opened = {
            let (options, disk) = (options.clone(), disk.clone());
            runtime::long(move || open_store(&options, &*disk)).await
        };
        let (incarnation, store, closed) = opened.map_err(start)??;
        let folder = store.folder().to_owned();
        let damaged =
            |error: std::io::Error| OpenError::Corrupt { path: folder.clone(), what: error.to_string() };
        let me = Arc::new(Me {
            node_id: options.node_id,
            group: options.group.clone(),
            incarnation,
            generation: AtomicU64::new(store.generation().map_err(damaged)?),
            tls: tls.is_some(),
        });
        let peers = Peers::new(me.clone(), net);
        let applied = Applied::new();
        let machine = Machine::restore(store.clone(), applied.clone()).map_err(start)?;
        let log = LogStore::new(store.clone()).map_err(damaged)?;
        let factory = Factory::new(peers.clone(), options.profile.election_timeout_max());
        let raft =
            openraft::Raft::<Types, Machine>::new(options.node_id, Arc::new(config), factory, log, machine);
        let raft = raft.await.map_err(start)?;

        let stopped = Arc::new(watch::channel(None).0);
        let (leadership, duties) = duty::start(&raft, peers.clone(), &options, disk.clone(), stopped.clone());
        let shared = Arc::new(Shared {
            gate: Gate::new(me.clone(), applied.clone(), raft.clone()),
            me: me.clone(),
            raft,
            store: Mutex::new(Some(store)),
            options: options.clone(),
            refusing: Mutex::default(),
            receiving: Default::default(),
        });
        let (duties, closed) = (Mutex::new(Some(duties)), tokio::sync::Mutex::new(Some(closed)));
        let inner = Inner {
            options,
            me,
            disk,
            process,
            tls,
            peers,
            applied,
            shared,
            leadership,
            stopped,
            duties,
            closed,
        };
        Ok(Raft { inner: Arc::new(inner) })
    }

    /// What answers peers' calls: to be added to the router of the node port.
    pub fn grpc_service(&self) -> GrpcService {
        service::grpc(self.inner.shared.clone())
    }

    /// TLS of the node port; `None` when the node runs in plain text.
    pub fn server_tls(&self) -> Option<ServerTlsConfig> {
        self.inner.tls.as_ref().map(Tls::server)
    }

    /// When this node's certificate, or its issuer's, ends; `None` when the node runs in plain text.
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        self.inner.tls.as_ref().map(Tls::expires)
    }

    /// An interceptor for the caller's own services on the node port: lets members through, with a
    /// [`Peer`](super::Peer) in the request's extensions that says who called.
    pub fn gate(&self) -> Gate {
        self.inner.shared.gate.clone()
    }

    /// Looks at the state as far as it is applied here. Keep it short: `apply` waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.inner.applied.read(look)
    }

    /// Newest applied log index.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.index()
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Who belongs to the group.
    pub fn membership(&self) -> Membership {
        let metrics = self.openraft().server_metrics();
        let stored = metrics.borrow_watched().membership_config.clone();
        let membership = stored.membership();
        Membership {
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
            changing: membership.get_joint_config().len() > 1,
        }
    }

    /// A kept connection to a member and the stamp its calls need, apart; see [`Raft::peer_channel`].
    pub fn peer_parts(
        &self,
        node_id: u64,
    ) -> Result<(tonic::transport::Channel, super::gate::Stamp), PeerError> {
        let metrics = self.openraft().server_metrics();
        let stored = metrics.borrow_watched().membership_config.clone();
        let node = stored.get_node(&node_id).ok_or(PeerError::Unknown { node: node_id })?;
        self.inner.peers.parts(node_id, node, Lane::Other)
    }

    /// A kept connection to a member, opened on first use, whose calls carry who makes them; for the caller's own
    /// services. The other end checks them with [`Raft::gate`].
    pub fn peer_channel(&self, node_id: u64) -> Result<PeerChannel, PeerError> {
        let metrics = self.openraft().server_metrics();
        let stored = metrics.borrow_watched().membership_config.clone();
        let node = stored.get_node(&node_id).ok_or(PeerError::Unknown { node: node_id })?;
        self.inner.peers.channel(node_id, node, Lane::Other)
    }

    /// This node's number in the group.
    pub fn node_id(&self) -> u64 {
        self.inner.me.node_id
    }

    /// The random name of this node's data directory.
    pub fn incarnation(&self) -> &str {
        &self.inner.me.incarnation
    }

    /// Name of the group.
    pub fn group(&self) -> &str {
        &self.inner.me.group
    }

    /// How many syncs there were and how long they took; `None` after shutdown.
    pub fn sync_stats(&self) -> Option<SyncStats> {
        let store = self.inner.shared.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map(|store| store.flusher().stats())
    }

    /// Stops, and returns when the data directory is closed and unlocked. Other clones of this handle stay usable for
    /// reading what was applied.
    pub async fn shutdown(&self) {
        if let Err(error) = self.openraft().shutdown().await {
            tracing::warn!(%error, "raft did not end well");
        }
        let duties = self.inner.duties.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut duties) = duties {
            duties.shutdown().await;
        }
        self.inner
            .stopped
            .send_if_modified(|told| told.is_none() && told.replace("shut down".to_owned()).is_none());
        self.inner.shared.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closed) = self.inner.closed.lock().await.take()
            && tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err()
        {
            tracing::warn!("the data directory is still open");
        }
    }

    pub(super) fn applied_image(&self) -> (Image, Option<LogId>, StoredMembership) {
        self.inner.applied.image()
    }

    /// Which rebuild of the group this node belongs to; 0 before it belongs to any.
    pub fn generation(&self) -> u64 {
        self.inner.me.generation.load(Ordering::Relaxed)
    }

    fn openraft(&self) -> &openraft::Raft<Types, Machine> {
        &self.inner.shared.raft
    }
}

type OpenStore = (String, Arc<Store>, oneshot::Receiver<()>);

/// Takes the directory, and opens and checks its database. The first value is the incarnation.
fn open_store(options: &Options, disk: &dyn Disk) -> Result<OpenStore, OpenError> {
    let Directory { incarnation, found } = disk.open(options)?;
    let folder = found.folder.clone();
    let (store, closed) = Store::over(found).map_err(|error| explain(disk, options, &folder, error))?;
    Ok((incarnation, store, closed))
}

fn start(error: impl std::fmt::Display) -> OpenError {
    OpenError::Start { what: error.to_string() }
}
