//! What no observation whatever may lead to: promises of judging, over random observations.

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use quorate::{
    core::analysis::{
        Class, Finding, PrimarySign, ReplicaSign,
        observation::AttemptEnd,
        problem::{self, View},
    },
    model::{address::Address, facts::Receiver, server::ServerId},
};

use crate::fleet::{Fleet, NOW_MS, ago};

fn fixed(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Config::default() }
}

/// Milliseconds ago, with the interesting moments drawn often.
fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![0..400_u64, 400..1_400_u64, 1_100..1_300_u64, 1_000..5_000_u64, 0..NOW_MS]
}

fn end() -> impl Strategy<Value = AttemptEnd> {
    prop_oneof![
        3 => Just(AttemptEnd::Answered),
        4 => Just(AttemptEnd::Refused),
        1 => Just(AttemptEnd::ShuttingDown),
        1 => Just(AttemptEnd::TooManyConnections),
        4 => any::<bool>().prop_map(|greeted| AttemptEnd::Silent { greeted }),
        1 => Just(AttemptEnd::Closed),
        1 => Just(AttemptEnd::LoginFailed { why: "denied".into() }),
        1 => Just(AttemptEnd::WrongIdentity { seen: "another".into() }),
        1 => Just(AttemptEnd::Failed { why: "no route".into() }),
    ]
}

/// What one node has seen of one server, in numbers.
#[derive(Debug, Clone)]
struct Seen {
    answered: Option<u64>,
    attempt: Option<(u64, AttemptEnd)>,
    waiting: Option<u64>,
    watched: Option<u64>,
    heard: Option<u64>,
    noticed: Option<u64>,
    lost: Option<u64>,
    receiver: u8,
    error: Option<u32>,
    heartbeat: Option<u64>,
    heartbeat_age: Option<u64>,
    set_aside: u8,
}

fn seen() -> impl Strategy<Value = Seen> {
    let some = || prop::option::weighted(0.7, moment());
    let first = (some(), prop::option::weighted(0.8, (moment(), end())), some(), some());
    let second = (some(), some(), some(), 0..4_u8);
    let errors = prop::sample::select(vec![2003, 2013, 1045, 1040, 1236]);
    let third = (
        prop::option::of(errors),
        prop::option::of(prop::sample::select(vec![0, 250, 500, 1_000, 30_000])),
        some(),
        0..12_u8,
    );
    (first, second, third).prop_map(
        |((answered, attempt, waiting, watched), (heard, noticed, lost, receiver), rest)| {
            let (error, heartbeat, heartbeat_age, set_aside) = rest;
            Seen {
                answered,
                attempt,
                waiting,
                watched,
                heard,
                noticed,
                lost,
                receiver,
                error,
                heartbeat,
                heartbeat_age,
                set_aside,
            }
        },
    )
}

fn watch(fleet: &mut Fleet, name: &str, seen: &Seen) {
    let o = fleet.observation(name);
    o.watched_since_ms = seen.watched.map(ago);
    o.answered_ms = seen.answered.map(ago);
    o.last_attempt = seen.attempt.clone().map(|(at, end)| (ago(at), end));
    o.waiting_since_ms = seen.waiting.map(ago);
    o.source_heard_ms = seen.heard.map(ago);
    o.source_noticed_ms = seen.noticed.map(ago);
    o.source_lost_ms = seen.lost.map(ago);
    if name == "primary" {
        return;
    }
    let channel = fleet.channel(name);
    channel.receiver = match seen.receiver {
        0 => Receiver::Stopped,
        1 => Receiver::Connecting,
        _ => Receiver::Running,
    };
    channel.receiver_error = seen.error.map(|number| (number, "text".to_owned()));
    channel.heartbeat_period_ms = seen.heartbeat;
    channel.heartbeat_age_ms = seen.heartbeat_age;
    match seen.set_aside {
        0 => fleet.downtime(name),
        1 => drop(fleet.observations.remove(&ServerId(name.into()))),
        _ => {}
    }
}

fn fleet() -> impl Strategy<Value = Fleet> {
    (seen(), prop::collection::vec(seen(), 0..4), prop::option::of(moment())).prop_map(
        |(primary, replicas, urgent)| {
            let mut fleet = Fleet::new("primary");
            fleet.add("primary", Address::new("db1", 3306), None);
            watch(&mut fleet, "primary", &primary);
            for (n, replica) in replicas.iter().enumerate() {
                let name = format!("r{n}");
                fleet.add(&name, Address::new(format!("db{}", n + 2), 3306), Some("primary"));
                watch(&mut fleet, &name, replica);
            }
            fleet.urgent_round_done_ms = urgent.map(ago);
            fleet
        },
    )
}

