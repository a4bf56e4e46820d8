//! The listening end of the node port: calls from peers, checked by the gate, handed to openraft.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use super::believe;
use super::gate::{Call, Gate, Peer};
use super::machine::{Image, Machine};
use super::network::MESSAGE_BYTES_MAX;
use super::options::Options;
use super::runtime;
use super::store::Store;
use super::store::sync::DurableSync;
use super::types::{Entry, LogId, Snapshot, SnapshotMeta, Types, Vote};
use crate::proto::raft::v1::raft_server::{self, RaftServer};
use crate::proto::raft::v1::{
    Frame, IdentifyRequest, IdentifyResponse, ReadIndexRequest, ReadIndexResponse, SnapshotPart,
    snapshot_part,
};

/// Largest snapshot that is accepted, in bytes.
const SNAPSHOT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long the next part of a snapshot is waited for.
const PART_WITHIN: Duration = Duration::from_secs(10);

/// What answers peers' calls. Add it to the node port's router.
pub type GrpcService = RaftServer<Service>;

/// The service behind [`GrpcService`].
pub struct Service {
    shared: Arc<Shared>,
}

/// Parts of a node that peers' calls need.
pub struct Shared {
    /// Who is this and who may call.
    pub gate: Gate,
    /// Identity on the wire.
    pub me: Arc<super::gate::Me>,
    /// openraft.
    pub raft: openraft::Raft<Types, Machine>,
    /// For the generation; gone after shutdown.
    pub store: Mutex<Option<Arc<Store>>>,
    /// What Identify says.
    pub options: Options,
    /// The last refusal, so that each is logged once.
    pub refusing: Mutex<Option<String>>,
    /// Held while a snapshot is received: one at a time lies in memory.
    pub receiving: tokio::sync::Mutex<()>,
}

impl Service {
    /// For an open node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Service { shared }
    }
}

