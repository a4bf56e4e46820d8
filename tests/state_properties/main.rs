//! Laws of the replicated state, over random logs that reach deep: clusters adopted, verdicts of majorities, recoveries
//! driven through every phase, taken over, finished, blocked, acknowledged, and a good deal of nonsense between.
//!
//! The seed is fixed; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others.

mod generate;
mod laws;
mod world;

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use quorate::{
    core::{
        analysis::Class,
        replicated::{Change, Outcome, State},
    },
    raft::Image,
};

use crate::generate::{Draw, Entry, log};

/// The same logs on every run, unless asked otherwise.
fn fixed(cases: u32) -> Config {
    let asked = |name| std::env::var_os(name).is_some();
    let default = Config::default();
    Config {
        cases: if asked("PROPTEST_CASES") { default.cases } else { cases },
        rng_seed: if asked("PROPTEST_RNG_SEED") { default.rng_seed } else { RngSeed::Fixed(12) },
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..default
    }
}

fn draws(most: usize) -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec(any::<Draw>(), 1..most)
}

/// Applies a log from the beginning.
fn replay(log: &[Entry]) -> State {
    let mut state = State::default();
    for (at, entry) in log.iter().enumerate() {
        entry.apply(&mut state, at as u64 + 1);
    }
    state
}

fn snapshot(state: &State) -> State {
    let bytes = Image::of(state.clone(), BTreeMap::new()).encode().expect("the state serialises");
    Image::decode(&bytes).expect("what was written can be read").state
}

proptest! {
    #![proptest_config(fixed(300))]

    #[test]
    fn every_law_holds_after_every_command(draws in draws(150)) {
        let mut state = State::default();
        for (at, draw) in draws.iter().enumerate() {
            let index = at as u64 + 1;
            let entry = draw.entry(&state, index);
            let before = state.clone();
            let outcome = entry.apply(&mut state, index);
            if let Err(broken) = laws::check(&before, &entry, index, &outcome, &state) {
                prop_assert!(false, "entry {index} {entry:?}\n-> {outcome:?}\nbreaks a law: {broken}");
            }
        }
    }

    #[test]
    fn the_same_log_gives_the_same_state(draws in draws(150)) {
        let log = log(&draws);
        let (one, other) = (replay(&log), replay(&log));
        prop_assert_eq!(one.hash(), other.hash());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_are_the_whole_log(draws in draws(150), at in any::<prop::sample::Index>()) {
        let log = log(&draws);
        let taken = at.index(log.len());
        let mut state = State::default();
        for (at, entry) in log.iter().enumerate() {
            if at == taken {
                let read = snapshot(&state);
                prop_assert_eq!(&read, &state);
                state = read;
            }
            entry.apply(&mut state, at as u64 + 1);
        }
        prop_assert_eq!(state.hash(), replay(&log).hash());
        prop_assert_eq!(snapshot(&state).hash(), state.hash());
    }

    #[test]
    fn every_command_survives_the_log_it_is_written_to(draws in draws(60)) {
        for entry in log(&draws) {
            let Entry::Command(command) = entry else { continue };
            let bytes = rmp_serde::to_vec_named(&command).expect("a command serialises");
            let read: quorate::core::replicated::Command = rmp_serde::from_slice(&bytes).expect("and is read");
            prop_assert_eq!(read, command);
        }
    }
}

/// Numbers at the end of their range, where additions overflow.
fn extreme(entry: Entry, at: usize, from: usize) -> Entry {
    let Entry::Command(mut command) = entry else { return entry };
    if at >= from {
        command.at_ms = u64::MAX - (command.at_ms % 3);
    }
    match &mut command.change {
        Change::SetDowntime { for_ms, .. } | Change::SetMaintenance { for_ms, .. }
            if at.is_multiple_of(2) =>
        {
            *for_ms = for_ms.map(|_| u64::MAX);
        }
        Change::SetPromotionRule { for_ms, .. } => *for_ms = for_ms.map(|_| u64::MAX),
        Change::SetPolicy { policy, .. } if at.is_multiple_of(2) => {
            policy.block_for_ms = u64::MAX;
            policy.retry_backoff_ms = u64::MAX;
            policy.retry_backoff_max_ms = u64::MAX;
            policy.breaker_window_ms = u64::MAX;
            policy.verdict_fresh_for_ms = u64::MAX;
        }
        Change::StartRecovery(start) if at.is_multiple_of(3) => {
            start.evidence.iter_mut().for_each(|t| t.age_ms = u64::MAX)
        }
        _ => {}
    }
    Entry::Command(command)
}

proptest! {
    #![proptest_config(fixed(200))]

    #[test]
    fn no_number_is_too_large(draws in draws(120), from in 0..120_usize) {
        let mut state = State::default();
        for (at, draw) in draws.iter().enumerate() {
            let entry = extreme(draw.entry(&state, at as u64 + 1), at, from);
            entry.apply(&mut state, at as u64 + 1);
            state.next_expiry();
            for cluster in state.clusters.values() {
                state.automatic_pause(cluster);
                state.automatic_rate(cluster, Class::Primary);
                state.blocked(&cluster.id);
            }
        }
    }
}

/// The generator is worth something only if its logs get deep.
#[test]
fn the_logs_reach_every_phase_and_most_refusals() {
    use std::collections::BTreeSet;

    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::new(fixed(1));
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for _ in 0..300 {
        let draws = draws(150).new_tree(&mut runner).expect("a value").current();
        let mut state = State::default();
        for (at, draw) in draws.iter().enumerate() {
            let entry = draw.entry(&state, at as u64 + 1);
            let outcome = entry.apply(&mut state, at as u64 + 1);
            if state.recoveries.values().any(|r| r.supersedes.is_some()) {
                seen.insert("superseded".into());
            }
            match (outcome, &entry) {
                (Outcome::Refused(refusal), _) => seen.insert(refusal.reason().to_owned()),
                (_, Entry::Command(command)) => seen.insert(command.change.name().to_owned()),
                _ => seen.insert("voters".into()),
            };
        }
        seen.extend(state.audit.iter().map(|entry| entry.kind.name()));
    }
    let wanted = [
        "recovery_started",
        "taken_over",
        "decided",
        "intent",
        "undoing",
        "published",
        "recovery_ended",
        "blocked",
        "unblocked",
        "acknowledged",
        "fenced",
        "rejoined",
        "quarantined",
        "switched",
        "maintenance",
        "durability",
        "forgotten",
        "NO_MAJORITY_VERDICT",
        "PRIMARY_STILL_ANSWERS",
        "SLOT_HELD",
        "CLUSTER_BLOCKED",
        "BACK_OFF",
        "FLEET_BREAKER",
        "RECOVERIES_DISABLED",
        "DOWNTIME",
        "MAINTENANCE",
        "OUTDATED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "WRONG_PHASE",
        "INVALID_ARGUMENT",
        "voters",
        "superseded",
        "next_candidate",
        "call_witness",
        "settle_witness",
        "NO_WITNESS",
        "record_steps",
        "raise_feature_level",
        "set_primary",
        "follow_primary",
        "confirm_member",
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "the logs never reach {missing:?}");
}
