//! The table of problems: one row per code. The first row of `ROWS` that applies is the failure; each row of
//! `STRUCTURE_ROWS` that applies is added to it. Predicates look at derived facts and have no side effects.

use super::{
    Class, Code, Repair, ReplicaSign, Severity,
    derive::{Derived, Reach},
    sentences,
};
use crate::mistake::{Mistake, planted};

/// One problem code.
#[derive(Debug)]
pub struct Row {
    /// Its code.
    pub code: Code,
    /// What kind of repair it needs, or `None`.
    pub class: Class,
    /// How loudly it is shown.
    pub severity: Severity,
    /// What is done about it.
    pub repair: Repair,
    /// What it means, for lists of codes.
    pub describes: &'static str,
    /// Whether it is so.
    pub applies: fn(&Derived<'_>) -> bool,
    /// The sentence that says it with its numbers.
    pub says: fn(&Derived<'_>) -> String,
}

/// Failures. Order matters only between rows that can apply together, and is said where it does.
pub const ROWS: &[Row] = &[
    // The server answers, though not with what was asked: never death. These three exclude each other.
    Row {
        code: Code::PrimaryIdentityChanged,
        class: Class::None,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "another server answers at the primary's address",
        applies: |d| matches!(d.reach, Reach::WrongIdentity { .. }),
        says: sentences::wrong_identity,
    },
    Row {
        code: Code::LoginFailed,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "this node cannot log in to the primary or lacks a grant; the server lives",
        applies: |d| matches!(d.reach, Reach::LoginFailed { .. }),
        says: sentences::login_failed,
    },
    Row {
        code: Code::SaturatedPrimary,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "the primary has no connection left to give, or answers late again and again",
        applies: saturated,
        says: sentences::saturated,
    },
    // Dead: by far the rarest, and the only class that is repaired. Without replicas, then without a usable one, so
    // that the two rows below them know that somebody can be promoted.
    Row {
        code: Code::DeadPrimaryWithoutReplicas,
        class: Class::None,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "the primary is dead and has no replica in service: there is nothing to promote",
        applies: |d| dead(d) && d.replicas.is_empty(),
        says: sentences::dead_without_replicas,
    },
    // Class none although a new primary is needed: a node that reaches no member at all is more likely cut off than
    // right, and its word must not help others to a majority.
    Row {
        code: Code::DeadPrimaryAndReplicas,
        class: Class::None,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "neither the primary nor any of its replicas answers this node",
        applies: |d| dead(d) && d.reached() == 0,
        says: sentences::dead_and_replicas,
    },
    Row {
        code: Code::DeadPrimaryAndSomeReplicas,
        class: Class::Primary,
        severity: Severity::Critical,
        repair: Repair::ReplacePrimary,
        describes: "the primary is dead, some replicas are unreachable, and those reached lost it",
        applies: |d| dead(d) && supported(d) && d.count(ReplicaSign::Unreachable) > 0,
        says: sentences::dead_and_some_replicas,
    },
    Row {
        code: Code::DeadPrimary,
        class: Class::Primary,
        severity: Severity::Critical,
        repair: Repair::ReplacePrimary,
        describes: "the primary is dead, every replica is reachable, and none hears it",
        applies: |d| dead(d) && supported(d),
        says: sentences::dead,
    },
    // Not proven dead. Stalled first: a server that greets is seen by this node, so it is not unreachable.
    Row {
        code: Code::StalledPrimary,
        class: Class::None,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "the primary greets and then does not answer",
        applies: |d| d.reach == Reach::Stalled,
        says: sentences::stalled,
    },
    // The narrower of the two first.
    Row {
        code: Code::UnreachablePrimaryWithLaggingReplicas,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "this node cannot reach the primary; its replicas claim to receive, and all of them lag",
        applies: |d| unreachable(d) && all_lag(d),
        says: sentences::unreachable_lagging,
    },
    Row {
        code: Code::UnreachablePrimary,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "this node cannot reach the primary, and nothing proves it dead",
        applies: unreachable,
        says: sentences::unreachable,
    },
    // The primary lives. What it lost is worse than that it paused.
    Row {
        code: Code::AllPrimaryReplicasNotReplicating,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "the primary answers, and no replica replicates from it",
        applies: |d| {
            d.reach == Reach::Answering && !d.recovery_runs && !d.replicas.is_empty() && d.replicating() == 0
        },
        says: sentences::none_replicates,
    },
    Row {
        code: Code::PausedPrimary,
        class: Class::None,
        severity: Severity::Info,
        repair: Repair::Nothing,
        describes: "the primary was silent for a moment, or is so now, for less than a verdict needs",
        applies: paused,
        says: sentences::paused,
    },
];

/// What stands beside a failure, or alone.
pub const STRUCTURE_ROWS: &[Row] = &[
    Row {
        code: Code::ReadOnlyPrimary,
        class: Class::Settings,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "the primary refuses writes though nobody asked it to",
        applies: |d| !d.recovery_runs && d.facts.is_some_and(|f| !f.writable()),
        says: sentences::read_only,
    },
    Row {
        code: Code::PrimaryWithoutReplicas,
        class: Class::None,
        severity: Severity::Warning,
        repair: Repair::Nothing,
        describes: "the primary has no replica in service: if it dies there is nothing to promote",
        applies: |d| d.reach == Reach::Answering && d.replicas.is_empty() && !d.recovery_runs,
        says: sentences::without_replicas,
    },
    Row {
        code: Code::ReplicaLostItsOwn,
        class: Class::None,
        severity: Severity::Critical,
        repair: Repair::Nothing,
        describes: "a replica lacks transactions that it wrote itself when it was the primary: no source ever sends them",
        applies: |d| !d.recovery_runs && !d.lost_their_own().is_empty(),
        says: sentences::lost_their_own,
    },
];

/// The row of a code. Total.
pub fn row(code: Code) -> &'static Row {
    ROWS.iter().chain(STRUCTURE_ROWS).find(|row| row.code == code).expect("each code has a row: tested")
}

/// What is done about a code. Total.
pub fn repair(code: Code) -> Repair {
    row(code).repair
}

/// Not answering for as long as its kind of evidence asks for, and heard by no replica. A server that still greets
/// is dead only where a replica lost it.
fn dead(d: &Derived<'_>) -> bool {
    let quiet = match d.reach {
        Reach::Gone { .. } => d.hard() || d.silent_long(),
        Reach::Silent { .. } => d.silent_long(),
        Reach::Stalled => d.silent_long() && d.count(ReplicaSign::Lost) > 0,
        _ => false,
    };
    quiet && (!d.heard_by_any || planted(Mistake::ReplicasNotHeard))
}

/// What the replicas say makes it a failure: one lost the primary, or none can say anything. A replica that claims
/// to be connected without proof stands against it alone, and so does a way to the server that this node lacks.
fn supported(d: &Derived<'_>) -> bool {
    let own_trouble = matches!(d.reach, Reach::Silent { trouble: Some(_) });
    let nobody_can_say = d.count(ReplicaSign::Unproven) == 0 && !own_trouble;
    d.count(ReplicaSign::Lost) > 0 || nobody_can_say
}

fn unreachable(d: &Derived<'_>) -> bool {
    d.unreached() && (d.silent_long() || d.heard_by_any)
}

/// Every replica lags. Configured delay looks like lag, so it counts only where not all are delayed.
fn all_lag(d: &Derived<'_>) -> bool {
    let lags = d.replicas.iter().all(|r| r.lag_s.is_some_and(|lag| lag > d.policy.lag_s));
    let undelayed = d.replicas.iter().any(|r| r.delay_s == 0);
    lags && undelayed && d.replicating() > 0
}

fn saturated(d: &Derived<'_>) -> bool {
    let full = d.facts.and_then(|f| f.connections).is_some_and(|(used, most)| most > 0 && used >= most);
    let late = d.reach == Reach::Pausing && was_paused(d);
    d.reach == Reach::Saturated || full || late
}

fn was_paused(d: &Derived<'_>) -> bool {
    d.recent_pause_ms >= 2 * d.policy.primary_probe_interval_ms
}

fn paused(d: &Derived<'_>) -> bool {
    let short_silence = d.reach == Reach::Pausing || d.unreached();
    short_silence || (d.reach == Reach::Answering && was_paused(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_exactly_one_row_and_each_row_is_whole() {
        let all: Vec<&Row> = ROWS.iter().chain(STRUCTURE_ROWS).collect();
        assert_eq!(all.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(all.iter().filter(|row| row.code == code).count(), 1, "{code}");
            assert!(!row(code).describes.is_empty());
        }
    }

    #[test]
    fn only_the_primary_class_is_repaired() {
        for code in Code::ALL {
            let repaired = repair(code) != Repair::Nothing;
            assert_eq!(repaired, row(code).class == Class::Primary, "{code}");
        }
    }
}
