//! Changing who belongs to the group, and who leads it. On the leader only.
//!
//! Ids are never reused: a node that lost its directory comes back under a new one ([`Raft::replace`]). A change of
//! voters takes two entries (joint consensus); when the leader dies between them, the next one writes the second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, RaftError};

use super::{Machine, Raft, Types, handover};
use crate::raft::error::ChangeError;
use crate::raft::runtime;
use crate::raft::types::NodeInfo;

/// How long a new learner may take to receive what it lacks.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an entry of the membership may take to be committed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// A learner this many entries behind is not made a voter: the group would wait for it.
const LAG_MAX: u64 = 1000;

type Changes = ChangeMembers<u64, NodeInfo>;

impl Raft {
    /// Adds a node that only follows; returns when the entry is committed, not when the node has caught up.
    pub async fn add_learner(&self, id: u64, info: NodeInfo) -> Result<(), ChangeError> {
        self.never_used(id, &info)?;
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, info)]))).await.map(drop)
    }

    /// Gives a learner that has caught up a vote.
    pub async fn make_voter(&self, id: u64) -> Result<(), ChangeError> {
        let members = self.membership();
        if members.voters.contains(&id) {
            return Err(refused(format!("node {id} is a voter already")));
        }
        if !members.learners.contains(&id) {
            return Err(refused(format!("node {id} is not a member; add it first")));
        }
        let behind = self.behind(id)?;
        if behind.is_none_or(|behind| behind > LAG_MAX) {
            let behind =
                behind.map_or_else(|| "an unknown number of".to_owned(), |behind| behind.to_string());
            return Err(refused(format!(
                "node {id} is {behind} entries behind, {LAG_MAX} are allowed; wait for it"
            )));
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await.map(drop)
    }

    /// Takes a node out of the group, voter or learner. A leader that removes itself hands its office over first.
    pub async fn remove(&self, id: u64) -> Result<(), ChangeError> {
        let members = self.membership();
        let ids = BTreeSet::from([id]);
        if members.voters.contains(&id) {
            if members.voters.len() == 1 {
                return Err(refused(format!("node {id} is the only voter")));
            }
            self.change(ChangeMembers::RemoveVoters(ids)).await.map(drop)
        } else if members.learners.contains(&id) {
            self.change(ChangeMembers::RemoveNodes(ids)).await.map(drop)
        } else {
            Err(refused(format!("node {id} is not a member")))
        }
    }

    /// Puts node `new` in the place of `old`, which may be dead or wiped: adds it, waits until it has what it needs,
    /// then changes the voters in one step. Ends early with [`ChangeError::Unfinished`] when `new` does not catch up;
    /// it stays a learner, and calling again goes on.
    pub async fn replace(&self, old: u64, new: u64, info: NodeInfo) -> Result<(), ChangeError> {
        let members = self.membership();
        if !members.nodes.contains_key(&old) {
            return Err(refused(format!("node {old} is not a member")));
        }
        if members.voters.contains(&new) {
            return Err(refused(format!("node {new} is a voter already")));
        }
        if members.nodes.get(&new) != Some(&info) {
            self.add_learner(new, info).await?;
        }
        self.caught_up(new).await?;
        if members.voters.contains(&old) {
            let mut voters = members.voters;
            voters.remove(&old);
            voters.insert(new);
            self.change(ChangeMembers::ReplaceAllVoters(voters)).await.map(drop)
        } else {
            self.remove(old).await
        }
    }

    /// Changes where a member is dialled. Its incarnation stays: another one is another node.
    pub async fn set_addresses(&self, id: u64, info: NodeInfo) -> Result<(), ChangeError> {
        let members = self.membership();
        match members.nodes.get(&id) {
            None => Err(refused(format!("node {id} is not a member"))),
            Some(known) if known.incarnation != info.incarnation => {
                Err(refused(reused(id, &known.incarnation)))
            }
            Some(known) if *known == info => Ok(()),
            Some(_) => self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, info)]))).await.map(drop),
        }
    }

    /// Hands the leader's office to voter `to`; returns when this node knows that it leads.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError> {
        let now = *self.leadership().borrow();
        if !now.is_leader {
            return Err(ChangeError::NotLeader { leader: now.leader });
        }
        if to == self.node_id() {
            return Ok(());
        }
        if !self.membership().voters.contains(&to) {
            return Err(refused(format!("node {to} is not a voter")));
        }
        let patience = self.inner.options.profile.election_timeout_max() * 2;
        let asked = handover::hand_over(self.openraft(), to, patience).await;
        let rest = asked.map_err(|fatal| ChangeError::Unknown { what: fatal.to_string() })?;
        runtime::spawn_within(self.inner.process.clone(), rest);
        let limit = self.inner.options.profile.answer_timeout();
        let mut leadership = self.leadership();
        let gone = leadership.wait_for(|seen| seen.term > now.term && seen.leader.is_some());
        match tokio::time::timeout(limit, gone).await {
            Ok(Ok(seen)) if seen.leader == Some(to) => Ok(()),
            Ok(Ok(seen)) => Err(refused(format!("node {:?} leads now, not node {to}", seen.leader))),
            _ => Err(refused(format!("node {to} did not take over within {} ms", limit.as_millis()))),
        }
    }

    /// Log index of the entry that finished the change. Goes on when the caller does not wait for it.
    async fn change(&self, changes: Changes) -> Result<u64, ChangeError> {
        let raft = self.openraft().clone();
        let change = async move { change(&raft, changes).await };
        let changing = runtime::spawn_within(self.inner.process.clone(), change);
        match tokio::time::timeout(COMMIT_TIMEOUT, changing).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(ChangeError::Unknown { what: error.to_string() }),
            Err(_) => Err(ChangeError::Unknown {
                what: format!("not committed within {} s", COMMIT_TIMEOUT.as_secs()),
            }),
        }
    }

    fn never_used(&self, id: u64, info: &NodeInfo) -> Result<(), ChangeError> {
        if info.incarnation.is_empty() {
            return Err(refused(format!(
                "node {id}: its incarnation is not known; it must run when it is added"
            )));
        }
        let members = self.membership();
        if let Some((other, _)) = members.nodes.iter().find(|(_, node)| node.incarnation == info.incarnation)
        {
            return Err(refused(format!("this data directory is a member already, as node {other}")));
        }
        match self.inner.applied.member_ever(id) {
            Some(before) => Err(refused(reused(id, &before))),
            None if members.nodes.contains_key(&id) => Err(refused(format!("node {id} is a member already"))),
            None => Ok(()),
        }
    }

    /// How many entries a member lacks; `None` when it was not heard of yet.
    fn behind(&self, id: u64) -> Result<Option<u64>, ChangeError> {
        let metrics = self.openraft().metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else {
            return Err(ChangeError::NotLeader { leader: metrics.current_leader });
        };
        let matched = replication.get(&id).copied().flatten();
        Ok(matched.map(|matched| metrics.last_log_index.unwrap_or(0).saturating_sub(matched.index())))
    }

    async fn caught_up(&self, id: u64) -> Result<(), ChangeError> {
        let target = self.openraft().metrics().borrow_watched().last_log_index.unwrap_or(0);
        let mut metrics = self.openraft().metrics();
        let reached = async {
            loop {
                {
                    let seen = metrics.borrow_watched();
                    let Some(replication) = &seen.replication else {
                        return Err(ChangeError::NotLeader { leader: seen.current_leader });
                    };
                    if replication
                        .get(&id)
                        .copied()
                        .flatten()
                        .is_some_and(|matched| matched.index() >= target)
                    {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(ChangeError::Unknown { what: "raft has stopped".to_owned() });
                }
            }
        };
        tokio::time::timeout(CATCH_UP_TIMEOUT, reached).await.unwrap_or_else(|_| {
            let trouble =
                self.inner.peers.contact(id).trouble.unwrap_or_else(|| "it answers, slowly".to_owned());
            let what =
                format!("node {id} has not caught up within {} s ({trouble})", CATCH_UP_TIMEOUT.as_secs());
            Err(ChangeError::Unfinished { what })
        })
    }
}

