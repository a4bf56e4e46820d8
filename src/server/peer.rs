//! What this node answers to other nodes of the group, besides consensus. Who may ask is `service`'s matter.

pub mod service;

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    core::{
        analysis::Verdict,
        plan::{
            marks::Marks,
            step::{Action, StepEnd},
        },
        replicated::{Change, Outcome, State, state::FEATURE_LEVEL},
    },
    executor::Permit,
    mistake::{Mistake, planted},
    model::server::ClusterId,
    server::{
        group::SubmitError,
        leader::LeaderHandle,
        observer::ObserverHandle,
        ports::{Delegation, Judged, Stamp},
        tools::Tools,
    },
};

/// Longest urgent round a leader may ask for.
const URGENT_MAX_MS: u64 = 5_000;
/// Longest bound of a delegated step.
const STEP_MAX: Duration = Duration::from_secs(30);
/// How long a delegate waits to have applied the entry that allows its step.
const APPLY_WITHIN: Duration = Duration::from_millis(500);

/// The answers of one node.
#[derive(Clone)]
pub struct Answers {
    /// Ports and group.
    pub tools: Tools,
    /// What this node sees.
    pub observer: ObserverHandle,
    /// The leader's task here.
    pub leader: LeaderHandle,
}

impl Answers {
    /// Takes a verdict in, if this node leads, and answers with a stamp for the next one.
    pub async fn report(&self, verdict: Verdict, judged: Option<Judged>) -> Option<Stamp> {
        let leadership = self.tools.leads();
        if !leadership.is_leader {
            return None;
        }
        let now = Stamp { term: leadership.term, at_ms: self.tools.boottime_ms() };
        self.leader.verdict(verdict, judged.and_then(|judged| judged.at_ms(now))).await;
        Some(now)
    }

    /// This node's part of an urgent round; `None` for a cluster that it does not watch.
    pub async fn urgent(&self, cluster: ClusterId, bound_ms: u64) -> Option<Verdict> {
        self.observer.urgent(cluster, bound_ms.min(URGENT_MAX_MS)).await
    }

    /// Does a delegated step, if it is allowed. Its time is measured from here.
    pub async fn delegate(&self, delegation: Delegation) -> StepEnd {
        let within = delegation.within.min(STEP_MAX);
        let expires = Instant::now() + within;
        let confirmed = match self.allowed(&delegation, within).await {
            Ok(confirmed) => confirmed,
            Err(why) => return StepEnd::Refused { why },
        };
        let permit = Permit {
            recovery: delegation.recovery.to_string(),
            log_index: delegation.recovery,
            term: delegation.term,
            confirmed,
            expires,
        };
        let left = expires.saturating_duration_since(Instant::now());
        self.tools.ports.servers.run(permit, delegation.step, left).await
    }

    /// P1 for a delegated step: the recovery that allows it is applied here and still runs under that term. Only then is a
    /// session opened to the server that the step names. A request may have lain in a cut connection for minutes: the read
    /// barrier, behind that session, makes what is applied here current, so that no fence begins once the recovery was given
    /// up. Returns when the barrier began.
    async fn allowed(&self, delegation: &Delegation, within: Duration) -> Result<Instant, String> {
        let log = &self.tools.ports.log;
        let (mut applied, index) = (log.applied(), delegation.recovery);
        let reached = applied.wait_for(|applied| *applied >= index);
        if self.tools.within(APPLY_WITHIN, reached).await.is_none() {
            return Err(format!("this node has not applied log index {index} yet"));
        }
        self.tools.read(|state| stands(state, delegation))?;
        self.tools.ports.servers.open(&delegation.step.target, within).await?;
        let began = Instant::now();
        match self.tools.within(APPLY_WITHIN, log.read_barrier()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("this node could not confirm its state in time".into()),
        }
        self.tools.read(|state| stands(state, delegation)).map(|()| began)
    }

    /// What this node remembers of a cluster's members (P6); `None` for a cluster that this node does not watch.
    pub async fn marks(&self, cluster: ClusterId) -> Option<Marks> {
        Some(self.observer.look(cluster).await?.sets.marks)
    }

    /// The feature level this node understands.
    pub fn level(&self) -> u32 {
        FEATURE_LEVEL
    }

    /// Proposes a change that another node's caller wants; refused unless this node leads.
    pub async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<String>,
    ) -> Result<(u64, Outcome), SubmitError> {
        match self.tools.leads().is_leader {
            true => self.tools.group.submit(change, by, request_id).await,
            false => Err(SubmitError::NoLeader),
        }
    }
}

/// Whether the state allows a delegated step, or why not.
fn stands(state: &State, delegation: &Delegation) -> Result<(), String> {
    if planted(Mistake::DelegationNotChecked) {
        return Ok(());
    }
    let Delegation { recovery: id, term, step, .. } = delegation;
    let recovery = state.recoveries.get(id).filter(|r| r.running());
    let recovery = recovery.ok_or_else(|| format!("recovery {id} does not run"))?;
    if recovery.undoing() {
        return Err(format!("recovery {id} was given up"));
    }
    if recovery.owner.1 != *term {
        return Err(format!("recovery {id} belongs to term {}", recovery.owner.1));
    }
    match step.action == Action::Fence && step.target == recovery.old_primary {
        true => Ok(()),
        false => Err("only the fence of the old primary is delegated".into()),
    }
}
