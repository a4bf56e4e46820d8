//! Each rule of agreement, one test a rule.

use super::*;
use crate::core::analysis::Evidence;

fn voters() -> BTreeMap<u64, String> {
    (1..=3).map(|n| (n, format!("i{n}"))).collect()
}

fn failure(hard: bool, urgent: bool) -> Finding {
    Finding::Failure {
        class: Class::Primary,
        code: Code::DeadPrimary,
        evidence: Evidence {
            primary: if hard {
                PrimarySign::Gone { how: "connection refused".into() }
            } else {
                PrimarySign::Silent { for_ms: 1_300 }
            },
            replicas: vec![],
            hard,
            urgent_round_done: urgent,
            needs_witness: false,
            text: String::new(),
        },
    }
}

fn says(node: u64, finding: Finding) -> Testimony {
    Testimony {
        verdict: Verdict {
            node,
            incarnation: format!("i{node}"),
            sequence: 10,
            cluster: ClusterId("c".into()),
            epoch: 4,
            subject: ServerId("p".into()),
            finding,
        },
        age_ms: 5,
    }
}

/// The question that these tests ask, put to `judge`.
fn ask<T>(newest: Option<&BTreeMap<u64, Verdict>>, judge: impl FnOnce(&Question<'_>) -> T) -> T {
    let (voters, cluster, subject) = (voters(), ClusterId("c".into()), ServerId("p".into()));
    judge(&Question {
        voters: &voters,
        cluster: &cluster,
        epoch: 4,
        subject: &subject,
        fresh_for_ms: 2_000,
        newest,
    })
}

fn judge(testimonies: &[Testimony]) -> Result<Agreed, Refusal> {
    judge_with(testimonies, None)
}

fn judge_with(testimonies: &[Testimony], newest: Option<&BTreeMap<u64, Verdict>>) -> Result<Agreed, Refusal> {
    ask(newest, |question| agree(question, testimonies))
}

#[test]
fn a_majority_of_hard_verdicts_agrees() {
    let agreed = judge(&[says(1, failure(true, false)), says(3, failure(true, false))]).unwrap();
    assert_eq!((agreed.class, agreed.code, agreed.hard), (Class::Primary, Code::DeadPrimary, true));
    assert_eq!(agreed.nodes, BTreeSet::from([1, 3]));
}

#[test]
fn one_observer_is_never_enough_however_often_it_says_so() {
    let once = says(2, failure(true, true));
    assert!(matches!(judge(&[once.clone(), once]), Err(Refusal::NoMajority { have: 1, need: 2, .. })));
}

#[test]
fn learners_and_strangers_count_for_nobody() {
    let stranger = says(9, failure(true, true));
    assert!(judge(&[says(1, failure(true, true)), stranger]).is_err());
    let mut wiped = says(2, failure(true, true));
    wiped.verdict.incarnation = "another".into();
    assert!(judge(&[says(1, failure(true, true)), wiped]).is_err());
}

#[test]
fn stale_outdated_blind_and_foreign_verdicts_do_not_count() {
    let good = says(1, failure(true, true));
    let mut stale = says(2, failure(true, true));
    stale.age_ms = 2_001;
    let mut other_epoch = says(2, failure(true, true));
    other_epoch.verdict.epoch = 3;
    let mut other_subject = says(2, failure(true, true));
    other_subject.verdict.subject = ServerId("q".into());
    let blind = says(2, Finding::Blind { why: "own pause".into() });
    for second in [stale, other_epoch, other_subject, blind] {
        assert!(judge(&[good.clone(), second.clone()]).is_err(), "{second:?}");
    }
}

#[test]
fn a_verdict_older_than_the_newest_applied_does_not_count() {
    let newer = BTreeMap::from([(2, Verdict { sequence: 11, ..says(2, Finding::Healthy).verdict })]);
    let both = [says(1, failure(true, true)), says(2, failure(true, true))];
    assert!(judge_with(&both, Some(&newer)).is_err());
    let same = BTreeMap::from([(2, says(2, failure(true, true)).verdict)]);
    assert!(judge_with(&both, Some(&same)).is_ok());
}

#[test]
fn soft_evidence_needs_a_finished_urgent_round_of_each() {
    assert!(judge(&[says(1, failure(false, true)), says(2, failure(false, false))]).is_err());
    assert!(!judge(&[says(1, failure(false, true)), says(2, failure(false, true))]).unwrap().hard);
}

#[test]
fn any_voters_answer_ends_soft_evidence_but_not_hard() {
    let soft = [says(1, failure(false, true)), says(2, failure(false, true)), says(3, Finding::Healthy)];
    assert!(matches!(judge(&soft), Err(Refusal::StillAnswers { node: 3, .. })));
    let hard = [says(1, failure(true, true)), says(2, failure(true, true)), says(3, Finding::Healthy)];
    assert!(judge(&hard).is_ok());
}

#[test]
fn majorities_are_of_the_voters() {
    assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
}

fn asks_for_witness(urgent: bool) -> Finding {
    let Finding::Failure { evidence, .. } = failure(false, urgent) else { unreachable!("it is a failure") };
    Finding::Failure {
        class: Class::None,
        code: Code::UnreachablePrimary,
        evidence: Evidence { needs_witness: true, ..evidence },
    }
}

#[test]
fn a_witness_is_called_on_the_word_of_a_majority_and_against_nobodys() {
    let (voters, cluster, subject) = (voters(), ClusterId("c".into()), ServerId("p".into()));
    let question = Question {
        voters: &voters,
        cluster: &cluster,
        epoch: 4,
        subject: &subject,
        fresh_for_ms: 2_000,
        newest: None,
    };
    let judge = |testimonies: &[Testimony]| agree_on_witness(&question, testimonies);
    let ask = |node| says(node, asks_for_witness(true));
    assert_eq!(judge(&[ask(1), ask(2)]), Ok(BTreeSet::from([1, 2])));
    assert!(matches!(judge(&[ask(1), ask(1)]), Err(Refusal::NoMajority { have: 1, .. })));
    assert!(matches!(judge(&[ask(1), ask(9)]), Err(Refusal::NoMajority { have: 1, .. })), "a stranger");
    let old = Testimony { age_ms: 2_001, ..ask(2) };
    assert!(matches!(judge(&[ask(1), old]), Err(Refusal::NoMajority { have: 1, .. })));
    let unasked = says(2, asks_for_witness(false));
    assert!(judge(&[ask(1), unasked]).is_err(), "no urgent round of its own");
    let healthy = says(3, Finding::Healthy);
    assert!(matches!(judge(&[ask(1), ask(2), healthy]), Err(Refusal::StillAnswers { node: 3, .. })));
    // It is no vote for a failover.
    assert!(agree(&question, &[ask(1), ask(2), ask(3)]).is_err());
}

/// Found by the simulation (seed 3000084): the primary was back and took writes, all voters called it healthy, and its
/// replacement went on draining for seven seconds.
#[test]
fn a_failure_is_over_when_a_majority_freshly_calls_the_primary_healthy() {
    let is_over = |testimonies: &[Testimony]| ask(None, |question| super::is_over(question, testimonies));
    let healthy = |node| says(node, Finding::Healthy);
    assert!(is_over(&[healthy(1), healthy(3), says(2, failure(true, true))]));
    assert!(!is_over(&[healthy(1), says(2, failure(true, true))]), "one observer");
    assert!(!is_over(&[healthy(1), healthy(1), healthy(9)]), "counted twice, and a stranger");
    let old = Testimony { age_ms: 3_000, ..healthy(2) };
    assert!(!is_over(&[healthy(1), old]), "stale");
    let mut later = healthy(2);
    later.verdict.epoch = 5;
    assert!(!is_over(&[healthy(1), later]), "of another epoch");
}
