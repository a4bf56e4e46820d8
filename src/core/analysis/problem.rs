//! The entry: what one node, from its own observations, says about one cluster's primary.

use std::collections::BTreeMap;

use super::{
    Class, Code, Evidence, Finding, Repair, Severity,
    derive::{self, Derived, Reach},
    observation::{AttemptEnd, Observation},
    rows::{ROWS, Row, STRUCTURE_ROWS},
};
use crate::{
    core::replicated::{cluster::Cluster, state::Pause},
    model::{address::Address, policy::Policy, server::ServerId},
};

/// What is judged: committed membership, this node's observations, policy, and the time.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The cluster as committed.
    pub cluster: &'a Cluster,
    /// What this node has seen of each member.
    pub observations: &'a BTreeMap<ServerId, Observation>,
    /// Policy.
    pub policy: &'a Policy,
    /// Downtimes (`State::downtimes`): such a replica is not counted.
    pub downtimes: &'a BTreeMap<ServerId, Pause>,
    /// This node's monotonic milliseconds, the clock of the observations.
    pub now_ms: u64,
    /// When this node's last urgent round on this primary ended without any answer. A greeting is an answer.
    pub urgent_round_done_ms: Option<u64>,
    /// Whether a recovery or switchover of this cluster runs.
    pub recoveries_running: bool,
}

/// A problem, for people and for agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Code.
    pub code: Code,
    /// What kind of repair it needs.
    pub class: Class,
    /// How loudly it is shown.
    pub severity: Severity,
    /// What is done about it.
    pub repair: Repair,
    /// The server it is about.
    pub subject: ServerId,
    /// Where that is.
    pub address: Address,
    /// One sentence with its numbers.
    pub text: String,
    /// Why this node says so, where it cannot fully reach the server.
    pub evidence: Option<Evidence>,
    /// Only restarting a receiver could tell whether the primary is dead (design §3: the last resort).
    pub needs_witness: bool,
}

/// The first failure row that matches, then every structure row that does. Empty for a cluster without a known
/// primary.
pub fn problems(view: &View<'_>) -> Vec<Problem> {
    let Some(derived) = Derived::of(view) else { return Vec::new() };
    let failure = first_failure(&derived).into_iter();
    let structure = STRUCTURE_ROWS.iter().filter(|row| (row.applies)(&derived));
    failure.chain(structure).map(|row| problem(row, &derived)).collect()
}

/// This node's word on the primary. A failure that needs a repair is only named by a node that holds a fresh result,
/// *unreachable* included, for each member.
pub fn finding(view: &View<'_>) -> Finding {
    if derive::answers(view) {
        return Finding::Healthy;
    }
    let Some(derived) = Derived::of(view) else {
        return Finding::Blind { why: "the cluster has no known primary".into() };
    };
    if let Reach::Unknown { why } = &derived.reach {
        return Finding::Blind { why: why.clone() };
    }
    match first_failure(&derived).filter(|row| row.code != Code::PausedPrimary) {
        Some(row) if row.class != Class::None && !derived.unseen.is_empty() => {
            Finding::Blind { why: unseen_text(view, &derived) }
        }
        Some(row) => {
            let evidence = derived.evidence((row.says)(&derived));
            Finding::Failure { class: row.class, code: row.code, evidence }
        }
        // Not for long enough, asked too late, or its replicas were not read since. Refused, or after an urgent round
        // without an answer, this node no longer vouches for the primary.
        None if derived.urgent_round_done || derived.unreached() || derived.silent_long() => {
            let silent = derived.silent_ms.unwrap_or(0);
            Finding::Blind { why: format!("the primary last answered {silent} ms ago: too early to judge") }
        }
        None => Finding::Healthy,
    }
}

/// Whether the primary should be looked at harder: re-probe its replicas faster, tell the leader.
pub fn suspected(view: &View<'_>) -> bool {
    let Some(primary) = view.cluster.primary.as_ref() else { return false };
    let Some(o) = view.observations.get(primary) else { return false };
    let ended =
        o.last_attempt.as_ref().filter(|(at, _)| o.answered_ms.is_none_or(|answered| *at >= answered));
    let unanswered = ended.is_some_and(|(_, end)| {
        matches!(
            end,
            AttemptEnd::Refused
                | AttemptEnd::ShuttingDown
                | AttemptEnd::Silent { .. }
                | AttemptEnd::Closed
                | AttemptEnd::Failed { .. }
        )
    });
    unanswered || suspected_from_ms(o, view.policy).is_some_and(|from| view.now_ms >= from)
}

/// When a primary becomes suspected if nothing more is heard of it.
pub fn suspected_from_ms(primary: &Observation, policy: &Policy) -> Option<u64> {
    let since = derive::last_life(primary).or(primary.watched_since_ms)?;
    Some(since.saturating_add(2 * policy.primary_probe_interval_ms + 1))
}

fn first_failure(derived: &Derived<'_>) -> Option<&'static Row> {
    ROWS.iter().find(|row| (row.applies)(derived))
}

fn problem(row: &Row, derived: &Derived<'_>) -> Problem {
    let text = (row.says)(derived);
    let evidence = (derived.reach != Reach::Answering).then(|| derived.evidence(text.clone()));
    Problem {
        code: row.code,
        class: row.class,
        severity: row.severity,
        repair: row.repair,
        subject: derived.primary.server.clone(),
        address: derived.primary.address.clone(),
        needs_witness: derived.needs_witness(),
        text,
        evidence,
    }
}

fn unseen_text(view: &View<'_>, derived: &Derived<'_>) -> String {
    let names: Vec<String> = derived
        .unseen
        .iter()
        .filter_map(|id| view.cluster.members.get(*id))
        .map(|member| member.address.to_string())
        .collect();
    format!("no fresh result yet for {}", names.join(", "))
}
