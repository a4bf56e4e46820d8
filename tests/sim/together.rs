//! Faults that only together try a promise, and that chance seldom brings together. Drawn by a generator of their own: the
//! seeds that get none mean what they meant without this file.

use super::{
    fault::{Fault, Planned, Point, When, Who, WhoNode},
    fleet::Kill,
    rng::Rng,
    scenario::{Kind, Scenario},
};

/// How many storms in a hundred get some.
const STORMS_PERCENT: u64 = 20;

/// What is added to a run.
pub fn faults(seed: u64, scenario: &Scenario) -> Vec<Planned> {
    let mut rng = Rng::new(seed, "together");
    let rng = &mut rng;
    let replicas = scenario.servers.iter().filter(|plan| plan.source == Some(0)).count();
    if scenario.kind != Kind::Storm || replicas < 2 || !rng.chance(STORMS_PERCENT) {
        return Vec::new();
    }
    let at = rng.range(8_000, 45_000);
    let acks = scenario.semi_sync.map(|acks| acks as usize);
    match (rng.range(0, if acks.is_some() { 6 } else { 4 }), acks) {
        (0, _) => received_more(at, rng),
        (1, _) => fence_lands_late(at, replicas, acks, rng),
        (2, _) => candidate_dies(at, rng),
        (4, Some(_)) => {
            vec![planned(at, rng.range(6_000, 20_000), Fault::Aside(Who::Primary, either(rng).0))]
        }
        (5, Some(acks)) => ackers_lose_their_tail(at, replicas, acks, rng),
        _ => start_comes_late(at, rng),
    }
}

fn planned(at: u64, for_ms: u64, fault: Fault) -> Planned {
    Planned { when: When::At(at), for_ms, fault }
}

fn kill(at: u64, who: Who, for_ms: u64) -> Planned {
    planned(at, for_ms, Fault::KillServer(who, Kill::Process))
}

/// Two replicas, in either order.
fn either(rng: &mut Rng) -> (Who, Who) {
    let (one, other) = (Who::Other(0), Who::Other(1));
    if rng.chance(50) { (one, other) } else { (other, one) }
}

/// The one that received most has applied least when the primary dies.
fn received_more(at: u64, rng: &mut Rng) -> Vec<Planned> {
    let (one, other) = either(rng);
    let cut = at + rng.range(300, 1_500);
    let dead = cut + rng.range(500, 2_000);
    vec![
        planned(at, 9_000, Fault::HoldApplier(one)),
        planned(cut, 9_000, Fault::CutServers(Who::Primary, other)),
        kill(dead, Who::Primary, rng.range(8_000, 20_000)),
    ]
}

/// Nobody can be promoted while the primary is frozen, for want of ackers or of one that applies; and it thaws about when
/// the recovery is given up.
fn fence_lands_late(at: u64, replicas: usize, acks: Option<usize>, rng: &mut Rng) -> Vec<Planned> {
    let frozen = planned(at + 800, rng.range(2_000, 7_500), Fault::FreezeServer(Who::Primary));
    let hold = |no: usize| planned(at, 12_000, Fault::HoldApplier(Who::Other(no)));
    let held = match acks {
        None => (0..replicas).map(hold).collect::<Vec<_>>(),
        Some(acks) => (0..acks).map(|no| kill(at + 700, Who::Other(no), 12_000)).collect(),
    };
    held.into_iter().chain([frozen]).collect()
}

/// The candidate dies when it has been told to take writes.
fn candidate_dies(at: u64, rng: &mut Rng) -> Vec<Planned> {
    let point = *rng.pick(&[Point::Step("make_writable"), Point::Step("verify_write")]);
    let dies = Fault::KillServer(Who::Other(0), Kill::Process);
    let when = When::After(point, rng.range(0, 12));
    vec![kill(at, Who::Primary, 20_000), Planned { when, for_ms: rng.range(5_000, 20_000), fault: dies }]
}

/// No follower's disk is quick enough for the start of a recovery.
fn start_comes_late(at: u64, rng: &mut Rng) -> Vec<Planned> {
    let slow = |no: usize| planned(at - 500, 6_000, Fault::SlowDisk(WhoNode::Other(no), 3_000));
    let dead = kill(at, Who::Primary, rng.range(8_000, 20_000));
    (0..4).map(slow).chain([dead]).collect()
}

/// Those that alone hold the last acknowledged writes have not applied them, and lose them in a power failure; and the
/// primary dies.
fn ackers_lose_their_tail(at: u64, replicas: usize, acks: usize, rng: &mut Rng) -> Vec<Planned> {
    let power = at + rng.range(4_000, 6_000);
    let (back, lost_ms) = (rng.range(200, 1_000), rng.range(200, 500));
    let who = Who::Other;
    let held = (0..acks).map(|no| planned(at, 4_000, Fault::HoldApplier(who(no))));
    let cut = (acks..replicas).map(|no| planned(at, 10_000, Fault::CutServers(Who::Primary, who(no))));
    let lost = (0..acks).map(|no| planned(power, back, Fault::KillServer(who(no), Kill::Power { lost_ms })));
    let dead = kill(power + rng.range(0, 60), Who::Primary, rng.range(8_000, 20_000));
    held.chain(cut).chain(lost).chain([dead]).collect()
}