/// One change of the membership, both entries of it.
pub(super) async fn change(
    raft: &openraft::Raft<Types, Machine>,
    changes: Changes,
) -> Result<u64, ChangeError> {
    match raft.change_membership(changes, false).await {
        Ok(done) => Ok(done.log_id.index()),
        Err(RaftError::Fatal(fatal)) => Err(ChangeError::Unknown { what: fatal.to_string() }),
        Err(RaftError::APIError(error)) => Err(explain(error)),
    }
}

/// The change that changes nothing but ends a half-done one.
pub(super) fn finish() -> Changes {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

fn explain(error: ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader {
            reason: ForwardReason::LeaseExpired, ..
        }) => ChangeError::NoQuorum,
        ClientWriteError::ForwardToLeader(forward) => ChangeError::NotLeader { leader: forward.leader_id },
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => ChangeError::Busy,
        ClientWriteError::ChangeMembershipError(other) => refused(other.to_string()),
        ClientWriteError::PreconditionFailed(other) => refused(other.to_string()),
        other @ ClientWriteError::LogEntryDiscarded(_) => ChangeError::Unknown { what: other.to_string() },
    }
}

fn refused(what: String) -> ChangeError {
    ChangeError::Refused { what }
}

fn reused(id: u64, before: &str) -> String {
    format!("id {id} was already used, by incarnation {before}; ids are never reused: take a new one")
}
