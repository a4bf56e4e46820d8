//! A scenario from a seed: any topology, any policy within reason, at least three faults.

use quorate::model::{
    policy::{DrainPolicy, Policy, TooFewAckers},
    server::Flavor,
};

use super::{
    fault::{Fault, Planned, Point, When, Who, WhoNode},
    fleet::Kill,
    operator::Operation,
    raft::Timing,
    real::{Tier, fault::RaftFault},
    rng::Rng,
    scenario::{Kind, NodePlan, Scenario, ServerPlan, Sort},
    together,
};

/// Before this nothing is harmed: the cluster is taken under care and looked at, milliseconds.
const CALM_MS: u64 = 6_000;
/// The faulty phase.
const FAULTY_MS: u64 = 60_000;
/// The healed phase.
const HEALED_MS: u64 = 45_000;

/// The scenario of a seed. That of tier B is the one of tier A with faults of Raft on top, and snapshots more often.
pub fn scenario(sort: Sort, seed: u64) -> Scenario {
    let mut scenario = of_servers(seed, sort.kind);
    if sort.tier == Tier::A {
        scenario.faults.extend(together::faults(seed, &scenario));
        scenario.faults.extend(together::identities(seed, &scenario));
    } else {
        let rng = &mut Rng::new(seed, "faults of Raft");
        scenario.tier = sort.tier;
        scenario.snapshot_every = *rng.pick(&[(8, 3), (20, 5), (50, 10), (200, 50)]);
        scenario.faults.extend((0..rng.range(2, 7)).map(|_| of_raft(rng)));
        for node in &mut scenario.nodes {
            node.sync_ms = *rng.pick(&[0, 1, 5, 20]);
        }
    }
    scenario
}

fn of_raft(rng: &mut Rng) -> Planned {
    use RaftFault::{
        AddLearner, AddVoter, Bridge, CutBoth, Deaf, DiskErrors, DiskFull, DiskLow, HandOver,
        KillThenPowerOff, Mute, PowerOff, PowerOffAll, PowerOffInSync, PowerOffInVote, Replace, Wipe,
    };
    let node = match rng.chance(50) {
        true => WhoNode::Leader,
        false => WhoNode::Other(rng.range(0, 4) as usize),
    };
    let other = WhoNode::Other(rng.range(0, 4) as usize);
    let fault = match rng.range(0, 28) {
        0..=2 => PowerOff(node),
        3..=4 => KillThenPowerOff(node, rng.range(1, 5)),
        5 => PowerOffAll,
        24..=25 => PowerOffInSync(node),
        26..=27 => PowerOffInVote(other),
        6 => DiskErrors(node),
        7 => DiskFull(node),
        8 => DiskLow(node),
        9..=10 => CutBoth(node, other),
        11..=12 => Bridge(other),
        13 => Mute(node),
        14 => Deaf(node),
        15..=17 => HandOver(other),
        18 => AddLearner,
        19..=20 => AddVoter,
        21..=22 => Replace(node),
        23 => Wipe(node),
        _ => unreachable!("fewer than 28"),
    };
    let for_ms = match fault {
        // Long enough to miss what then only a snapshot has.
        CutBoth(..) | Mute(_) | Deaf(_) => rng.range(500, 20_000),
        _ => length(rng),
    };
    let when = match rng.chance(25) {
        true => When::After(point(rng), rng.range(0, 60)),
        false => When::At(CALM_MS + rng.range(0, FAULTY_MS - 5_000)),
    };
    Planned { when, for_ms, fault: Fault::Raft(fault) }
}

