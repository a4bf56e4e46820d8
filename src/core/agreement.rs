//! Verdicts of nodes to an agreed problem, or a typed refusal (design §4, P2). The same function judges at the leader
//! before it proposes and in `apply` on every node, so that the evidence in the log is what was checked.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    core::{
        analysis::{Class, Code, Finding, PrimarySign, Verdict},
        replicated::{recovery::Testimony, refusal::Refusal},
    },
    mistake::{Mistake, planted},
    model::server::{ClusterId, ServerId},
};

/// What verdicts are judged about.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Voters with the incarnation each is bound to.
    pub voters: &'a BTreeMap<u64, String>,
    /// Whose primary.
    pub cluster: &'a ClusterId,
    /// At which epoch.
    pub epoch: u64,
    /// The primary.
    pub subject: &'a ServerId,
    /// Oldest age that is fresh, milliseconds.
    pub fresh_for_ms: u64,
    /// Newest verdict applied from each node.
    pub newest: Option<&'a BTreeMap<u64, Verdict>>,
}

/// What a majority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Its class.
    pub class: Class,
    /// Its code: the one most of them name.
    pub code: Code,
    /// A majority of the voters hold hard evidence.
    pub hard: bool,
    /// Who agrees.
    pub nodes: BTreeSet<u64>,
}

/// Votes needed for a majority of `voters`.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Judges the testimonies. Counts voters, never reporters: a learner, a stranger, a second verdict of the same node,
/// a stale or blind one count for nobody.
pub fn agree(question: &Question<'_>, testimonies: &[Testimony]) -> Result<Agreed, Refusal> {
    let mut counted: BTreeMap<u64, (&Verdict, Class, Code, bool)> = BTreeMap::new();
    let mut missing: BTreeMap<u64, String> =
        question.voters.keys().map(|node| (*node, "no verdict".to_owned())).collect();
    let mut alive: Option<(u64, String)> = None;
    for testimony in testimonies {
        let verdict = &testimony.verdict;
        match weigh(question, testimony) {
            Ok(None) => {}
            Ok(Some((class, code, hard))) => {
                counted.insert(verdict.node, (verdict, class, code, hard));
                missing.remove(&verdict.node);
            }
            Err(why) => {
                if let Some(seen) = answer_seen(question, testimony) {
                    alive = Some((verdict.node, seen));
                }
                missing.insert(verdict.node, why);
            }
        }
    }
    let need = match planted(Mistake::QuorumCountsReporters) {
        true => majority(testimonies.len()),
        false => majority(question.voters.len()),
    };
    // The class with the most voters behind it; on a tie the highest class, which comes first in the order.
    let mut best: Option<(Class, Vec<u64>)> = None;
    for class in [Class::Primary, Class::Intermediate, Class::Settings] {
        let nodes: Vec<u64> = counted.iter().filter(|(_, v)| v.1 == class).map(|(n, _)| *n).collect();
        if best.as_ref().is_none_or(|(_, most)| nodes.len() > most.len()) {
            best = Some((class, nodes));
        }
    }
    let (class, nodes) = best.expect("three classes were tried");
    if nodes.len() < need {
        return Err(Refusal::NoMajority {
            have: nodes.len() as u32,
            need: need as u32,
            voters: question.voters.len() as u32,
            missing: missing.into_iter().collect(),
        });
    }
    let hard = nodes.iter().filter(|node| counted[node].3).count() >= need;
    // Soft evidence must end without any answer, to any voter.
    if let (false, Some((node, what))) = (hard, alive) {
        return Err(Refusal::StillAnswers { node, what });
    }
    Ok(Agreed { class, code: most_named(&nodes, &counted), hard, nodes: nodes.into_iter().collect() })
}

/// Whether a majority of the voters each say, freshly and after an urgent round without any answer, that only a witness
/// can tell; and nobody has an answer from the primary.
pub fn agree_on_witness(
    question: &Question<'_>,
    testimonies: &[Testimony],
) -> Result<BTreeSet<u64>, Refusal> {
    let mut nodes = BTreeSet::new();
    let mut missing: BTreeMap<u64, String> =
        question.voters.keys().map(|node| (*node, "no verdict".to_owned())).collect();
    for testimony in testimonies {
        let verdict = &testimony.verdict;
        match attend(question, testimony) {
            Ok(false) => {}
            Err(why) => {
                missing.insert(verdict.node, why);
            }
            Ok(true) => match &verdict.finding {
                Finding::Failure { evidence, .. } if evidence.needs_witness && evidence.urgent_round_done => {
                    nodes.insert(verdict.node);
                    missing.remove(&verdict.node);
                }
                _ => {
                    if let Some(what) = answer_seen(question, testimony) {
                        return Err(Refusal::StillAnswers { node: verdict.node, what });
                    }
                    missing.insert(verdict.node, format!("says {}", verdict.label()));
                }
            },
        }
    }
    let need = majority(question.voters.len());
    match nodes.len() >= need {
        true => Ok(nodes),
        false => Err(Refusal::NoMajority {
            have: nodes.len() as u32,
            need: need as u32,
            voters: question.voters.len() as u32,
            missing: missing.into_iter().collect(),
        }),
    }
}

