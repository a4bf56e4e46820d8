//! Where every call arrives: answers it here, or passes it on to the leader; and the common path of mutations.
//!
//! A call is passed on once only: the receiver answers or says that it is not the leader. While there is no leader,
//! or it changes, the entry node tries again for a short while, as every request that it repeats is repeatable.

use std::{error::Error as _, future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Request, Response, Status};

use super::{
    backend::{Backend, Failure, GroupTrouble, LeaderChannel, look},
    call::{Caller, Input, Port, Route},
    status::{error_info, no_leader, refused, status},
};
use crate::{
    core::replicated::{Change, Command, Outcome, Refusal, State},
    mistake::{Mistake, planted},
    proto::v1 as pb,
};

/// How long an entry node looks for a leader before it says that there is none (a refusal takes at most 2 s, P7).
const LEADER_WAIT: Duration = Duration::from_millis(1_600);
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Bound of a call whose client named none.
const CALL_MAX: Duration = Duration::from_secs(60);

/// The backend and the rules of routing.
#[derive(Clone)]
pub struct Desk {
    /// The node.
    pub backend: Arc<dyn Backend>,
    /// What is applied, for those who wait for more.
    pub applied: watch::Receiver<u64>,
    /// The port whose calls arrive at this desk.
    pub port: Port,
}

/// A mutation as it took effect.
pub struct Effect {
    /// Log index; 0 when it was only validated.
    pub index: u64,
    /// Recoveries acknowledged.
    pub acknowledged: Vec<u64>,
    /// What the audit trail says about it.
    pub texts: Vec<String>,
}

impl Effect {
    /// As the common answer.
    pub fn changed(self) -> pb::Changed {
        pb::Changed { log_index: self.index, effects: self.texts }
    }
}

/// The fields that every mutation has.
pub struct Mutation<'a> {
    /// See `common.proto`.
    pub request_id: &'a str,
    /// See `common.proto`.
    pub validate_only: bool,
    /// See `common.proto`.
    pub by: &'a str,
}