fn of_servers(seed: u64, kind: Option<Kind>) -> Scenario {
    let mut rng = Rng::new(seed, "scenario");
    let rng = &mut rng;
    let drawn = match rng.range(0, 100) {
        0..=79 => Kind::Storm,
        80..=91 => Kind::Observers,
        _ => Kind::Flap,
    };
    let kind = kind.unwrap_or(drawn);
    let datacenters = *rng.pick(&[1u8, 1, 2, 3, 3]);
    let nodes: Vec<NodePlan> = (0..*rng.pick(&[3, 3, 3, 5])).map(|at| node(at, datacenters, rng)).collect();
    let flavor = *rng.pick(&[Flavor::MySql, Flavor::MySql, Flavor::MariaDb]);
    let servers = servers(datacenters, rng);
    let replicas = servers.iter().filter(|plan| plan.source == Some(0)).count() as u64;
    let semi_sync = match (rng.range(0, 3), flavor) {
        (0, Flavor::MySql) if replicas >= 3 => Some(rng.range(1, 3) as u32),
        (0, _) if replicas >= 2 => Some(1),
        _ => None,
    };
    let faulty_until = CALM_MS + FAULTY_MS;
    let timing = match rng.chance(75) {
        true => Timing::default(),
        false => Timing { heartbeat_ms: 250, election_max_ms: 2_000 },
    };
    let far = if datacenters > 1 { *rng.pick(&[2, 5, 20]) } else { 1 };
    Scenario {
        kind,
        tier: Tier::A,
        faults: faults(kind, semi_sync.is_some(), servers.len(), datacenters, rng),
        operations: operations(kind, faulty_until, rng),
        policy: policy(semi_sync, rng),
        nodes,
        flavor,
        servers,
        semi_sync,
        timing,
        ways_ms: (*rng.pick(&[0, 1]), far, *rng.pick(&[0, 0, 1, 10])),
        snapshot_every: *rng.pick(&[(20, 5), (50, 10), (400, 50), (5_000, 2_000)]),
        faulty_until,
        end: faulty_until + HEALED_MS,
        clients: (0..rng.range(1, 3)).map(|_| *rng.pick(&[100, 250, 600])).collect(),
    }
}

fn node(at: u64, datacenters: u8, rng: &mut Rng) -> NodePlan {
    NodePlan {
        datacenter: (at % u64::from(datacenters)) as u8,
        drift: *rng.pick(&[0, 0, 200, -200, 50_000, -50_000]),
        apply_lag_ms: *rng.pick(&[0, 0, 0, 5, 100]),
        sync_ms: *rng.pick(&[0, 0, 3, 20]),
    }
}

/// A primary, replicas of it, and at times a replica of a replica.
fn servers(datacenters: u8, rng: &mut Rng) -> Vec<ServerPlan> {
    let plan = |source: Option<usize>, rng: &mut Rng| ServerPlan {
        datacenter: rng.range(0, u64::from(datacenters)) as u8,
        source,
        apply_ms: *rng.pick(&[0, 0, 1, 20, 150]),
        read_only: rng.chance(80),
        sync_binlog: if rng.chance(70) { 1 } else { 0 },
    };
    let mut servers = vec![plan(None, rng)];
    let replicas = *rng.pick(&[1, 2, 2, 3, 3, 4, 5]);
    for at in 0..replicas {
        let chained = at >= 2 && rng.chance(25);
        let source = if chained { 1 } else { 0 };
        servers.push(plan(Some(source), rng));
    }
    servers
}

fn policy(semi_sync: Option<u32>, rng: &mut Rng) -> Policy {
    let defaults = Policy::default();
    Policy {
        primary_probe_interval_ms: *rng.pick(&[250, 250, 500]),
        replica_probe_interval_ms: *rng.pick(&[1_000, 1_000, 2_000]),
        block_for_ms: *rng.pick(&[10_000, 30_000, 1_800_000]),
        retry_backoff_ms: *rng.pick(&[1_000, 5_000]),
        hard_confirm_for_ms: *rng.pick(&[0, 0, 0, 500]),
        soft_confirm_for_ms: *rng.pick(&[0, 0, 1_000]),
        drain_policy: *rng.pick(&[DrainPolicy::Wait, DrainPolicy::NextCandidate, DrainPolicy::Refuse]),
        drain_deadline_ms: *rng.pick(&[1_000, 10_000]),
        drain_max_ms: 20_000,
        allow_known_loss: rng.chance(80),
        verify_by_write: rng.chance(85),
        heartbeat_ms: *rng.pick(&[500, 500, 10_000]),
        rejoin: rng.chance(90),
        witness_pause_ms: *rng.pick(&[0, 5_000, 60_000]),
        semi_sync_acks: semi_sync.unwrap_or(1),
        on_too_few_ackers: *rng.pick(&[TooFewAckers::PromoteUnprotected, TooFewAckers::Refuse]),
        ..defaults
    }
}

