//! When what an acker holds counts.

use super::*;
use crate::{
    core::samples::{self, set},
    model::server::Flavor,
};

const PRIMARY: &str = "00000000-0000-0000-0000-000000000001";

fn holds(to: u32, started_at_s: Option<u64>) -> ServerFacts {
    ServerFacts { executed: upto(to), channels: Vec::new(), started_at_s, ..samples::facts(Flavor::MySql, 2) }
}

fn upto(to: u32) -> GtidSet {
    set(&format!("{PRIMARY}:1-{to}"))
}

fn nothing() -> GtidSet {
    GtidSet::empty(Flavor::MySql)
}

fn mark(to: u32, caught_up: &[u64]) -> Mark {
    Mark { held: upto(to), caught_up: caught_up.iter().copied().collect() }
}

#[test]
fn an_acker_counts_that_was_seen_caught_up_since_its_present_start() {
    let now = holds(10, Some(1_000));
    assert_eq!(doubt(Some(&mark(10, &[1_000])), &now, &nothing()), None);
    assert_eq!(
        doubt(Some(&mark(9, &[500, 1_001])), &now, &nothing()),
        None,
        "dates of a start jitter by a second"
    );
    for (earlier, words) in [
        (None, "since it was started"),
        (Some(mark(10, &[])), "since it was started"),
        (Some(mark(10, &[500])), "since it was started"),
        (Some(mark(12, &[1_000])), "it held 00000000-0000-0000-0000-000000000001:11-12 before"),
    ] {
        let why = doubt(earlier.as_ref(), &now, &nothing()).unwrap();
        assert!(why.contains(words), "{earlier:?}: {why}");
    }
    let undated = holds(10, None);
    assert!(doubt(Some(&mark(10, &[1_000])), &undated, &nothing()).is_some());
}

#[test]
fn what_any_voter_saw_counts() {
    let server = ServerId("s2".into());
    let mut marks = Marks::new();
    raise(&mut marks, Marks::from([(server.clone(), mark(10, &[]))]));
    raise(&mut marks, Marks::from([(server.clone(), mark(8, &[1_000]))]));
    assert_eq!(marks[&server], mark(10, &[1_000]));
}

#[test]
fn an_old_primary_that_lost_its_own_is_not_opened_again() {
    let identity = samples::facts(Flavor::MySql, 1).identity;
    let now = |to, read_only| ServerFacts {
        read_only,
        super_read_only: Some(read_only),
        identity: identity.clone(),
        ..holds(to, Some(1_000))
    };
    let why = unfit_to_open(&now(9, true), &upto(10)).expect("it would give number 10 away twice");
    assert!(why.contains("missing: 00000000-0000-0000-0000-000000000001:10"), "{why}");
    assert_eq!(unfit_to_open(&now(10, true), &upto(10)), None);
    assert_eq!(unfit_to_open(&now(11, true), &upto(10)), None);
    assert_eq!(unfit_to_open(&now(9, false), &upto(10)), None, "a person opened it");
}

/// MariaDB: whoever knows nothing of its own of a domain (a backup without binlogs) says nothing about it.
#[test]
fn of_a_domain_that_it_knows_nothing_of_nothing_is_missing() {
    let of = |text: &str| GtidSet::parse(Flavor::MariaDb, text).unwrap();
    let now = ServerFacts { read_only: true, executed: of("0-1-5"), ..samples::facts(Flavor::MariaDb, 1) };
    assert_eq!(unfit_to_open(&now, &of("0-1-5,7-1-9")), None);
    assert!(unfit_to_open(&now, &of("0-1-6,7-1-9")).is_some());
}

/// Found by the simulation (seed 9065165): a primary lost all that it had written since it was promoted, 0.3 s before. What it holds
/// of others shows that it has not come so far.
#[test]
fn who_lost_all_of_its_own_is_not_opened_again() {
    let of = |text: &str| GtidSet::parse(Flavor::MariaDb, text).unwrap();
    let now = ServerFacts { read_only: true, executed: of("0-2-65"), ..samples::facts(Flavor::MariaDb, 1) };
    let why = unfit_to_open(&now, &of("0-2-65,0-1-71")).expect("it would give 66 to 71 away twice");
    assert!(why.contains("missing: 0-1-71"), "{why}");
    assert_eq!(unfit_to_open(&now, &of("0-2-65,0-1-60")), None, "begun anew behind it");
}