impl Desk {
    /// Answers a unary call: `local` here, or `remote` over a channel to the leader.
    pub async fn answer<I, O, L, LF, R, RF>(
        &self,
        request: Request<I>,
        local: L,
        remote: R,
    ) -> Result<Response<O>, Status>
    where
        I: Input,
        L: Fn(Desk, I) -> LF,
        LF: Future<Output = Result<O, Status>>,
        R: Fn(LeaderChannel, Request<I>) -> RF,
        RF: Future<Output = Result<Response<O>, Status>>,
    {
        let caller = Caller::of(&request, self.port);
        let mut input = request.into_inner();
        input.complete(&caller)?;
        let bound = caller.timeout.unwrap_or(CALL_MAX).min(CALL_MAX);
        let work = self.route(&caller, input, local, remote);
        match timeout(bound, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Unknown(format!("no answer within {} ms", bound.as_millis())).into()),
        }
    }

    async fn route<I, O, L, LF, R, RF>(
        &self,
        caller: &Caller,
        input: I,
        local: L,
        remote: R,
    ) -> Result<Response<O>, Status>
    where
        I: Input,
        L: Fn(Desk, I) -> LF,
        LF: Future<Output = Result<O, Status>>,
        R: Fn(LeaderChannel, Request<I>) -> RF,
        RF: Future<Output = Result<Response<O>, Status>>,
    {
        let here = async |input| local(self.clone(), input).await.map(Response::new);
        if input.route() == Route::Here {
            return here(input).await;
        }
        let mut until = Instant::now() + LEADER_WAIT;
        loop {
            let leader = *self.backend.leader().borrow();
            let failed = match self.backend.leader_channel() {
                _ if leader == Some(self.backend.node_id()) => match self.backend.barrier().await {
                    Ok(()) => match here(input.clone()).await {
                        Err(status) if is_not_leader(&status) => status,
                        answer => return answer,
                    },
                    Err(failure) => failure.into(),
                },
                _ if caller.forwarded() => return Err(Failure::NotLeader { leader }.into()),
                None => no_leader(),
                Some(channel) => {
                    let call = remote(channel, forwarded(input.clone(), caller));
                    match self.while_leading(leader, call).await {
                        // A leader that fell silent is not waited for once there is another.
                        None if input.repeatable() => {
                            until = until.max(Instant::now() + LEADER_WAIT / 2);
                            no_leader()
                        }
                        None => return Err(lost_answer()),
                        Some(Err(status)) if is_not_leader(&status) => status,
                        Some(Err(status)) if is_transport(&status) && input.repeatable() => status,
                        Some(Err(status)) if is_transport(&status) => return Err(lost_answer()),
                        Some(Err(status)) if is_turned_away(&status) => return Err(not_a_member(&status)),
                        Some(answer) => return answer,
                    }
                }
            };
            if Instant::now() >= until {
                return match input.route() {
                    Route::Preferred => here(input).await,
                    _ => Err(self.worded(failed).await),
                };
            }
            self.pause(until).await;
        }
    }

    /// What a client is told after the last try.
    async fn worded(&self, status: Status) -> Status {
        let leaderless = is_transport(&status)
            || error_info(&status)
                .is_some_and(|info| matches!(info.reason.as_str(), "NOT_LEADER" | "NO_LEADER"));
        match leaderless {
            true if !self.backend.group().await.initialised => {
                let why =
                    "this node belongs to no group yet; `quorate nodes init ID=HOST:PORT ...` makes one"
                        .into();
                Failure::Group { trouble: GroupTrouble::NotInitialised, why }.into()
            }
            true => no_leader(),
            false => status,
        }
    }

    /// The answer of a call to `leader`, or nothing once somebody else leads.
    async fn while_leading<T>(&self, leader: Option<u64>, call: impl Future<Output = T>) -> Option<T> {
        let mut leads = self.backend.leader();
        let replaced = async {
            let gone = leads.wait_for(|now| now.is_some() && *now != leader).await.is_err();
            if gone {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            answer = call => Some(answer),
            () = replaced => None,
        }
    }

    /// Waits for another leader, or a moment.
    async fn pause(&self, until: Instant) {
        let mut leader = self.backend.leader();
        leader.mark_unchanged();
        let soon = (Instant::now() + RETRY_PAUSE).min(until);
        if timeout_at(soon, leader.changed()).await.is_ok_and(|changed| changed.is_err()) {
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads the state as applied here.
    pub fn look<T>(&self, see: impl FnOnce(&State) -> T) -> T {
        look(self.backend.as_ref(), see)
    }

    /// What a request id got before, if it was seen: a repetition gets the first answer, whatever stands now.
    pub fn replayed(&self, request_id: &str) -> Option<Outcome> {
        self.look(|state| state.requests.get(request_id).cloned())
    }

    /// Runs a mutation: `build` resolves names against the state and makes the change.
    pub async fn mutate(
        &self,
        mutation: Mutation<'_>,
        build: impl FnOnce(&State) -> Result<Change, Status>,
    ) -> Result<Effect, Status> {
        if let Some(outcome) = self.replayed(mutation.request_id) {
            return self.effect(None, outcome);
        }
        let change = self.look(build)?;
        if mutation.validate_only && !planted(Mistake::DryRunThatActs) {
            return self.validate(change, mutation.by);
        }
        let (index, outcome) = self
            .backend
            .submit(change, mutation.by, Some(mutation.request_id))
            .await
            .map_err(Status::from)?;
        self.effect(Some(index), outcome)
    }

    fn effect(&self, index: Option<u64>, outcome: Outcome) -> Result<Effect, Status> {
        match outcome {
            Outcome::Refused(refusal) => Err(refused(&refusal)),
            Outcome::None => {
                Err(Failure::Internal("the mutation was applied without an outcome".into()).into())
            }
            Outcome::Done { id, acknowledged } => {
                let index = index.unwrap_or(id);
                let texts = self.look(|state| texts_of(state, index));
                Ok(Effect { index, acknowledged, texts })
            }
        }
    }

    /// Applies it to a copy: the same judgement, and nothing changes.
    fn validate(&self, change: Change, by: &str) -> Result<Effect, Status> {
        self.look(|state| {
            let mut copy = state.clone();
            let index = u64::MAX;
            let command = Command {
                at_ms: copy.log_time_ms,
                wall_ms: 0,
                node: self.backend.node_id(),
                term: 0,
                by: by.to_owned(),
                request_id: None,
                change,
            };
            match copy.apply(index, &command) {
                Outcome::Refused(refusal) => Err(refused(&refusal)),
                Outcome::Done { acknowledged, .. } => {
                    Ok(Effect { index: 0, acknowledged, texts: texts_of(&copy, index) })
                }
                Outcome::None => Ok(Effect { index: 0, acknowledged: vec![], texts: vec![] }),
            }
        })
    }
}

fn texts_of(state: &State, index: u64) -> Vec<String> {
    let start = state.audit.partition_point(|entry| entry.index < index);
    state.audit.range(start..).take_while(|e| e.index == index).map(|e| e.text.clone()).collect()
}

fn forwarded<I>(input: I, caller: &Caller) -> Request<I> {
    let mut request = Request::new(input);
    request.set_timeout(caller.timeout.unwrap_or(CALL_MAX).min(CALL_MAX));
    request
}

fn is_not_leader(status: &Status) -> bool {
    error_info(status).is_some_and(|info| info.reason == "NOT_LEADER")
}

/// The connection failed, or broke before the answer: what a node says has a reason, and no local source.
fn is_transport(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Cancelled, Code::Unknown];
    error_info(status).is_none() && (codes.contains(&status.code()) || status.source().is_some())
}

/// The leader's node port let this node's call in no more: what the API itself refuses has a reason.
fn is_turned_away(status: &Status) -> bool {
    let codes = [Code::FailedPrecondition, Code::PermissionDenied];
    error_info(status).is_none() && codes.contains(&status.code())
}

/// What a client of a node that was removed, wiped or replaced is told: the leader's words, and where to ask.
fn not_a_member(status: &Status) -> Status {
    let why = format!("the group does not let this node in: {}; ask another node", status.message());
    Failure::Group { trouble: GroupTrouble::NotAMember, why }.into()
}

/// What is told of a call that may not be delivered twice, and whose answer did not come.
fn lost_answer() -> Status {
    let text = "the connection to the leader broke before its answer; it may have been done or not: look at \
                `quorate nodes status` before asking again";
    status(Code::DeadlineExceeded, "FATE_UNKNOWN", text, vec![], None)
}

/// A refusal where a name is not found.
pub fn found<T>(result: Result<T, Refusal>) -> Result<T, Status> {
    result.map_err(|refusal| refused(&refusal))
}
