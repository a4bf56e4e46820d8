//! What a decision and a takeover must satisfy, whoever proposes them.

use super::members::unknown;
use crate::{
    core::{
        agreement::{self, Question},
        replicated::{
            cluster::MemberState,
            recovery::{Decision, Kind, Recovery, Testimony},
            refusal::Refusal,
            state::State,
        },
    },
    mistake::{Mistake, planted},
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
            _ if planted(Mistake::ChangedServerPromoted) => Ok(()),
            ref aside => Err(Refusal::Invalid(format!("the candidate is not in service: {aside:?}"))),
        }
    }

    /// Before its first side effect is recorded, a recovery goes on only with fresh verdicts of a majority; without any
    /// it may still be taken over, to be cancelled (P4).
    pub(super) fn check_takeover(&self, recovery: &Recovery, evidence: &[Testimony]) -> Result<(), Refusal> {
        if recovery.side_effects || recovery.kind != Kind::Failover || evidence.is_empty() {
            return Ok(());
        }
        let question = Question {
            newest: None,
            ..self.question(&recovery.cluster, recovery.epoch, &recovery.old_primary.server)
        };
        let agreed = agreement::agree(&question, evidence)?;
        match agreed.class == recovery.class {
            true => Ok(()),
            false => Err(Refusal::Invalid(format!("the voters agree on class {}", agreed.class))),
        }
    }
}
