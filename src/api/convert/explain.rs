//! Who saw what, and whether it is agreed.

use std::collections::BTreeMap;

use super::Addresses;
use crate::{
    api::backend::UNKNOWN_AGE,
    core::{
        agreement::{self, Question, majority},
        analysis::{Finding, PrimarySign, ReplicaSign, Verdict},
        replicated::{Cluster, Refusal, State, recovery::Testimony},
    },
    proto::v1 as pb,
};

/// Why a verdict out of the log alone counts for nobody.
const AGE_AT_LEADER: &str = "only the leader knows how old it is";

/// A node's word.
pub fn witness(verdict: &Verdict, voter: bool, addresses: &Addresses) -> pb::Witness {
    let mut witness = pb::Witness {
        node: verdict.node,
        voter,
        finding: verdict.label(),
        epoch: verdict.epoch,
        class: "none".into(),
        ..Default::default()
    };
    match &verdict.finding {
        Finding::Healthy => {}
        Finding::Blind { why } => witness.text = why.clone(),
        Finding::Failure { class, evidence, .. } => {
            witness.class = class.name().to_owned();
            witness.hard = evidence.hard;
            witness.text = evidence.text.clone();
            witness.primary = match &evidence.primary {
                PrimarySign::Gone { how } => how.clone(),
                PrimarySign::Silent { for_ms } => format!("silent for {for_ms} ms"),
            };
            let signs = evidence.replicas.iter();
            witness.replicas = signs
                .map(|(server, sign)| pb::ReplicaSign {
                    server: server.0.clone(),
                    address: addresses.name(server),
                    sign: sign_name(*sign).to_owned(),
                })
                .collect();
        }
    }
    witness
}

fn sign_name(sign: ReplicaSign) -> &'static str {
    match sign {
        ReplicaSign::Connected => "connected",
        ReplicaSign::Lost => "lost",
        ReplicaSign::Stopped => "stopped",
        ReplicaSign::Unproven => "unproven",
        ReplicaSign::Unreachable => "unreachable",
    }
}

/// Every node's word and whether a majority agrees on a failure of the primary.
pub fn agreement(
    state: &State,
    cluster: &Cluster,
    testimonies: &[Testimony],
) -> (Vec<pb::Witness>, pb::Agreement) {
    let addresses = Addresses::of(Some(cluster));
    let mut witnesses: BTreeMap<u64, pb::Witness> = BTreeMap::new();
    for node in state.voters.keys() {
        let silent = pb::Witness {
            node: *node,
            voter: true,
            class: "none".into(),
            not_counted: "no verdict".into(),
            ..Default::default()
        };
        witnesses.insert(*node, silent);
    }
    for testimony in testimonies {
        let voter = state.voters.contains_key(&testimony.verdict.node);
        let word = witness(&testimony.verdict, voter, &addresses);
        let not_counted = if voter { String::new() } else { "does not vote".to_owned() };
        let age_ms = (testimony.age_ms != UNKNOWN_AGE).then_some(testimony.age_ms);
        witnesses.insert(word.node, pb::Witness { age_ms, not_counted, ..word });
    }
    let agreement = judge(state, cluster, testimonies, &mut witnesses);
    (witnesses.into_values().collect(), agreement)
}

/// Why a forced failover that waives no verdict would be refused now; `None` where a majority agrees.
pub fn no_verdict(state: &State, cluster: &Cluster, testimonies: &[Testimony]) -> Option<Refusal> {
    agreement::agree(&question(state, cluster)?, testimonies).err()
}

/// What is asked of the nodes; `None` without a primary to be judged.
fn question<'a>(state: &'a State, cluster: &'a Cluster) -> Option<Question<'a>> {
    let subject = cluster.primary.as_ref()?;
    Some(state.question(&cluster.id, cluster.epoch, subject))
}

fn judge(
    state: &State,
    cluster: &Cluster,
    testimonies: &[Testimony],
    witnesses: &mut BTreeMap<u64, pb::Witness>,
) -> pb::Agreement {
    let voters = state.voters.len() as u32;
    let need = majority(state.voters.len()) as u32;
    let none = |have, text: String| pb::Agreement { have, need, voters, text, ..Default::default() };
    let Some(question) = question(state, cluster) else {
        return none(0, "the cluster has no primary to be judged".into());
    };
    match agreement::agree(&question, testimonies) {
        Ok(agreed) => pb::Agreement {
            agreed: true,
            code: agreed.code.to_string(),
            class: agreed.class.name().to_owned(),
            hard: agreed.hard,
            have: agreed.nodes.len() as u32,
            need,
            voters,
            text: format!("{} of {voters} voters agree on {}", agreed.nodes.len(), agreed.code),
        },
        Err(refusal) => {
            let text = refusal.to_string();
            let mut have = 0;
            if let Refusal::NoMajority { have: agree, missing, .. } = refusal {
                have = agree;
                for (node, why) in missing {
                    if let Some(witness) = witnesses.get_mut(&node) {
                        let unknown = witness.not_counted.is_empty() && witness.age_ms.is_none();
                        witness.not_counted = if unknown { AGE_AT_LEADER.to_owned() } else { why };
                    }
                }
            }
            none(have, text)
        }
    }
}