/// Wraps it for a router.
pub fn grpc(shared: Arc<Shared>) -> GrpcService {
    RaftServer::new(Service::new(shared))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

impl Shared {
    /// Lets a peer's call through, or says why not. A node of no group yet joins the caller's generation.
    async fn admit<T>(&self, call: Call, request: &Request<T>) -> Result<Peer, Status> {
        let (peer, generation) = self.gate.admit(call, request).map_err(|status| self.refused(status))?;
        if generation != 0 && self.me.generation.load(Ordering::Relaxed) == 0 {
            self.join(generation).await?;
        }
        Ok(peer)
    }

    /// Tells the log of a refusal, unless it was told the same just before.
    fn refused(&self, status: Status) -> Status {
        let mut last = self.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(status.message()) {
            tracing::warn!("refused a peer's call: {}", status.message());
            *last = Some(status.message().to_owned());
        }
        status
    }

    fn believed(&self, peer: &Peer, judged: Result<(), String>) -> Result<(), Status> {
        judged.map_err(|what| {
            self.refused(Status::invalid_argument(format!("node {} is not believed: {what}", peer.node_id)))
        })
    }

    /// What is committed here is committed: a leader that sends something else in its place makes no sense.
    fn agrees(&self, rpc: &AppendEntriesRequest<Types>) -> Result<(), String> {
        let Some(committed) = self.raft.metrics().borrow_watched().local_committed else { return Ok(()) };
        let sent = rpc.prev_log_id.into_iter().chain(rpc.entries.iter().map(RaftEntry::log_id));
        for id in sent.filter(|id| id.index() <= committed.index()) {
            let here = match id.index() == committed.index() {
                true => Some(committed),
                false => self.log_id(id.index()),
            };
            if here.is_some_and(|here| here != id) {
                return Err(format!("another log entry {} than the one that is committed here", id.index()));
            }
        }
        Ok(())
    }

    /// Log id of a stored entry.
    fn log_id(&self, index: u64) -> Option<LogId> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        store.entries(index..=index, usize::MAX).ok()?.first().map(RaftEntry::log_id)
    }

    /// Newest term this node has seen.
    fn term(&self) -> u64 {
        self.raft.server_metrics().borrow_watched().vote.leader_id.term
    }

    async fn join(&self, generation: u64) -> Result<(), Status> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let store = store.ok_or_else(|| Status::unavailable("this node is shutting down"))?;
        store
            .save_generation(generation)
            .await
            .map_err(|error| Status::unavailable(format!("the generation cannot be stored: {error}")))?;
        // Whoever came first decides; the next call is then checked against it.
        let _ = self.me.generation.compare_exchange(0, generation, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    /// The gate goes by openraft's metrics, which follow its state a moment later. An append, or a snapshot, is answered
    /// when the gate judges by the membership that came with it: otherwise a wiped node's vote might be heard in between (P9).
    async fn gate_knows(&self, membership: LogId) -> Result<(), Status> {
        let mut metrics = self.raft.server_metrics();
        let limit = self.options.profile.answer_timeout();
        let seen = async {
            while *metrics.borrow_watched().membership_config.log_id() < Some(membership) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match tokio::time::timeout(limit, seen).await {
            Ok(true) => Ok(()),
            _ => Err(Status::unavailable("the membership is not in effect yet")),
        }
    }

    fn disk(&self) -> &Arc<dyn DurableSync> {
        &self.options.sync
    }
}

#[tonic::async_trait]
impl raft_server::Raft for Service {
    async fn append(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let peer = self.shared.admit(Call::Leading, &request).await?;
        let rpc: AppendEntriesRequest<Types> = decode(&request.into_inner().body)?;
        self.shared.believed(&peer, believe::append(&rpc, peer.node_id, self.shared.term()))?;
        self.shared.believed(&peer, self.shared.agrees(&rpc))?;
        let carries = !rpc.entries.is_empty();
        let is_membership = |entry: &&Entry| matches!(entry.payload, openraft::EntryPayload::Membership(_));
        let membership = rpc.entries.iter().filter(is_membership).map(|entry| entry.log_id).next_back();
        let answer = self.shared.raft.append_entries(rpc).await.map_err(stopped)?;
        if let (Some(membership), AppendEntriesResponse::Success) = (membership, &answer) {
            self.shared.gate_knows(membership).await?;
        }
        if carries {
            self.shared.disk().promised("append reply");
        }
        encode(&answer)
    }

    async fn vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let peer = self.shared.admit(Call::Voting, &request).await?;
        let rpc: VoteRequest<Types> = decode(&request.into_inner().body)?;
        self.shared.believed(&peer, believe::candidate(&rpc, peer.node_id, self.shared.term()))?;
        let answer = self.shared.raft.vote(rpc).await.map_err(stopped)?;
        self.shared.disk().promised("vote reply");
        encode(&answer)
    }

    async fn pre_vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let peer = self.shared.admit(Call::Voting, &request).await?;
        let rpc: VoteRequest<Types> = decode(&request.into_inner().body)?;
        self.shared.believed(&peer, believe::candidate(&rpc, peer.node_id, self.shared.term()))?;
        encode(&self.shared.raft.pre_vote(rpc).await.map_err(stopped)?)
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<Frame>, Status> {
        let peer = self.shared.admit(Call::Leading, &request).await?;
        let _one_at_a_time =
            self.shared.receiving.try_lock().map_err(|_| busy("another snapshot is being received"))?;
        let (vote, snapshot) = self.shared.receive(&peer, request.into_inner()).await?;
        let membership = *snapshot.meta.last_membership.log_id();
        let answer = self.shared.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        // As with an append: it is installed where the answer bears the sender's vote.
        if let (Some(membership), true) = (membership, answer.vote == vote) {
            self.shared.gate_knows(membership).await?;
        }
        encode(&answer)
    }

    async fn transfer_leader(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let peer = self.shared.admit(Call::Leading, &request).await?;
        let rpc: TransferLeaderRequest<Types> = decode(&request.into_inner().body)?;
        self.shared.believed(&peer, believe::transfer(&rpc, peer.node_id, self.shared.term()))?;
        encode(&self.shared.raft.handle_transfer_leader(rpc).await.map_err(stopped)?)
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        self.shared.admit(Call::Member, &request).await?;
        let limit = self.shared.options.profile.answer_timeout();
        let asked =
            tokio::time::timeout(limit, self.shared.raft.get_read_log_id(ReadPolicy::ReadIndex)).await;
        let (read, _) = asked
            .map_err(|_| Status::unavailable("no majority of the nodes answers"))?
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ReadIndexResponse { index: read.index() }))
    }

    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        let me = &self.shared.me;
        let asked = request.into_inner().group;
        if asked != me.group {
            let what = format!("this is node {} of group {}, the call is for {asked}", me.node_id, me.group);
            return Err(Status::failed_precondition(what));
        }
        let initialised = self.shared.raft.is_initialized().await.map_err(stopped)?;
        Ok(Response::new(IdentifyResponse {
            node_id: me.node_id,
            group: me.group.clone(),
            incarnation: me.incarnation.clone(),
            node_address: self.shared.options.node_addr.clone(),
            client_address: self.shared.options.client_addr.clone(),
            datacenter: self.shared.options.datacenter.clone().unwrap_or_default(),
            initialised,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

impl Shared {
    /// A whole snapshot. One that makes no sense must not reach the library, which stops the node over it; one of a newer
    /// version may, which names that version.
    async fn receive(
        &self,
        peer: &Peer,
        mut parts: Streaming<SnapshotPart>,
    ) -> Result<(Vote, Snapshot), Status> {
        let head = match next(&mut parts).await? {
            Some(snapshot_part::Part::Head(head)) => head,
            _ => return Err(Status::invalid_argument("a snapshot begins with its head")),
        };
        let (vote, meta): (Vote, SnapshotMeta) = decode(&head)?;
        let committed = self.raft.metrics().borrow_watched().local_committed;
        let head = believe::snapshot(&vote, &meta, peer.node_id, self.term(), committed);
        self.believed(peer, head)?;
        let mut data = BytesMut::new();
        while let Some(part) = next(&mut parts).await? {
            match part {
                snapshot_part::Part::Data(part) if data.len() + part.len() <= SNAPSHOT_BYTES_MAX => {
                    data.extend_from_slice(&part);
                }
                snapshot_part::Part::Data(_) => {
                    return Err(busy(&format!("a snapshot over {SNAPSHOT_BYTES_MAX} bytes")));
                }
                snapshot_part::Part::Head(_) => {
                    return Err(Status::invalid_argument("a snapshot has one head, then data"));
                }
            }
        }
        let data = data.freeze();
        let bytes = data.clone();
        let judged = runtime::long(move || Image::decode(&bytes).map(drop)).await.map_err(stopped)?;
        let nonsense = judged.err().filter(|error| error.kind() == std::io::ErrorKind::InvalidData);
        self.believed(
            peer,
            nonsense.map_or(Ok(()), |error| Err(format!("its snapshot is damaged: {error}"))),
        )?;
        Ok((vote, Snapshot { meta, snapshot: data }))
    }
}

async fn next(parts: &mut Streaming<SnapshotPart>) -> Result<Option<snapshot_part::Part>, Status> {
    let part = tokio::time::timeout(PART_WITHIN, parts.message()).await;
    match part.map_err(|_| Status::deadline_exceeded("the snapshot does not go on"))?? {
        Some(SnapshotPart { part: Some(part) }) => Ok(Some(part)),
        Some(SnapshotPart { part: None }) => Err(Status::invalid_argument("an empty part of a snapshot")),
        None => Ok(None),
    }
}

fn busy(what: &str) -> Status {
    Status::resource_exhausted(what)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    rmp_serde::from_slice(body).map_err(|error| Status::invalid_argument(format!("not understood: {error}")))
}

fn encode<T: Serialize>(answer: &T) -> Result<Response<Frame>, Status> {
    let body = rmp_serde::to_vec_named(answer).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Frame { body }))
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped: {error}"))
}
