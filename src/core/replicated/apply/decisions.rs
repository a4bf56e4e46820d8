//! What the second decision must satisfy, whoever proposes it.

use super::members::unknown;
use crate::{
    core::replicated::{cluster::MemberState, recovery::Decision, refusal::Refusal, state::State},
    model::server::{ClusterId, ServerId},
};

impl State {
    /// Everybody whom a decision names is a member, and the candidate is a usable one, other than the old primary.
    pub(super) fn check_decision(
        &self,
        cluster: &ClusterId,
        old_primary: &ServerId,
        decision: &Decision,
    ) -> Result<(), Refusal> {
        let cluster = self.clusters.get(cluster).ok_or_else(|| unknown("cluster", &cluster.0))?;
        let others = decision.ackers.iter().chain(&decision.siblings).map(|other| &other.target.server);
        let stranger = others.chain([&decision.candidate.server]).find(|s| !cluster.members.contains_key(*s));
        if let Some(stranger) = stranger {
            return Err(Refusal::Invalid(format!("{stranger} is no member of this cluster")));
        }
        if &decision.candidate.server == old_primary {
            return Err(Refusal::Invalid("the candidate is the old primary".into()));
        }
        // P11: a changed server is no candidate until a person confirms it; nor is one that was set aside.
        match cluster.members[&decision.candidate.server].state {
            MemberState::Normal => Ok(()),
            ref aside => Err(Refusal::Invalid(format!("the candidate is not in service: {aside:?}"))),
        }
    }
}
