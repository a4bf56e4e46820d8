//! Proposing to the group: commands get their log time, wall time, proposer and term here, and nowhere else.

use std::sync::{Mutex, PoisonError};

use crate::{
    core::replicated::{Change, Command, Outcome, Refusal},
    mistake::{Mistake, planted},
    raft::{Committed, ProposeError},
    server::ports::Ports,
};

/// The name under which Quorate itself acts.
pub const SELF: &str = "quorate";

/// A leader's log time: the state's last time when the term began, plus its own CLOCK_BOOTTIME progress (P10).
#[derive(Debug, Default)]
struct LogClock {
    term: u64,
    base_ms: u64,
    began_ms: u64,
}

/// This node's voice in the group.
pub struct Group {
    ports: Ports,
    clock: Mutex<LogClock>,
}

/// Why a submission has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Nobody leads.
    #[error(
        "no leader is known: fewer than a majority of the nodes can reach each other, or an election is under way"
    )]
    NoLeader,
    /// It was not proposed.
    #[error("{0}")]
    Refused(ProposeError),
    /// Its fate is open.
    #[error("{0}")]
    Unknown(String),
}

impl From<ProposeError> for SubmitError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } => Self::NoLeader,
            ProposeError::Unknown { what } => Self::Unknown(what),
            other => Self::Refused(other),
        }
    }
}

impl Group {
    /// The voice of the node that has these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports, clock: Mutex::default() }
    }

    /// Proposes as the leader of `term`; fails when this node is not.
    pub async fn propose(
        &self,
        term: u64,
        change: Change,
        by: &str,
        request_id: Option<String>,
    ) -> Result<Committed, ProposeError> {
        if let Some(outcome) = self.above_level(&change) {
            return Ok(Committed { index: self.ports.log.applied_now(), term, outcome });
        }
        let command = self.stamp(term, change, by, request_id).await?;
        self.ports.log.propose(term, command).await
    }

    /// The refusal of a change that not every voter may understand yet.
    fn above_level(&self, change: &Change) -> Option<Outcome> {
        let (needs, has) = (change.level(), self.ports.log.read(|state| state.feature_level));
        (needs > has).then_some(Outcome::Refused(Refusal::FeatureLevel { needs, has }))
    }

    /// Submits through whoever leads: here when this node does, else over the leader's peer service.
    pub async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<String>,
    ) -> Result<(u64, Outcome), SubmitError> {
        let leadership = self.ports.log.leads();
        if leadership.is_leader {
            let committed = self.propose(leadership.term, change, by, request_id).await?;
            return Ok((committed.index, committed.outcome));
        }
        let leader = leadership.leader.ok_or(SubmitError::NoLeader)?;
        let request_id = request_id.filter(|_| !planted(Mistake::RequestIdNotForwarded));
        let answer = self.ports.peers.submit(leader, change, by.to_owned(), request_id).await;
        answer.map_err(SubmitError::Unknown)
    }

    async fn stamp(
        &self,
        term: u64,
        change: Change,
        by: &str,
        request_id: Option<String>,
    ) -> Result<Command, ProposeError> {
        let known = self.clock.lock().unwrap_or_else(PoisonError::into_inner).term == term;
        if !known {
            // The state's last time is only known once everything before this term is applied.
            self.ports.log.read_barrier().await.map_err(|_| ProposeError::NoQuorum)?;
            let base_ms = self.ports.log.read(|state| state.log_time_ms);
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            if clock.term != term {
                *clock = LogClock { term, base_ms, began_ms: self.ports.host.boottime_ms() };
            }
        }
        let wall_ms = self.ports.host.wall_ms();
        let log_now_ms = match planted(Mistake::LogTimeFromWallClock) {
            true => Some(wall_ms),
            false => self.log_now_ms(term),
        };
        Ok(Command {
            at_ms: log_now_ms.ok_or(ProposeError::NotLeader { leader: None })?,
            wall_ms,
            node: self.ports.log.node_id(),
            term,
            by: by.to_owned(),
            request_id,
            change,
        })
    }

    /// Log time now, as the leader of `term` would stamp it; `None` before its first proposal.
    pub fn log_now_ms(&self, term: u64) -> Option<u64> {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed_ms = || self.ports.host.boottime_ms().saturating_sub(clock.began_ms);
        (clock.term == term).then(|| clock.base_ms + elapsed_ms())
    }
}
