//! The other nodes, over the peer service of the node port (`quorate.node.v1`).

use futures::future::{BoxFuture, FutureExt as _};
use tonic::{Response, Status};

use super::{Delegation, Judged, Peers, Stamp};
use crate::{
    core::{
        analysis::Verdict,
        plan::{marks::Marks, step::StepEnd},
        replicated::{Change, Outcome, state::FEATURE_LEVEL},
    },
    model::server::ClusterId,
    proto::node::v1::{
        self as v1, DelegateRequest, HelloRequest, MarksRequest, Report, ReportRequest, SubmitRequest,
        UrgentRequest, peer_client::PeerClient,
    },
    raft::{PeerChannel, Raft},
};

/// The members of this node's group.
#[derive(Clone)]
pub struct GrpcPeers {
    raft: Raft,
}

impl GrpcPeers {
    /// Those that the membership of `raft` names.
    pub fn new(raft: Raft) -> Self {
        Self { raft }
    }

    fn client(&self, node: u64) -> Result<PeerClient<PeerChannel>, String> {
        self.raft.peer_channel(node).map(PeerClient::new).map_err(|error| error.to_string())
    }
}

impl Peers for GrpcPeers {
    fn report(
        &self,
        node: u64,
        verdict: Verdict,
        judged: Option<Judged>,
    ) -> BoxFuture<'static, Result<Option<Stamp>, String>> {
        let (stamp, since_ms) = judged.map_or((None, 0), |j| (Some(j.stamp.into()), j.since_ms));
        let report = Report { verdict_bytes: encode(&verdict), stamp, since_ms };
        let request = ReportRequest { reports: vec![report], applied: *self.raft.applied().borrow() };
        let client = self.client(node);
        async move { Ok(said(client?.report(request).await)?.stamp.map(Stamp::from)) }.boxed()
    }

    fn urgent(
        &self,
        node: u64,
        cluster: ClusterId,
        bound_ms: u64,
    ) -> BoxFuture<'static, Result<Verdict, String>> {
        let request = UrgentRequest { cluster: cluster.0, bound_ms, ..UrgentRequest::default() };
        let client = self.client(node);
        async move { decode(&said(client?.urgent(request).await)?.verdict_bytes) }.boxed()
    }

    fn delegate(&self, node: u64, delegation: Delegation) -> BoxFuture<'static, Result<StepEnd, String>> {
        let within_ms = delegation.within.as_millis() as u64;
        let request = DelegateRequest {
            recovery: delegation.recovery,
            order: 0,
            log_index: delegation.recovery,
            term: delegation.term,
            epoch: 0,
            step_bytes: encode(&delegation.step),
            expires_in_ms: within_ms,
            deadline_ms: within_ms,
        };
        let client = self.client(node);
        async move { decode(&said(client?.delegate(request).await)?.end_bytes) }.boxed()
    }

    fn marks(&self, node: u64, cluster: ClusterId) -> BoxFuture<'static, Result<Marks, String>> {
        let request = MarksRequest { cluster: cluster.0 };
        let client = self.client(node);
        async move { decode(&said(client?.marks(request).await)?.marks_bytes) }.boxed()
    }

    fn level(&self, node: u64) -> BoxFuture<'static, Result<u32, String>> {
        let request = HelloRequest {
            node_id: self.raft.node_id(),
            group: self.raft.group().to_owned(),
            incarnation: self.raft.incarnation().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: FEATURE_LEVEL,
            with_state: false,
        };
        let client = self.client(node);
        async move { Ok(said(client?.hello(request).await)?.feature_level) }.boxed()
    }

    fn submit(
        &self,
        node: u64,
        change: Change,
        by: String,
        request_id: Option<String>,
    ) -> BoxFuture<'static, Result<(u64, Outcome), String>> {
        let request =
            SubmitRequest { change_bytes: encode(&change), by, request_id: request_id.unwrap_or_default() };
        let client = self.client(node);
        async move {
            let answer = said(client?.submit(request).await)?;
            Ok((answer.index, decode(&answer.outcome_bytes)?))
        }
        .boxed()
    }
}

impl From<Stamp> for v1::Stamp {
    fn from(Stamp { term, at_ms }: Stamp) -> Self {
        Self { term, at_ms }
    }
}

impl From<v1::Stamp> for Stamp {
    fn from(v1::Stamp { term, at_ms }: v1::Stamp) -> Self {
        Self { term, at_ms }
    }
}

/// The answer, or the peer's words why there is none.
fn said<T>(answer: Result<Response<T>, Status>) -> Result<T, String> {
    answer.map(Response::into_inner).map_err(|status| status.message().to_owned())
}

/// MessagePack with named fields, for payloads between nodes.
pub fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain values of the core serialise")
}

/// Reads what [`encode`] wrote; the error says what does not fit. Peers' bytes are never asserted on.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|e| format!("a peer's message does not decode: {e}"))
}