fn faults(kind: Kind, semi_sync: bool, servers: usize, datacenters: u8, rng: &mut Rng) -> Vec<Planned> {
    match kind {
        Kind::Storm => storm(semi_sync, servers, datacenters, rng),
        Kind::Observers => {
            let count = rng.range(3, 7);
            (0..count).map(|_| observers(rng)).collect()
        }
        Kind::Flap => {
            let period = *rng.pick(&[300, 1_000, 3_000]);
            let flap = Fault::FlapServer(Who::Server(0), period);
            let whole = Planned { when: When::At(CALM_MS), for_ms: FAULTY_MS, fault: flap };
            let more = (0..2).map(|_| observers(rng));
            std::iter::once(whole).chain(more).collect()
        }
    }
}

fn storm(semi_sync: bool, servers: usize, datacenters: u8, rng: &mut Rng) -> Vec<Planned> {
    let mut faults = Vec::new();
    // Something that a recovery comes of, most times.
    let first = *rng.pick(&[0, 0, 0, 1, 2, 3]);
    let at = When::At(CALM_MS + rng.range(0, 10_000));
    let primary = match first {
        0 => Fault::KillServer(Who::Primary, kill(rng)),
        1 => Fault::IsolateServer(Who::Primary),
        2 => Fault::FreezeServer(Who::Primary),
        _ => Fault::ShutDown(Who::Primary),
    };
    faults.push(Planned { when: at, for_ms: length(rng), fault: primary });
    if let (When::At(at), true) = (at, rng.chance(35)) {
        faults.push(beside(at, rng));
    }
    for _ in 0..rng.range(3, 8) {
        let fault = any(semi_sync, servers, datacenters, rng);
        let when = match rng.chance(40) {
            true => When::After(point(rng), rng.range(0, 60)),
            false => When::At(CALM_MS + rng.range(0, FAULTY_MS - 5_000)),
        };
        let for_ms = match fault {
            Fault::Loss(_) | Fault::Delay(_) | Fault::Apart => rng.range(500, 6_000),
            _ => length(rng),
        };
        faults.push(Planned { when, for_ms, fault });
    }
    faults
}

/// What meets a failover in its first moments: while verdicts are told, the start is proposed, the candidate drains.
fn beside(at: u64, rng: &mut Rng) -> Planned {
    let soon = When::At(at + rng.range(0, 60));
    let leader = WhoNode::Leader;
    let fault = match rng.range(0, 6) {
        0 => Fault::PauseNode(leader),
        1 => Fault::IsolateNode(leader),
        2 => Fault::KillNode(leader),
        3 => Fault::CutNodes(WhoNode::Other(0), leader),
        4 => Fault::Delay(rng.range(50, 800)),
        // The first replica in line does not apply what it receives.
        _ => {
            let when = When::At(at.saturating_sub(rng.range(200, 3_000)).max(CALM_MS));
            return Planned { when, for_ms: 15_000, fault: Fault::HoldApplier(Who::Other(0)) };
        }
    };
    Planned { when: soon, for_ms: rng.range(300, 3_500), fault }
}

fn length(rng: &mut Rng) -> u64 {
    match rng.range(0, 4) {
        0 => rng.range(100, 1_000),
        1 => rng.range(1_000, 4_000),
        _ => rng.range(4_000, 25_000),
    }
}

fn kill(rng: &mut Rng) -> Kill {
    match rng.range(0, 4) {
        0 => Kill::Machine,
        1 => Kill::Power { lost_ms: rng.range(0, 500) },
        _ => Kill::Process,
    }
}

