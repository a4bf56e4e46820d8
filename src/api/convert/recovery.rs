//! Records of recoveries and role changes.

use super::{Addresses, alias_of, explain::witness};
use crate::{
    core::replicated::{
        Ending, Kind, Phase, Recovery, State,
        recovery::{Considered, StepRecord, Waiver},
    },
    proto::v1 as pb,
};

/// The record.
pub fn record(state: &State, recovery: &Recovery) -> pb::RecoveryRecord {
    let cluster = state.clusters.get(&recovery.cluster);
    let addresses = Addresses::of(cluster);
    let decision = recovery.decision.as_ref();
    let lost = decision.filter(|d| !d.lost.is_empty()).map(|d| d.lost.to_string());
    pb::RecoveryRecord {
        id: recovery.id,
        cluster: recovery.cluster.0.clone(),
        alias: alias_of(state, &recovery.cluster),
        kind: kind(recovery.kind).into(),
        class: recovery.class.name().to_owned(),
        code: recovery.code.map(|c| c.to_string()).unwrap_or_default(),
        state: ending(recovery.ending).into(),
        phase: phase(recovery.phase).into(),
        epoch: recovery.epoch,
        old_primary: recovery.old_primary.address.to_string(),
        new_primary: decision.map(|d| d.candidate.address.to_string()).unwrap_or_default(),
        started_unix_ms: recovery.started_wall_ms,
        ended_unix_ms: recovery.ended_wall_ms.unwrap_or_default(),
        took_ms: recovery.ended_ms.unwrap_or(state.log_time_ms).saturating_sub(recovery.started_ms),
        reason: recovery.reason.clone(),
        requested_by: recovery.requested_by.clone().unwrap_or_default(),
        waived: recovery.waived.iter().map(|w| waiver(*w).into()).collect(),
        evidence: recovery
            .evidence
            .iter()
            .map(|t| pb::Witness {
                age_ms: Some(t.age_ms),
                ..witness(&t.verdict, recovery.voters.contains(&t.verdict.node), &addresses)
            })
            .collect(),
        considered: decision.into_iter().flat_map(|d| &d.considered).map(considered).collect(),
        lost: lost.unwrap_or_default(),
        steps: recovery.steps.iter().map(step).collect(),
        left_behind: recovery
            .left_behind
            .iter()
            .map(|(server, why)| pb::LeftBehind {
                server: server.0.clone(),
                address: addresses.name(server),
                why: why.clone(),
            })
            .collect(),
        acknowledged: recovery.acknowledged.as_ref().map(|a| pb::Acknowledgement {
            by: a.by.clone(),
            comment: a.comment.clone(),
            log_ms: a.at_ms,
        }),
        owner_node: recovery.owner.0,
        semi_sync_acks: recovery.semi_sync.as_ref().map(|(acks, _)| *acks).unwrap_or_default(),
        given_up: recovery.undo.as_ref().map(|undo| undo.why.clone()).unwrap_or_default(),
        fence_unknown: recovery.fence_unknown(),
        supersedes: recovery.supersedes.unwrap_or_default(),
        unprotected: decision.and_then(|d| d.unprotected.clone()).unwrap_or_default(),
    }
}

/// Kind of a role change.
pub fn kind(kind: Kind) -> pb::Kind {
    match kind {
        Kind::Failover => pb::Kind::Failover,
        Kind::Forced => pb::Kind::Forced,
        Kind::Switchover => pb::Kind::Switchover,
    }
}

fn ending(ending: Option<Ending>) -> pb::RecoveryState {
    match ending {
        None => pb::RecoveryState::Running,
        Some(Ending::Succeeded) => pb::RecoveryState::Succeeded,
        Some(Ending::Failed) => pb::RecoveryState::Failed,
        Some(Ending::Cancelled) => pb::RecoveryState::Cancelled,
    }
}

fn phase(phase: Phase) -> pb::Phase {
    match phase {
        Phase::Started => pb::Phase::Started,
        Phase::Decided => pb::Phase::Decided,
        Phase::Intent => pb::Phase::Intent,
        Phase::Published => pb::Phase::Published,
        Phase::Ended => pb::Phase::Ended,
    }
}

fn waiver(waiver: Waiver) -> pb::Waiver {
    match waiver {
        Waiver::Block => pb::Waiver::Block,
        Waiver::Disabled => pb::Waiver::Disabled,
        Waiver::Verdict => pb::Waiver::Verdict,
        Waiver::Loss => pb::Waiver::Loss,
    }
}

/// The waiver a client named; `None` for one that has no meaning here.
pub fn waiver_from(number: i32) -> Option<Waiver> {
    match pb::Waiver::try_from(number).ok()? {
        pb::Waiver::Unspecified => None,
        pb::Waiver::Block => Some(Waiver::Block),
        pb::Waiver::Disabled => Some(Waiver::Disabled),
        pb::Waiver::Verdict => Some(Waiver::Verdict),
        pb::Waiver::Loss => Some(Waiver::Loss),
    }
}

/// A candidate with its reason.
pub fn considered(considered: &Considered) -> pb::Considered {
    pb::Considered {
        server: considered.server.0.clone(),
        address: considered.address.clone(),
        chosen: considered.chosen,
        why: considered.why.clone(),
    }
}

fn step(step: &StepRecord) -> pb::StepRecord {
    pb::StepRecord {
        step: step.step.clone(),
        server: step.server.clone(),
        node: step.node,
        outcome: step.outcome.clone(),
        at_ms: step.at_ms,
        took_ms: step.took_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            analysis::{Finding, Verdict},
            replicated::recovery::Testimony,
            samples,
        },
        model::server::Flavor,
    };
    use std::collections::BTreeMap;

    #[test]
    fn who_spoke_as_a_voter_did_so_although_he_left_since() {
        let recovery = samples::recovery(Flavor::MySql);
        let said = |node| Testimony {
            verdict: Verdict {
                node,
                incarnation: "i".into(),
                sequence: 1,
                cluster: recovery.cluster.clone(),
                epoch: 1,
                subject: recovery.old_primary.server.clone(),
                finding: Finding::Healthy,
            },
            age_ms: 20,
        };
        let evidence = vec![said(1), said(2), said(4)];
        let recovery = Recovery { voters: vec![1, 2, 3], evidence, ..recovery.clone() };
        let mut state = State::default();
        // Node 2 was removed, and the learner of then votes now.
        state.set_voters(BTreeMap::from([1, 3, 4].map(|node| (node, "i".into()))));
        let spoke: Vec<bool> = record(&state, &recovery).evidence.iter().map(|word| word.voter).collect();
        assert_eq!(spoke, [true, true, false]);
    }
}