/// Whether a majority of the voters each freshly call the primary healthy: what had failed answers again.
pub fn is_over(question: &Question<'_>, testimonies: &[Testimony]) -> bool {
    let healthy = |testimony: &&Testimony| {
        testimony.verdict.finding == Finding::Healthy && attend(question, testimony) == Ok(true)
    };
    let nodes: BTreeSet<u64> =
        testimonies.iter().filter(healthy).map(|testimony| testimony.verdict.node).collect();
    nodes.len() >= majority(question.voters.len())
}

/// The weight of one testimony: class, code and hardness when it counts; `Ok(None)` when it is of no voter; the reason
/// when it is a voter's and does not count.
fn weigh(question: &Question<'_>, testimony: &Testimony) -> Result<Option<(Class, Code, bool)>, String> {
    if !attend(question, testimony)? {
        return Ok(None);
    }
    match &testimony.verdict.finding {
        Finding::Healthy => Err("sees no failure".into()),
        Finding::Blind { why } => Err(format!("is blind: {why}")),
        Finding::Failure { class: Class::None, code, .. } => {
            Err(format!("sees {code}, which needs no repair"))
        }
        Finding::Failure { evidence, .. }
            if !evidence.hard && !evidence.urgent_round_done && !planted(Mistake::UrgentRoundNotAwaited) =>
        {
            Err("has soft evidence and no finished urgent round".into())
        }
        Finding::Failure { class, code, evidence } => Ok(Some((*class, *code, evidence.hard))),
    }
}

/// Whether the testimony is a voter's (`Ok(false)`: of no voter), fresh, its newest, and about this primary; else why it
/// does not count.
fn attend(question: &Question<'_>, testimony: &Testimony) -> Result<bool, String> {
    let verdict = &testimony.verdict;
    let Some(incarnation) = question.voters.get(&verdict.node) else {
        return Ok(false);
    };
    if incarnation != &verdict.incarnation {
        return Err("its data directory is not the one that votes".into());
    }
    if &verdict.cluster != question.cluster
        || verdict.epoch != question.epoch
        || &verdict.subject != question.subject
    {
        return Err("judges another cluster, epoch or server".into());
    }
    if testimony.age_ms > question.fresh_for_ms && !planted(Mistake::StaleVerdictAccepted) {
        return Err(format!("its verdict is {} ms old", testimony.age_ms));
    }
    let newest = question.newest.and_then(|all| all.get(&verdict.node));
    if newest.is_some_and(|n| n.incarnation == verdict.incarnation && n.sequence > verdict.sequence) {
        return Err("it has given a newer verdict".into());
    }
    Ok(true)
}

/// Whether a voter's fresh word says that the primary answers it.
fn answer_seen(question: &Question<'_>, testimony: &Testimony) -> Option<String> {
    let verdict = &testimony.verdict;
    let about_this = &verdict.cluster == question.cluster
        && verdict.epoch == question.epoch
        && &verdict.subject == question.subject
        && question.voters.get(&verdict.node) == Some(&verdict.incarnation)
        && testimony.age_ms <= question.fresh_for_ms;
    match (&verdict.finding, about_this) {
        (Finding::Healthy, true) => Some("healthy".into()),
        (Finding::Failure { class: Class::None, code, evidence }, true)
            if !matches!(evidence.primary, PrimarySign::Silent { .. }) || !evidence.urgent_round_done =>
        {
            Some(code.to_string())
        }
        _ => None,
    }
}

fn most_named(nodes: &[u64], counted: &BTreeMap<u64, (&Verdict, Class, Code, bool)>) -> Code {
    let mut votes: BTreeMap<Code, usize> = BTreeMap::new();
    for node in nodes {
        *votes.entry(counted[node].2).or_default() += 1;
    }
    let (code, _) = votes
        .into_iter()
        .max_by_key(|(code, count)| (*count, std::cmp::Reverse(*code)))
        .expect("a majority has at least one member");
    code
}

#[cfg(test)]
mod tests;
