//! openraft's calls to other nodes, over gRPC.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Request, Status};

use super::believe;
use super::gate;
use super::peers::{Lane, PeerChannel, Peers};
use super::types::{NodeInfo, Snapshot, Types, Vote};
use crate::proto::raft::v1::raft_client::RaftClient;
use crate::proto::raft::v1::{Frame, SnapshotPart, snapshot_part};

/// Largest message that a node accepts: replication stays near 1 MiB, one entry below 64 KiB.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One part of a snapshot on the wire.
const PART_BYTES: usize = 256 * 1024;

/// Makes the clients that openraft asks for.
pub struct Factory {
    peers: Arc<Peers>,
    /// Deadline of a call that carries entries: the follower syncs its disk before it answers.
    append_timeout: Duration,
}

/// openraft's client for one peer and purpose.
pub struct Client {
    target: u64,
    node: NodeInfo,
    lane: Lane,
    peers: Arc<Peers>,
    append_timeout: Duration,
}

impl Factory {
    /// Over these connections.
    pub fn new(peers: Arc<Peers>, append_timeout: Duration) -> Self {
        Factory { peers, append_timeout }
    }

    fn client(&self, target: u64, node: &NodeInfo, lane: Lane) -> Client {
        let (peers, append_timeout) = (self.peers.clone(), self.append_timeout);
        Client { target, node: node.clone(), lane, peers, append_timeout }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &NodeInfo) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &NodeInfo) -> Client {
        self.client(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &NodeInfo) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

impl Client {
    fn connect(&self) -> Result<RaftClient<PeerChannel>, RPCError<Types>> {
        let channel = self
            .peers
            .channel(self.target, &self.peers.current(self.target, &self.node), self.lane)
            .map_err(|error| {
                self.peers.failed(self.target, error.to_string());
                RPCError::Unreachable(Unreachable::new(&error))
            })?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// One call: encoded, bounded in time here and at the other end, and its end remembered.
    async fn call<Q, A, F>(
        &self,
        action: RPCTypes,
        message: &Q,
        limit: Duration,
        send: impl FnOnce(RaftClient<PeerChannel>, Request<Frame>) -> F,
    ) -> Result<A, RPCError<Types>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<tonic::Response<Frame>, Status>>,
    {
        let body = rmp_serde::to_vec_named(message).map_err(|error| NetworkError::new(&error))?;
        let mut request = Request::new(Frame { body });
        request.set_timeout(limit);
        let answer = match tokio::time::timeout(limit, send(self.connect()?, request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(self.trouble(action, limit, &status)),
            Err(_) => {
                return Err(self.trouble(action, limit, &Status::deadline_exceeded("no answer in time")));
            }
        };
        self.read(&answer)
    }

    /// Asks for a vote, or whether there would be one.
    async fn ask_vote<F>(
        &self,
        rpc: &VoteRequest<Types>,
        limit: Duration,
        send: impl FnOnce(RaftClient<PeerChannel>, Request<Frame>) -> F,
    ) -> Result<VoteResponse<Types>, RPCError<Types>>
    where
        F: Future<Output = Result<tonic::Response<Frame>, Status>>,
    {
        let answer = self.call(RPCTypes::Vote, rpc, limit, send).await?;
        self.believed(believe::vote_answer(rpc, &answer))?;
        Ok(answer)
    }

    /// A peer's answer, if it makes sense.
    fn read<A: DeserializeOwned>(&self, answer: &Frame) -> Result<A, RPCError<Types>> {
        self.peers.answered(self.target);
        rmp_serde::from_slice(&answer.body).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// Refuses an answer that the library must not see.
    fn believed(&self, judged: Result<(), String>) -> Result<(), RPCError<Types>> {
        judged.map_err(|what| self.nonsense(&what))
    }

    /// Asking again at once would not help.
    fn nonsense(&self, what: &str) -> RPCError<Types> {
        let what = format!("its answer is not believed: {what}");
        self.peers.failed(self.target, what.clone());
        RPCError::Unreachable(Unreachable::from_string(what))
    }

    fn trouble(&self, action: RPCTypes, timeout: Duration, status: &Status) -> RPCError<Types> {
        self.peers.failed(self.target, say(status));
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => RPCError::Timeout(Timeout {
                action,
                id: self.peers.me().node_id,
                target: self.target,
                timeout,
            }),
            Code::Unavailable => RPCError::Unreachable(Unreachable::from_string(say(status))),
            // A refusal stays one until somebody acts: asking again at once would not help.
            _ if gate::is_refusal(status) => RPCError::Unreachable(Unreachable::from_string(say(status))),
            _ => RPCError::Network(NetworkError::from_string(say(status))),
        }
    }
}

impl Client {
    /// Refuses the answer of a follower that no longer has what it acknowledged in this term: its directory was put
    /// back from an older copy. The library would go on counting it as having those entries (and panics where its
    /// debug assertions are on).
    fn remembers(
        &self,
        rpc: &AppendEntriesRequest<Types>,
        answer: &AppendEntriesResponse<Types>,
    ) -> Result<(), RPCError<Types>> {
        let term = rpc.vote.leader_id.term;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        let upto = match answer {
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(upto) => *upto,
            AppendEntriesResponse::HigherVote(_) => None,
            AppendEntriesResponse::Conflict => {
                let lost = rpc.prev_log_id.filter(|at| self.peers.has_acknowledged(self.target, term, at));
                let Some(lost) = lost else { return Ok(()) };
                let what = format!(
                    "it no longer has log entry {}, which it acknowledged: its data directory was put back from an \
                     older copy; replace it under a new id (quorate nodes replace)",
                    lost.index()
                );
                self.peers.failed(self.target, what.clone());
                return Err(RPCError::Unreachable(Unreachable::from_string(what)));
            }
        };
        if let Some(upto) = upto {
            self.peers.acknowledged(self.target, term, upto);
        }
        Ok(())
    }
}

/// Code and words of a status, with the transport's cause when there is one.
pub fn say(status: &Status) -> String {
    let mut said = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let limit = if rpc.entries.is_empty() { option.soft_ttl() } else { self.append_timeout };
        let answer = self
            .call(RPCTypes::AppendEntries, &rpc, limit, |mut client, request| async move {
                client.append(request).await
            })
            .await?;
        self.believed(believe::append_answer(&rpc, &answer))?;
        self.remembers(&rpc, &answer)?;
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let limit = option.soft_ttl();
        self.ask_vote(&rpc, limit, |mut client, request| async move { client.vote(request).await }).await
    }

    // Overridden on purpose: the library's default grants, which makes pre-vote do nothing.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let limit = option.soft_ttl();
        self.ask_vote(&rpc, limit, |mut client, request| async move { client.pre_vote(request).await }).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let head =
            rmp_serde::to_vec_named(&(vote, &snapshot.meta)).map_err(|error| NetworkError::new(&error))?;
        let data = snapshot.snapshot;
        let parts = (0..data.len().div_ceil(PART_BYTES))
            .map(move |place| data.slice(place * PART_BYTES..data.len().min((place + 1) * PART_BYTES)))
            .map(|part| snapshot_part::Part::Data(part.to_vec()));
        let parts = std::iter::once(snapshot_part::Part::Head(head)).chain(parts);
        let stream = tokio_stream::iter(parts.map(|part| SnapshotPart { part: Some(part) }));

        let limit = option.soft_ttl();
        let mut client = self.connect().map_err(StreamingError::from)?;
        let sending = tokio::time::timeout(limit, client.snapshot(stream));
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sending => answer,
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(self.trouble(RPCTypes::InstallSnapshot, limit, &status).into()),
            Err(_) => {
                let status = Status::deadline_exceeded("the snapshot was not installed in time");
                return Err(self.trouble(RPCTypes::InstallSnapshot, limit, &status).into());
            }
        };
        let answer = self.read(&answer).map_err(StreamingError::from)?;
        self.believed(believe::snapshot_answer(&vote, &answer)).map_err(StreamingError::from)?;
        Ok(answer)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call(RPCTypes::TransferLeader, &rpc, option.soft_ttl(), |mut client, request| async move {
            client.transfer_leader(request).await
        })
        .await
    }
}