fn point(rng: &mut Rng) -> Point {
    const STEPS: &[&str] = &[
        "stop_receiver",
        "fence",
        "drain",
        "detach",
        "enable_semi_sync_source",
        "make_writable",
        "verify_write",
        "point",
        "unfence",
        "start_receiver",
        "kill_predecessors",
        "make_read_only",
    ];
    match rng.range(0, 8) {
        0 => Point::Started,
        1 => Point::Decided,
        2 => Point::Intent,
        3 => Point::Published,
        _ => Point::Step(rng.pick::<&str>(STEPS)),
    }
}

fn any(semi_sync: bool, servers: usize, datacenters: u8, rng: &mut Rng) -> Fault {
    let server = match rng.chance(55) {
        true => Who::Primary,
        false => Who::Other(rng.range(0, servers as u64) as usize),
    };
    let replica = Who::Other(rng.range(0, servers as u64) as usize);
    let node = match rng.chance(60) {
        true => WhoNode::Leader,
        false => WhoNode::Other(rng.range(0, 4) as usize),
    };
    let other = WhoNode::Other(rng.range(0, 4) as usize);
    match rng.range(0, 34) {
        0..=2 => Fault::KillServer(server, kill(rng)),
        3 => Fault::ShutDown(server),
        4..=5 => Fault::FreezeServer(server),
        6 => Fault::StallServer(server),
        7 => Fault::SaturateServer(server),
        8 => Fault::HoldApplier(replica),
        9 => Fault::StopReceiver(replica),
        10 => Fault::WriteErrant(replica),
        11 if semi_sync => Fault::SemiSyncTimeout(server),
        11..=14 => Fault::KillNode(node),
        15..=17 => Fault::PauseNode(node),
        18 => Fault::SuspendNode(node),
        19 => Fault::SetWall(node, *rng.pick(&[-24, -1, 1, 24])),
        20 => Fault::SlowDisk(node, rng.range(50, 500)),
        21 => Fault::WipeNode(node),
        22 => Fault::ReplaceNode(node),
        23..=24 => Fault::IsolateNode(node),
        25 => Fault::CutNodes(node, other),
        26 => Fault::CutNodeServer(node, server),
        27 => Fault::CutServerNode(server, node),
        28 => Fault::CutMajority(server),
        29 => Fault::CutServers(Who::Primary, replica),
        30 => Fault::IsolateServer(server),
        31 if datacenters > 1 => Fault::CutDatacenter(rng.range(0, u64::from(datacenters)) as u8),
        31 => Fault::Apart,
        32 => Fault::Loss(rng.range(5, 40)),
        _ => Fault::Delay(rng.range(20, 300)),
    }
}

/// What harms one node's view only, or one direction of it.
fn observers(rng: &mut Rng) -> Planned {
    let who = WhoNode::Leader;
    let fault = match rng.range(0, 7) {
        0 => Fault::CutNodeServer(who, Who::Primary),
        1 => Fault::CutServerNode(Who::Primary, who),
        2 => Fault::FlapNodeServer(who, Who::Primary, rng.range(200, 2_000)),
        3 => Fault::IsolateNode(WhoNode::Other(rng.range(0, 4) as usize)),
        4 => Fault::CutNodes(who, WhoNode::Other(rng.range(0, 4) as usize)),
        5 => Fault::Apart,
        _ => Fault::PauseNode(who),
    };
    Planned { when: When::At(CALM_MS + rng.range(0, FAULTY_MS - 10_000)), for_ms: length(rng), fault }
}

fn operations(kind: Kind, until: u64, rng: &mut Rng) -> Vec<(u64, Operation)> {
    if kind != Kind::Storm || rng.chance(40) {
        return Vec::new();
    }
    let count = rng.range(1, 5);
    let mut wish = |_| {
        let operation = match rng.range(0, 12) {
            0..=4 => Operation::Switchover,
            5 => Operation::Force,
            6..=7 => Operation::Acknowledge,
            8 => Operation::Recoveries(false),
            9 => Operation::Recoveries(true),
            10 => Operation::Downtime(rng.range(1_000, 10_000)),
            _ => Operation::Maintenance(rng.range(1_000, 10_000)),
        };
        (rng.range(CALM_MS, until), operation)
    };
    (0..count).map(&mut wish).collect()
}
