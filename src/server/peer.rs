//! What other nodes of the group may ask of this one, besides consensus. The gate has let members in only.

use std::time::Duration;

use tonic::{Request, Response, Status};

use crate::{
    core::{
        analysis::Verdict,
        plan::step::{Action, Step, StepEnd},
        replicated::state::FEATURE_LEVEL,
    },
    executor::Permit,
    model::server::ClusterId,
    proto::node::v1::{
        ConfirmRequest, ConfirmResponse, DelegateRequest, DelegateResponse, HelloRequest, HelloResponse,
        MarksRequest, MarksResponse, ReportRequest, ReportResponse, SubmitRequest, SubmitResponse,
        UrgentRequest, UrgentResponse, peer_server::Peer as PeerService,
    },
    raft::Peer,
    server::{
        driver::Tools,
        group::{SubmitError, decode, encode},
        leader::LeaderHandle,
        observer::ObserverHandle,
    },
};

/// Longest urgent round a leader may ask for.
const URGENT_MAX_MS: u64 = 5_000;
/// Longest bound of a delegated step.
const STEP_MAX_MS: u64 = 30_000;
/// How long a delegate waits to have applied the entry that allows its step.
const APPLY_WITHIN: Duration = Duration::from_millis(500);

/// The service.
pub struct PeerApi {
    /// Group and executor.
    pub tools: Tools,
    /// What this node sees.
    pub observer: ObserverHandle,
    /// The leader's task here.
    pub leader: LeaderHandle,
}

impl PeerApi {
    /// P1 for a delegated step: the recovery that allows it is applied here and still runs under that term. A request may
    /// have lain in a cut connection for minutes: the read barrier makes what is applied here current, so that no fence
    /// begins once the recovery was given up.
    async fn allowed(&self, request: &DelegateRequest, step: &Step) -> Result<(), String> {
        let raft = self.tools.group.raft();
        let mut applied = raft.applied();
        let reached = applied.wait_for(|index| *index >= request.log_index);
        if tokio::time::timeout(APPLY_WITHIN, reached).await.is_err() {
            return Err(format!("this node has not applied log index {} yet", request.log_index));
        }
        match tokio::time::timeout(APPLY_WITHIN, raft.read_barrier()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("this node could not confirm its state in time".into()),
        }
        raft.read(|state| {
            let recovery = state.recoveries.get(&request.recovery).filter(|r| r.running());
            let recovery = recovery.ok_or_else(|| format!("recovery {} does not run", request.recovery))?;
            if recovery.undoing() {
                return Err(format!("recovery {} was given up", recovery.id));
            }
            if recovery.owner.1 != request.term {
                return Err(format!("recovery {} belongs to term {}", recovery.id, recovery.owner.1));
            }
            match step.action == Action::Fence && step.target == recovery.old_primary {
                true => Ok(()),
                false => Err("only the fence of the old primary is delegated".into()),
            }
        })
    }
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn hello(&self, _request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let raft = self.tools.group.raft();
        Ok(Response::new(HelloResponse {
            node_id: raft.node_id(),
            group: raft.group().to_owned(),
            incarnation: raft.incarnation().to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            feature_level: FEATURE_LEVEL,
        }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        for report in request.into_inner().reports {
            let verdict: Verdict = decode(&report.verdict_bytes).map_err(Status::invalid_argument)?;
            // A node speaks for itself only.
            let own = peer
                .as_ref()
                .is_some_and(|p| p.node_id == verdict.node && p.incarnation == verdict.incarnation);
            if !own {
                return Err(Status::permission_denied("a node reports its own verdicts only"));
            }
            self.leader.verdict(verdict, report.age_ms).await;
        }
        let leadership = *self.tools.group.raft().leadership().borrow();
        let leader_term = if leadership.is_leader { leadership.term } else { 0 };
        Ok(Response::new(ReportResponse { leader_term }))
    }

    async fn urgent(&self, request: Request<UrgentRequest>) -> Result<Response<UrgentResponse>, Status> {
        let request = request.into_inner();
        let bound_ms = request.bound_ms.min(URGENT_MAX_MS);
        let verdict = self.observer.urgent(ClusterId(request.cluster), bound_ms).await;
        let verdict = verdict.ok_or_else(|| Status::not_found("this node does not watch that cluster"))?;
        Ok(Response::new(UrgentResponse { verdict_bytes: encode(&verdict), age_ms: 0 }))
    }

    async fn delegate(
        &self,
        request: Request<DelegateRequest>,
    ) -> Result<Response<DelegateResponse>, Status> {
        let request = request.into_inner();
        let step: Step = decode(&request.step_bytes).map_err(Status::invalid_argument)?;
        // Measured from the receipt: nothing begins after it.
        let expires =
            std::time::Instant::now() + Duration::from_millis(request.expires_in_ms.min(STEP_MAX_MS));
        let end = match self.allowed(&request, &step).await {
            Err(why) => StepEnd::Refused { why },
            Ok(()) => {
                let permit = Permit {
                    recovery: request.recovery.to_string(),
                    log_index: request.log_index,
                    term: request.term,
                    expires,
                };
                let deadline = Duration::from_millis(request.deadline_ms.min(STEP_MAX_MS));
                self.tools.executor.run(&permit, &step, deadline).await
            }
        };
        Ok(Response::new(DelegateResponse { end_bytes: encode(&end) }))
    }

    async fn marks(&self, request: Request<MarksRequest>) -> Result<Response<MarksResponse>, Status> {
        let seen = self.observer.look(ClusterId(request.into_inner().cluster)).await;
        let seen = seen.ok_or_else(|| Status::not_found("this node does not watch that cluster"))?;
        Ok(Response::new(MarksResponse { marks_bytes: encode(&seen.sets.high_water) }))
    }

    async fn confirm(&self, _request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let read = self.tools.group.raft().read_barrier().await;
        let read_index = read.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ConfirmResponse { read_index }))
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        let change = decode(&request.change_bytes).map_err(Status::invalid_argument)?;
        if !self.tools.group.raft().leadership().borrow().is_leader {
            return Err(Status::unavailable("this node is not the leader"));
        }
        let request_id = Some(request.request_id).filter(|id| !id.is_empty());
        let (index, outcome) =
            self.tools.group.submit(change, &request.by, request_id).await.map_err(|error| match error {
                SubmitError::Unknown(what) => Status::unknown(what),
                other => Status::unavailable(other.to_string()),
            })?;
        Ok(Response::new(SubmitResponse { index, outcome_bytes: encode(&outcome) }))
    }
}
