//! The peer service of the node port: reads what another node asks, and writes what `Answers` says. The gate has let
//! members in only.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::Answers;
use crate::{
    core::analysis::Verdict,
    model::server::ClusterId,
    proto::node::v1::{
        ConfirmRequest, ConfirmResponse, DelegateRequest, DelegateResponse, HelloRequest, HelloResponse,
        MarksRequest, MarksResponse, ReportRequest, ReportResponse, SubmitRequest, SubmitResponse,
        UrgentRequest, UrgentResponse, peer_server::Peer as PeerService,
    },
    raft::{Peer, Raft},
    server::{
        group::SubmitError,
        ports::{
            Delegation, Judged,
            peers::{decode, encode},
        },
    },
};

/// Largest verdict: it goes into the log, with what a thousand replicas say.
const VERDICT_BYTES_MAX: usize = 256 * 1024;
/// Longest `by` and `request_id`, as the API lets them in.
const BY_MAX: usize = 160;
const REQUEST_ID_MAX: usize = 64;

/// The service.
pub struct PeerApi {
    /// Who this node is.
    pub raft: Raft,
    /// What it says.
    pub answers: Answers,
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let state = match request.into_inner().with_state {
            true => self.raft.state_hash().await,
            false => None,
        };
        let (state_index, state_hash) = state.unwrap_or_default();
        Ok(Response::new(HelloResponse {
            node_id: self.raft.node_id(),
            group: self.raft.group().to_owned(),
            incarnation: self.raft.incarnation().to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            feature_level: self.answers.level(),
            state_hash,
            state_index,
        }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let mut stamp = None;
        for report in request.into_inner().reports {
            let bytes = report.verdict_bytes.len();
            if bytes > VERDICT_BYTES_MAX {
                return Err(Status::invalid_argument(format!(
                    "a verdict of {bytes} bytes, {VERDICT_BYTES_MAX} are allowed"
                )));
            }
            let verdict: Verdict = decode(&report.verdict_bytes).map_err(Status::invalid_argument)?;
            // A node speaks for itself only.
            let own = peer
                .as_ref()
                .is_some_and(|p| p.node_id == verdict.node && p.incarnation == verdict.incarnation);
            if !own {
                return Err(Status::permission_denied("a node reports its own verdicts only"));
            }
            if !self.raft.read(|state| state.clusters.contains_key(&verdict.cluster)) {
                return Err(Status::not_found("this node knows no cluster of that id"));
            }
            let since_ms = report.since_ms;
            let judged = report.stamp.map(|stamp| Judged { stamp: stamp.into(), since_ms });
            stamp = self.answers.report(verdict, judged).await;
        }
        Ok(Response::new(ReportResponse { stamp: stamp.map(Into::into) }))
    }

    async fn urgent(&self, request: Request<UrgentRequest>) -> Result<Response<UrgentResponse>, Status> {
        let UrgentRequest { cluster, bound_ms, .. } = request.into_inner();
        let verdict = self.answers.urgent(ClusterId(cluster), bound_ms).await.ok_or_else(not_watched)?;
        Ok(Response::new(UrgentResponse { verdict_bytes: encode(&verdict) }))
    }

    async fn delegate(
        &self,
        request: Request<DelegateRequest>,
    ) -> Result<Response<DelegateResponse>, Status> {
        let request = request.into_inner();
        let step = decode(&request.step_bytes).map_err(Status::invalid_argument)?;
        let within = Duration::from_millis(request.expires_in_ms.min(request.deadline_ms));
        let delegation = Delegation { recovery: request.recovery, term: request.term, step, within };
        let end = self.answers.delegate(delegation).await;
        Ok(Response::new(DelegateResponse { end_bytes: encode(&end) }))
    }

    async fn marks(&self, request: Request<MarksRequest>) -> Result<Response<MarksResponse>, Status> {
        let cluster = ClusterId(request.into_inner().cluster);
        let marks = self.answers.marks(cluster).await.ok_or_else(not_watched)?;
        Ok(Response::new(MarksResponse { marks_bytes: encode(&marks) }))
    }

    async fn confirm(&self, _request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let read = self.raft.read_barrier().await;
        let read_index = read.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ConfirmResponse { read_index }))
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        for (name, text, most) in
            [("by", &request.by, BY_MAX), ("request_id", &request.request_id, REQUEST_ID_MAX)]
        {
            if text.len() > most {
                return Err(Status::invalid_argument(format!("`{name}` may have {most} characters")));
            }
        }
        let change = decode(&request.change_bytes).map_err(Status::invalid_argument)?;
        let request_id = Some(request.request_id).filter(|id| !id.is_empty());
        let submitted = self.answers.submit(change, &request.by, request_id).await;
        let (index, outcome) = submitted.map_err(|error| match error {
            SubmitError::Unknown(what) => Status::unknown(what),
            other => Status::unavailable(other.to_string()),
        })?;
        Ok(Response::new(SubmitResponse { index, outcome_bytes: encode(&outcome) }))
    }
}

fn not_watched() -> Status {
    Status::not_found("this node does not watch that cluster")
}
