//! Log entries and snapshots: spoilt bytes do not decode or make a command like any other, and no command and no state
//! that decodes brings `apply` to a panic.

use proptest::prelude::*;
use quorate::core::{
    analysis::Class,
    replicated::{Command, Kind, State},
};

use crate::{
    generate::{Draw, Entry, log},
    odd::{changed, odds},
    spoil::{cases, spoils},
};

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec(any::<Draw>(), 1..60)
}

/// The commands of a log, each with the state it met and what came after it.
fn met(log: &[Entry], which: usize) -> (State, u64, Command, &[Entry]) {
    let commands: Vec<usize> = (0..log.len()).filter(|at| matches!(log[*at], Entry::Command(_))).collect();
    let at = commands.get(which % commands.len().max(1)).copied();
    let mut state = State::default();
    for (before, entry) in log.iter().enumerate().take(at.unwrap_or(log.len())) {
        entry.apply(&mut state, before as u64 + 1);
    }
    match at.map(|at| (&log[at], at)) {
        Some((Entry::Command(command), at)) => (state, at as u64 + 1, command.clone(), &log[at + 1..]),
        _ => {
            let command = Command {
                at_ms: 1,
                wall_ms: 1,
                node: 1,
                term: 1,
                by: "b".into(),
                request_id: None,
                change: quorate::core::replicated::Change::Tick,
            };
            (state, log.len() as u64 + 1, command, &[])
        }
    }
}

/// Everything that is asked of a state.
fn look(state: &State) {
    for cluster in state.clusters.values() {
        state.automatic_pause(cluster);
        state.blocked(&cluster.id);
        for kind in [Kind::Failover, Kind::Forced, Kind::Switchover] {
            state.slot_refusal(cluster, kind);
            state.rate_refusal(cluster, kind, Class::Primary, &[]);
        }
    }
    let _ = (state.find_cluster("nosuch"), state.find_server("nosuch"), state.next_expiry());
    let bytes = rmp_serde::to_vec_named(state).expect("a state can be written");
    let again: State = rmp_serde::from_slice(&bytes).expect("and read");
    assert_eq!(again.hash(), state.hash());
}

fn live_on(mut state: State, index: u64, later: &[Entry]) {
    for (at, entry) in later.iter().enumerate() {
        entry.apply(&mut state, index + at as u64);
    }
    look(&state);
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn spoilt_bytes_of_a_command_are_an_error_or_a_command(draws in draws(), which in any::<usize>(), spoils in spoils()) {
        let log = log(&draws);
        let (mut state, index, command, later) = met(&log, which);
        let mut bytes = rmp_serde::to_vec_named(&command).unwrap();
        spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
        if let Ok(command) = rmp_serde::from_slice::<Command>(&bytes) {
            state.apply(index, &command);
            live_on(state, index + 1, later);
        }
    }

    #[test]
    fn absurd_numbers_and_texts_in_a_command_stop_nobody(draws in draws(), which in any::<usize>(), odds in odds()) {
        let log = log(&draws);
        let (mut state, index, command, later) = met(&log, which);
        if let Some(command) = changed(&command, &odds) {
            state.apply(index, &command);
            live_on(state, index + 1, later);
        }
    }

    #[test]
    fn spoilt_bytes_of_a_state_are_an_error_or_a_state(draws in draws(), which in any::<usize>(), spoils in spoils()) {
        let log = log(&draws);
        let (state, index, _, later) = met(&log, which);
        let mut bytes = rmp_serde::to_vec_named(&state).unwrap();
        spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
        if let Ok(state) = rmp_serde::from_slice::<State>(&bytes) {
            live_on(state, index, later);
        }
    }

    #[test]
    fn absurd_numbers_and_texts_in_a_state_stop_nobody(draws in draws(), which in any::<usize>(), odds in odds()) {
        let log = log(&draws);
        let (state, index, _, later) = met(&log, which);
        if let Some(state) = changed(&state, &odds) {
            live_on(state, index, later);
        }
    }
}

/// Nested deeper than any message of ours, and announced larger than any memory.
#[test]
fn depth_and_announced_sizes_are_bounded() {
    for byte in [0x81_u8, 0x91, 0xc7, 0xdf, 0xdd, 0xdb, 0xc6] {
        let mut bytes = vec![byte; 100_000];
        bytes.extend_from_slice(&[0xff; 8]);
        assert!(rmp_serde::from_slice::<Command>(&bytes).is_err(), "{byte:x}");
        assert!(rmp_serde::from_slice::<State>(&bytes).is_err(), "{byte:x}");
        let mut bytes = rmp_serde::to_vec_named(&State::default()).unwrap();
        // A field that nobody knows is skipped, however deep it is.
        bytes[0] += 1;
        bytes.extend_from_slice(&[0xa1, b'x']);
        bytes.extend(std::iter::repeat_n(byte, 100_000));
        let _ = rmp_serde::from_slice::<State>(&bytes);
    }
}