/// The newest sign that the primary's server process lives, by this node's own attempts.
fn last_life(fleet: &Fleet) -> Option<u64> {
    let o = &fleet.observations[&ServerId("primary".into())];
    let spoke = |end: &AttemptEnd| {
        matches!(
            end,
            AttemptEnd::Answered
                | AttemptEnd::TooManyConnections
                | AttemptEnd::LoginFailed { .. }
                | AttemptEnd::WrongIdentity { .. }
        )
    };
    o.answered_ms.max(o.last_attempt.as_ref().filter(|(_, end)| spoke(end)).map(|(at, _)| *at))
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}, urgent {:?}", self.observations, self.urgent_round_done_ms)
    }
}

proptest! {
    #![proptest_config(fixed(6_000))]

    #[test]
    fn a_failure_that_is_acted_on_has_its_grounds(fleet in fleet()) {
        fleet.suspected();
        let problems = fleet.problems();
        prop_assert!(problems.iter().all(|p| p.text.contains("db1:3306")), "{problems:?}");
        let Finding::Failure { class: Class::Primary, evidence, .. } = fleet.finding() else { return Ok(()) };
        let count = |sign| evidence.replicas.iter().filter(|(_, s)| *s == sign).count();
        let (lost, unreachable) = (count(ReplicaSign::Lost), count(ReplicaSign::Unreachable));
        let silent = last_life(&fleet).map(|at| NOW_MS - at);
        // Nobody hears the primary, and somebody is reached.
        prop_assert_eq!(count(ReplicaSign::Connected), 0);
        prop_assert!(unreachable < evidence.replicas.len(), "a node that reaches nobody says so");
        // Alive a moment ago is alive (P12), unless its end was seen.
        if !evidence.hard {
            prop_assert!(silent.is_none_or(|ms| ms >= fleet.policy.silence_ms), "silent for {silent:?}");
        }
        let gone = matches!(evidence.primary, PrimarySign::Gone { .. });
        prop_assert!(!evidence.hard || (gone && lost > 0 && lost + unreachable == evidence.replicas.len()));
        // One that only claims to be connected stands against silence that no replica confirms.
        prop_assert!(lost > 0 || count(ReplicaSign::Unproven) == 0);
        // An urgent round before the last sign of life proves nothing.
        if evidence.urgent_round_done {
            prop_assert!(silent.is_none_or(|ms| fleet.urgent_round_done_ms.is_some_and(|at| NOW_MS - at < ms)));
        }
        // Nothing is concluded from absence.
        prop_assert_eq!(fleet.observations.len(), fleet.cluster.members.len());
    }

    #[test]
    fn an_answer_ends_everything(fleet in fleet(), at in 0..500_u64) {
        let mut fleet = fleet;
        let o = fleet.observation("primary");
        o.answered_ms = Some(ago(at));
        o.last_attempt = Some((ago(at), AttemptEnd::Answered));
        o.waiting_since_ms = None;
        prop_assert_eq!(fleet.finding(), Finding::Healthy);
    }

    /// The observer looks at the time again when a primary is to be suspected, and not before.
    #[test]
    fn time_alone_changes_no_word_before_a_primary_is_suspected(fleet in fleet(), later in 0..600_u64) {
        let o = &fleet.observations[&ServerId("primary".into())];
        let from_ms = problem::suspected_from_ms(o, &fleet.policy);
        let view = fleet.view();
        let then = View { now_ms: NOW_MS + later, ..view };
        if !problem::suspected(&view) && from_ms.is_none_or(|from| then.now_ms < from) {
            prop_assert!(!problem::suspected(&then));
            let word = |finding: Finding| match finding {
                Finding::Failure { code, .. } => code.to_string(),
                Finding::Healthy => "healthy".into(),
                Finding::Blind { .. } => "blind".into(),
            };
            prop_assert_eq!(word(problem::finding(&view)), word(problem::finding(&then)));
        }
    }

    #[test]
    fn a_silence_of_one_second_is_never_a_failure(fleet in fleet(), at in 0..1_000_u64, fresh in moment()) {
        let mut fleet = fleet;
        let o = fleet.observation("primary");
        o.answered_ms = Some(ago(at));
        o.last_attempt = Some((ago(fresh.min(at)), AttemptEnd::Silent { greeted: false }));
        let acted_on = matches!(fleet.finding(), Finding::Failure { class: Class::Primary, .. });
        prop_assert!(!acted_on);
    }
}

/// The promises are worth something only where failures are reached.
#[test]
fn the_observations_reach_failures_of_both_kinds() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::new(fixed(1));
    let (mut hard, mut soft) = (0, 0);
    for _ in 0..6_000 {
        let fleet = fleet().new_tree(&mut runner).expect("a value").current();
        if let Finding::Failure { class: Class::Primary, evidence, .. } = fleet.finding() {
            *(if evidence.hard { &mut hard } else { &mut soft }) += 1;
        }
    }
    assert!(hard > 20 && soft > 20, "{hard} hard, {soft} soft");
}
