//! Lives of a server, reading by reading.

use super::*;
use crate::{
    core::samples::{self, set},
    model::server::Flavor,
};

const PRIMARY: &str = "00000000-0000-0000-0000-000000000001";

fn upto(to: u32) -> GtidSet {
    set(&format!("{PRIMARY}:1-{to}"))
}

/// A replica started at that second that has received up to `to`.
fn replica(started_at_s: u64, to: u32) -> ServerFacts {
    let mut facts = samples::facts(Flavor::MySql, 2);
    facts.started_at_s = Some(started_at_s);
    facts.executed = upto(1);
    facts.channels[0].received = upto(to);
    facts
}

#[derive(Default)]
struct Told(Option<Life>);

impl Told {
    fn read(&mut self, facts: &ServerFacts, at_ms: u64) -> Option<u64> {
        Life::read(&mut self.0, facts, Part::Receives, at_ms);
        self.0.as_ref()?.caught_up_since()
    }

    fn measure(&mut self, to: u32, began_ms: u64) {
        let _ = self.0.as_mut().unwrap().measure(&upto(to), began_ms);
    }
}

#[test]
fn a_server_that_was_started_anew_is_caught_up_once_it_holds_what_the_primary_had_by_then() {
    let mut told = Told::default();
    assert_eq!(told.read(&replica(100, 10), 1_000), None);
    told.measure(10, 999);
    assert_eq!(told.read(&replica(100, 10), 1_100), None, "that reading of the primary began before it");
    let life = told.0.as_mut().unwrap();
    assert!(life.measure(&upto(12), 1_200), "a goal: it is looked at");
    assert!(!life.measure(&upto(900), 1_300), "which stays");
    assert_eq!(told.read(&replica(100, 11), 1_400), None);
    assert_eq!(told.read(&replica(101, 12), 1_500), Some(100), "the goal stays");
    // It lost power in between: what it acknowledged since may be gone.
    assert_eq!(told.read(&replica(500, 12), 9_000), None);
    told.measure(13, 9_100);
    assert_eq!(told.read(&replica(500, 12), 9_200), None);
    assert_eq!(told.read(&replica(500, 13), 9_300), Some(500));
    assert_eq!(told.read(&replica(500, 13), 9_400), Some(500), "for as long as it lives");
}

/// Found by the simulation (seed 2164100): an acker was seen caught up, acknowledged two rows, lost power, and was back two
/// seconds after its first start; its date was taken for that of the life that had been caught up.
#[test]
fn a_start_that_bears_the_same_date_is_not_taken_for_the_one_that_was_caught_up() {
    let up =
        |started_at_s, to, uptime_s| ServerFacts { uptime_s: Some(uptime_s), ..replica(started_at_s, to) };
    let mut told = Told::default();
    assert_eq!(told.read(&up(100, 10, 0), 1_000), None);
    told.measure(10, 1_100);
    assert_eq!(told.read(&up(100, 10, 1), 1_300), None, "another start could bear that date");
    assert_eq!(told.read(&up(102, 10, 0), 3_400), None);
    assert_eq!(told.read(&up(102, 10, 5), 8_400), None);
    told.measure(12, 8_500);
    assert_eq!(told.read(&up(102, 10, 5), 8_600), None);
    assert_eq!(told.read(&up(102, 12, 5), 8_700), Some(100));
}

#[test]
fn who_follows_another_proves_nothing_and_the_primary_is_the_measure() {
    for (part, caught_up) in [(Part::Other, None), (Part::Receives, Some(100)), (Part::Primary, Some(100))] {
        let mut life = None;
        Life::read(&mut life, &replica(100, 10), Part::Other, 1_000);
        assert!(life.as_mut().unwrap().measure(&upto(10), 1_100));
        Life::read(&mut life, &replica(100, 10), part, 1_200);
        assert_eq!(life.unwrap().caught_up_since(), caught_up, "{part:?}");
    }
}

#[test]
fn a_goal_that_nobody_can_reach_is_given_up() {
    let mut told = Told::default();
    told.read(&replica(100, 10), 1_000);
    told.measure(20, 1_100);
    told.measure(15, 1_200);
    assert_eq!(told.read(&replica(100, 15), 1_300), Some(100), "the primary lost the rest itself");
    let mut told = Told::default();
    told.read(&replica(100, 10), 1_000);
    told.measure(20, 1_100);
    told.0.as_mut().unwrap().forget_goal();
    assert_eq!(told.read(&replica(100, 20), 1_200), None, "another primary is the measure now");
    told.measure(18, 1_300);
    assert_eq!(told.read(&replica(100, 20), 1_400), Some(100));
}

#[test]
fn on_mariadb_the_primarys_place_is_the_goal() {
    let maria = |text: &str| GtidSet::parse(Flavor::MariaDb, text).unwrap();
    let mut facts = samples::facts(Flavor::MariaDb, 2);
    // Built from a backup without binlogs: of what server 1 wrote it knows nothing, and holds it all.
    facts.executed = maria("0-2-100");
    facts.channels[0].received = maria("0-2-100");
    let mut life = None;
    Life::read(&mut life, &facts, Part::Receives, 1_000);
    assert!(life.as_mut().unwrap().measure(&maria("0-1-50,0-2-100"), 1_100));
    Life::read(&mut life, &facts, Part::Receives, 1_200);
    assert!(life.unwrap().caught_up_since().is_some());
}

#[test]
fn a_server_that_does_not_date_its_start_is_never_caught_up() {
    let mut told = Told::default();
    told.read(&replica(100, 10), 1_000);
    told.measure(10, 1_100);
    assert_eq!(told.read(&ServerFacts { started_at_s: None, ..replica(100, 10) }, 1_200), None);
}
