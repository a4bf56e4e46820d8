//! Faults that only together try a promise, and that chance seldom brings together. Drawn by a generator of their own: the
//! seeds that get none mean what they meant without this file, and those of the stories get none.

use super::{
    fault::{Fault, Planned, Point, When, Who, WhoNode},
    fleet::Kill,
    real::Tier,
    rng::Rng,
    scenario::{Kind, Scenario},
    stories::stories,
    stranger::Guise,
};

/// How many storms in a hundred get some.
const STORMS_PERCENT: u64 = 20;
/// Of the others, in how many in a hundred a start is overtaken.
const OVERTAKEN_PERCENT: u64 = 4;
/// How many runs in a hundred in which only views are harmed get one more.
const OBSERVERS_PERCENT: u64 = 50;
/// In how many storms in a hundred identities change.
const IDENTITIES_PERCENT: u64 = 12;
/// A leader of such a group keeps its office over a silence in which a start grows old, milliseconds.
const SLOW_MS: u64 = 1_000;

/// What is added to a run.
pub fn faults(seed: u64, scenario: &Scenario) -> Vec<Planned> {
    let mut rng = Rng::new(seed, "together");
    let rng = &mut rng;
    if stories(Tier::A).iter().any(|(told, _)| *told == seed) {
        return Vec::new();
    }
    if scenario.kind == Kind::Observers && rng.chance(OBSERVERS_PERCENT) {
        // The nodes' view again, but that of a majority: its replicas hear the primary all the time.
        let at = rng.range(8_000, 45_000);
        return vec![planned(at, rng.range(2_000, 20_000), Fault::CutMajority(Who::Primary))];
    }
    let replicas = scenario.servers.iter().filter(|plan| plan.source == Some(0)).count();
    if scenario.kind != Kind::Storm || replicas < 2 {
        return Vec::new();
    }
    let (many, at) = (rng.chance(STORMS_PERCENT), rng.range(8_000, 45_000));
    if !many {
        return if rng.chance(OVERTAKEN_PERCENT) { start_is_overtaken(at, rng) } else { Vec::new() };
    }
    let acks = scenario.semi_sync.map(|acks| acks as usize);
    match (rng.range(0, if acks.is_some() { 6 } else { 4 }), acks) {
        (0, _) => received_more(at, replicas, rng),
        (1, _) => fence_lands_late(at, replicas, acks, rng),
        (2, _) => candidate_dies(at, rng),
        (4, Some(_)) => {
            vec![aside(at, replicas, rng)]
        }
        (5, Some(acks)) => ackers_lose_their_tail(at, replicas, acks, rng),
        _ if scenario.timing.election_max_ms > SLOW_MS => start_comes_late(at, rng),
        _ => received_more(at, replicas, rng),
    }
}

/// Servers that are not who they were, in some storms: at any time, and when a recovery is about to touch them.
pub fn identities(seed: u64, scenario: &Scenario) -> Vec<Planned> {
    let mut rng = Rng::new(seed, "identities");
    let rng = &mut rng;
    let told = stories(Tier::A).iter().any(|(told, _)| *told == seed);
    if told || scenario.kind != Kind::Storm || !rng.chance(IDENTITIES_PERCENT) {
        return Vec::new();
    }
    let servers = scenario.servers.len() as u64;
    match rng.chance(40) {
        true => stranger_testifies(servers, rng),
        false => (0..rng.range(1, 4)).map(|_| identity(servers, rng)).collect(),
    }
}

/// A replica that was set up anew follows the primary under its old address for long, and the primary dies.
fn stranger_testifies(servers: u64, rng: &mut Rng) -> Vec<Planned> {
    let (at, who) = (rng.range(7_000, 30_000), Who::Other(rng.range(0, servers) as usize));
    let stranger = planned(at, 40_000, Fault::Stranger(who, Guise::Restored));
    vec![stranger, kill(at + rng.range(10_500, 18_000), Who::Primary, rng.range(8_000, 20_000))]
}

fn identity(servers: u64, rng: &mut Rng) -> Planned {
    let one = rng.range(0, servers) as usize;
    let guise = *rng.pick(&[Guise::Restored, Guise::Restored, Guise::Empty, Guise::Twin]);
    let fault = match rng.range(0, 5) {
        0 => Fault::Stranger(Who::Primary, guise),
        // The first primary, whatever it is by then.
        1 => Fault::Stranger(Who::Server(0), guise),
        2 => Fault::SwapServers(Who::Other(one), Who::Other(one + 1)),
        _ => Fault::Stranger(Who::Other(one), guise),
    };
    let when = match rng.range(0, 4) {
        0 => When::After(Point::Started, rng.range(0, 300)),
        1 => When::After(Point::Published, rng.range(0, 2_000)),
        _ => When::At(rng.range(7_000, 55_000)),
    };
    Planned { when, for_ms: rng.range(2_000, 30_000), fault }
}

fn planned(at: u64, for_ms: u64, fault: Fault) -> Planned {
    Planned { when: When::At(at), for_ms, fault }
}

fn kill(at: u64, who: Who, for_ms: u64) -> Planned {
    planned(at, for_ms, Fault::KillServer(who, Kill::Process))
}

/// The primary is cut off with one that acknowledges what it writes.
fn aside(at: u64, replicas: usize, rng: &mut Rng) -> Planned {
    let with = Who::Other(rng.range(0, replicas as u64) as usize);
    planned(at, rng.range(6_000, 20_000), Fault::Aside(Who::Primary, with))
}

/// The one that received most has applied least when the primary dies.
fn received_more(at: u64, replicas: usize, rng: &mut Rng) -> Vec<Planned> {
    let one = rng.range(0, replicas as u64) as usize;
    let cut = at + rng.range(300, 1_500);
    let dead = cut + rng.range(500, 2_000);
    let others = (0..replicas).filter(|no| *no != one).map(Who::Other);
    let cuts = others.map(|other| planned(cut, 9_000, Fault::CutServers(Who::Primary, other)));
    let held = planned(at, 9_000, Fault::HoldApplier(Who::Other(one)));
    cuts.chain([held, kill(dead, Who::Primary, rng.range(8_000, 20_000))]).collect()
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

/// The start of a recovery reaches nobody for a while.
fn start_comes_late(at: u64, rng: &mut Rng) -> Vec<Planned> {
    let when = When::After(Point::Proposed, 0);
    let apart = Planned { when, for_ms: rng.range(1_200, 2_500), fault: Fault::Apart };
    vec![kill(at, Who::Primary, rng.range(8_000, 20_000)), apart]
}

/// The primary is back, and seen, before the start that its end led to comes to the log.
fn start_is_overtaken(at: u64, rng: &mut Rng) -> Vec<Planned> {
    let held = planned(at, 5_000, Fault::HoldStarts(WhoNode::Leader, rng.range(300, 900)));
    vec![held, kill(at + rng.range(200, 1_000), Who::Primary, rng.range(100, 600))]
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
