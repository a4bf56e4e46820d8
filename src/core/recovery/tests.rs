//! Barriers and resumption, driven event by event against a small world that answers every effect.

mod drain;
mod fences;
mod forced;
mod too_few_ackers;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::{
    core::{
        analysis::{Class, Code, Evidence, Finding, PrimarySign, ReplicaSign, Verdict},
        plan::step::StepReport,
        replicated::{
            Cluster, Command, Durability, Member, MemberState, Refusal,
            command::{StartRecovery, Switch},
            recovery::{Revoked, Testimony},
        },
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, SemiSync, ServerFacts},
        gtid::GtidSet,
        server::{ClusterId, Flavor, Identity, Version},
    },
};

const OLD: &str = "00000000-0000-0000-0000-000000000001";

fn uuid(n: u32) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

fn id(n: u32) -> ServerId {
    ServerId(uuid(n))
}

fn identity(n: u32) -> Identity {
    Identity { flavor: Flavor::MySql, server_uuid: Some(uuid(n)), server_id: n, server_uid: None }
}

fn set(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MySql, text).unwrap()
}

fn member(n: u32) -> Member {
    Member {
        server: id(n),
        identity: identity(n),
        address: Address::new(format!("db{n}"), 3306),
        version: "9.7.4".into(),
        source: (n > 1).then(|| id(1)),
        channel: String::new(),
        channels: u32::from(n > 1),
        datacenter: None,
        state: MemberState::Normal,
    }
}

fn facts(n: u32, executed: &str, received: &str) -> ServerFacts {
    let channel = Channel {
        name: String::new(),
        source: Address::new("db1", 3306),
        source_uuid: Some(uuid(1)),
        source_server_id: Some(1),
        receiver: Receiver::Stopped,
        receiver_error: None,
        applier_running: true,
        applier_error: None,
        received: set(received),
        by_gtid: true,
        read_position: ("b.1".into(), 4),
        executed_position: ("b.1".into(), 4),
        lag_s: Some(0),
        delay_s: 0,
        heartbeat_period_ms: Some(500),
        heartbeats: Some(1),
        heartbeat_age_ms: None,
        filtered: false,
        tls: false,
    };
    ServerFacts {
        identity: identity(n),
        version: "9.7.4".parse::<Version>().unwrap(),
        started_at_s: Some(1),
        reports_as: None,
        read_only: true,
        super_read_only: Some(true),
        offline_mode: Some(false),
        gtid_on: true,
        executed: set(executed),
        purged: None,
        log_bin: true,
        log_replica_updates: true,
        binlog_format: Some("ROW".into()),
        semi_sync: SemiSync::default(),
        connections: None,
        channels: if n > 1 { vec![channel] } else { vec![] },
        replicas: None,
        dump_clients: None,
        durability: None,
    }
}

/// State, machine, and a world that ends every effect at once; which step ends how is the test's to say.
struct World {
    state: State,
    machine: Machine,
    known: Sets,
    fencers: BTreeSet<u64>,
    now_ms: u64,
    index: u64,
    term: u64,
    node: u64,
    facts: BTreeMap<ServerId, ServerFacts>,
    /// Ends for steps by (action, server); `Done` otherwise.
    ends: BTreeMap<(&'static str, ServerId), StepEnd>,
    fence: StepEnd,
    /// Everything that was done, in order.
    trace: Vec<String>,
    /// Commands proposed after this many are lost, with the process.
    dies_before: Option<&'static str>,
    /// Effects that were not answered yet, where a test stops between two.
    left: VecDeque<Effect>,
}

impl World {
    fn new(kind: Kind, semi_sync: Option<(u32, Vec<ServerId>)>) -> Self {
        let mut state = State::default();
        state.voters = (1..=3).map(|n| (n, format!("i{n}"))).collect();
        let cluster = Cluster {
            id: ClusterId("c".into()),
            alias: None,
            flavor: Flavor::MySql,
            primary: Some(id(1)),
            epoch: 1,
            members: (1..=4).map(|n| (id(n), member(n))).collect(),
            generation: 1,
            recoveries: Switch::default(),
            durability: Durability::Async,
            slot: None,
            failed_attempts: 0,
            retry_not_before_ms: 0,
            primary_since: None,
            witness: None,
        };
        state.clusters.insert(cluster.id.clone(), cluster);
        let mut world = World {
            machine: Machine::new(placeholder(), Policy::default(), 0),
            state,
            known: Sets { old_primary: Some(set(&format!("{OLD}:1-10"))), ..Sets::default() },
            fencers: BTreeSet::from([1, 2, 3]),
            now_ms: 10_000,
            index: 10,
            term: 1,
            node: 1,
            facts: (1..=4)
                .map(|n| (id(n), facts(n, &format!("{OLD}:1-10"), &format!("{OLD}:1-10"))))
                .collect(),
            ends: BTreeMap::new(),
            fence: StepEnd::Refused { why: "connection refused".into() },
            trace: Vec::new(),
            dies_before: None,
            left: VecDeque::new(),
        };
        let evidence = if kind == Kind::Failover { vec![dead(1), dead(2)] } else { vec![] };
        let revoked =
            (2..=4).map(|n| Revoked { target: member(n).target(), channel: String::new() }).collect();
        let outcome = world.commit(Change::StartRecovery(Box::new(StartRecovery {
            kind,
            cluster: ClusterId("c".into()),
            class: Class::Primary,
            code: None,
            epoch: 1,
            generation: 1,
            subject: id(1),
            evidence,
            revoked,
            semi_sync,
            waived: vec![],
            to: None,
            kill_writers: false,
        })));
        let Outcome::Done { id, .. } = outcome else { panic!("{outcome:?}") };
        world.machine = Machine::new(world.state.recoveries[&id].clone(), Policy::default(), world.now_ms);
        world
    }

    fn commit(&mut self, change: Change) -> Outcome {
        self.index += 1;
        let command = Command {
            at_ms: self.now_ms,
            wall_ms: 0,
            node: self.node,
            term: self.term,
            by: "t".into(),
            request_id: None,
            change,
        };
        self.state.apply(self.index, &command)
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let context = Context {
            state: &self.state,
            known: &self.known,
            node: self.node,
            fencers: &self.fencers,
            now_ms: self.now_ms,
        };
        self.machine.advance(event, &context)
    }

    /// Runs until nothing is left to do. Whether it got there (and did not die on the way).
    fn run(&mut self, resumed: bool) -> bool {
        let mut queue: VecDeque<Effect> = self.feed(Event::Begin { resumed }).into();
        for _ in 0..1_000 {
            let Some(effect) = queue.pop_front() else {
                if self.machine.stage() == Stage::Over {
                    return true;
                }
                self.now_ms += 50;
                queue.extend(self.feed(Event::Tick));
                continue;
            };
            match effect {
                Effect::Run { id, step, .. } => {
                    if self.dies(step.action.name()) {
                        return false;
                    }
                    let end = self.end_of(&step);
                    self.trace.push(format!("{} {}", step.action.name(), step.target.address.host));
                    let began_ms = self.now_ms;
                    self.now_ms += 1;
                    queue.extend(self.feed(Event::StepEnded { id, end, began_ms }));
                }
                Effect::FenceEverywhere { .. } => {
                    for node in [1, 2, 3] {
                        let end = self.fence.clone();
                        queue.extend(self.feed(Event::FenceEnded { node, end }));
                    }
                }
                Effect::Propose(change) => {
                    if self.dies(change.name()) {
                        return false;
                    }
                    self.trace.push(change.name().into());
                    let outcome = self.commit(change);
                    queue.extend(self.feed(Event::Committed { outcome }));
                }
                Effect::Record(_) => {}
                Effect::Over => return true,
            }
        }
        panic!("it never ended: {:?}, {:?}", self.machine.stage(), self.trace);
    }

    /// Answers effects until nothing but time is left, and returns.
    fn settle(&mut self, effects: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.into();
        while let Some(effect) = queue.pop_front() {
            let effects = self.answer(effect);
            queue.extend(effects);
        }
    }

    /// Answers one effect: what follows from it.
    fn answer(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Run { id, step, .. } => {
                let end = self.end_of(&step);
                self.trace.push(format!("{} {}", step.action.name(), step.target.address.host));
                let began_ms = self.now_ms;
                self.feed(Event::StepEnded { id, end, began_ms })
            }
            Effect::FenceEverywhere { .. } => {
                let end = self.fence.clone();
                [1, 2, 3]
                    .into_iter()
                    .flat_map(|node| self.feed(Event::FenceEnded { node, end: end.clone() }))
                    .collect()
            }
            Effect::Propose(change) => {
                self.trace.push(change.name().into());
                let outcome = self.commit(change);
                self.feed(Event::Committed { outcome })
            }
            Effect::Record(_) | Effect::Over => Vec::new(),
        }
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.now_ms += 50;
            let effects = self.feed(Event::Tick);
            self.settle(effects);
        }
    }

    fn dies(&self, at: &str) -> bool {
        self.dies_before == Some(at)
    }

    fn end_of(&mut self, step: &Step) -> StepEnd {
        let server = &step.target.server;
        if let Some(end) = self.ends.get(&(step.action.name(), server.clone())) {
            return end.clone();
        }
        let mut facts = self.facts[server].clone();
        if let Action::Detach { .. } = step.action {
            facts.channels.clear();
            self.facts.insert(server.clone(), facts.clone());
        }
        if let Action::MakeWritable = step.action {
            facts.read_only = false;
            facts.super_read_only = Some(false);
        }
        StepEnd::Done(StepReport { facts: Some(Box::new(facts)), ..StepReport::default() })
    }

    fn recovery(&self) -> &Recovery {
        self.state.recoveries.values().next().unwrap()
    }

    fn position(&self, what: &str) -> usize {
        self.trace
            .iter()
            .position(|t| t.starts_with(what))
            .unwrap_or_else(|| panic!("no {what} in {:?}", self.trace))
    }

    fn last(&self, what: &str) -> usize {
        self.trace
            .iter()
            .rposition(|t| t.starts_with(what))
            .unwrap_or_else(|| panic!("no {what} in {:?}", self.trace))
    }
}

fn placeholder() -> Recovery {
    Recovery {
        id: 0,
        cluster: ClusterId("c".into()),
        kind: Kind::Failover,
        class: Class::Primary,
        code: None,
        epoch: 1,
        old_primary: member(1).target(),
        requested_by: None,
        waived: vec![],
        to: None,
        kill_writers: false,
        evidence: vec![],
        revoked: vec![],
        semi_sync: None,
        owner: (1, 1),
        side_effects: false,
        phase: Phase::Ended,
        decision: None,
        steps: vec![],
        started_ms: 0,
        started_wall_ms: 0,
        ending: None,
        reason: String::new(),
        ended_ms: None,
        ended_wall_ms: None,
        left_behind: vec![],
        acknowledged: None,
        undo: None,
        supersedes: None,
        passed_over: vec![],
    }
}

fn dead(node: u64) -> Testimony {
    let evidence = Evidence {
        primary: PrimarySign::Gone { how: "refused".into() },
        replicas: (2..=4).map(|n| (id(n), ReplicaSign::Lost)).collect(),
        hard: true,
        urgent_round_done: false,
        needs_witness: false,
        text: String::new(),
    };
    Testimony {
        verdict: Verdict {
            node,
            incarnation: format!("i{node}"),
            sequence: 1,
            cluster: ClusterId("c".into()),
            epoch: 1,
            subject: id(1),
            finding: Finding::Failure { class: Class::Primary, code: Code::DeadPrimary, evidence },
        },
        age_ms: 1,
    }
}

#[test]
fn a_failover_passes_its_barriers_in_order() {
    let mut world = World::new(Kind::Failover, None);
    assert!(world.run(false));
    let order = [
        world.last("stop_receiver"),
        world.position("decide_promotion"),
        world.position("drain"),
        world.position("record_intent").max(world.position("detach")),
        world.position("make_writable"),
        world.position("verify_write"),
        world.position("publish"),
        world.position("point"),
        world.position("finish_recovery"),
    ];
    assert!(order.is_sorted(), "{:?}", world.trace);
    assert_eq!(world.recovery().ending, Some(Ending::Succeeded));
    assert_eq!(world.state.clusters[&ClusterId("c".into())].primary, Some(id(2)));
    assert_eq!(world.state.blocks.len(), 1);
    assert_eq!(world.state.orders.len(), 1);
}

#[test]
fn semi_sync_ackers_follow_the_candidate_before_it_is_writable() {
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2), id(3), id(4)])));
    assert!(world.run(false));
    assert!(world.position("point") < world.position("make_writable"), "{:?}", world.trace);
    assert!(world.position("enable_semi_sync_source") < world.position("make_writable"));
    assert_eq!(world.recovery().ending, Some(Ending::Succeeded));
}

#[test]
fn the_one_that_received_most_is_promoted() {
    let mut world = World::new(Kind::Failover, None);
    world.facts.insert(id(4), facts(4, &format!("{OLD}:1-8"), &format!("{OLD}:1-12")));
    assert!(world.run(false));
    let decision = world.recovery().decision.clone().unwrap();
    assert_eq!(decision.candidate.server, id(4));
    assert!(decision.lost.is_empty());
}

#[test]
fn a_server_with_several_sources_is_never_promoted() {
    let mut world = World::new(Kind::Failover, None);
    let most = facts(2, &format!("{OLD}:1-10"), &format!("{OLD}:1-20"));
    let mut channels = most.channels.clone();
    channels.insert(
        0,
        Channel { name: "other".into(), source: Address::new("elsewhere", 3306), ..channels[0].clone() },
    );
    world.facts.insert(id(2), ServerFacts { channels, ..most });
    assert!(world.run(false));
    let primary = world.state.clusters[&ClusterId("c".into())].primary.clone();
    assert!(primary.is_some() && primary != Some(id(2)), "{primary:?}");
    let decision = world.recovery().decision.as_ref().unwrap();
    let passed = decision.considered.iter().find(|c| c.server == id(2)).unwrap();
    assert!(!passed.chosen && passed.why.contains("2 sources"), "{}", passed.why);
}

#[test]
fn what_nobody_received_is_recorded_as_lost() {
    let mut world = World::new(Kind::Failover, None);
    world.known.old_primary = Some(set(&format!("{OLD}:1-13")));
    assert!(world.run(false));
    assert_eq!(world.recovery().decision.clone().unwrap().lost, set(&format!("{OLD}:11-13")));
}

#[test]
fn enough_unreached_ackers_stop_a_semi_sync_failover_and_undo_it() {
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2), id(3)])));
    let unknown = StepEnd::Unknown { why: "time-out".into() };
    world.ends.insert(("stop_receiver", id(3)), unknown);
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    assert!(world.recovery().reason.contains("not reached"), "{}", world.recovery().reason);
    assert!(world.trace.iter().all(|t| !t.starts_with("make_writable")));
    assert!(world.trace.contains(&"start_receiver db2".to_owned()));
    assert!(world.trace.contains(&"start_receiver db3".to_owned()), "an unknown end is undone too");
    assert!(world.state.blocks.is_empty(), "a recovery that did not complete leaves no block");
}

#[test]
fn a_primary_that_could_be_fenced_is_alive_and_is_opened_again() {
    let mut world = World::new(Kind::Failover, None);
    world.fence = StepEnd::Done(StepReport::default());
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    assert!(world.trace.contains(&"unfence db1".to_owned()));
    assert!(world.trace.iter().all(|t| !t.starts_with("make_writable")));
}

#[test]
fn a_write_that_cannot_be_proven_is_never_a_success() {
    let mut world = World::new(Kind::Failover, None);
    world.ends.insert(("verify_write", id(2)), StepEnd::Refused { why: "read only".into() });
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Failed));
    assert!(world.trace.iter().all(|t| t != "publish"));
}

#[test]
fn a_switchover_fences_before_it_decides_and_keeps_the_old_primary_as_a_replica() {
    let mut world = World::new(Kind::Switchover, None);
    assert!(world.run(false));
    assert!(world.position("make_read_only") < world.position("decide_promotion"), "{:?}", world.trace);
    assert!(world.trace.contains(&"point db1".to_owned()));
    assert_eq!(world.recovery().ending, Some(Ending::Succeeded));
    assert!(world.state.blocks.is_empty());
    assert!(world.state.orders.is_empty());
}

#[test]
fn a_switchover_that_cannot_fence_is_undone() {
    let mut world = World::new(Kind::Switchover, None);
    world.ends.insert(("make_read_only", id(1)), StepEnd::Refused { why: "lock wait timeout".into() });
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    assert!(!world.trace.contains(&"unfence db1".to_owned()), "refused: nothing was changed");
}

/// P4: whatever the step before which the leader died, the next one ends it: forward past the point of no return or
/// with a decision, and exactly once.
#[test]
fn a_successor_ends_it_wherever_the_leader_died() {
    let points = [
        "stop_receiver",
        "decide_promotion",
        "drain",
        "record_intent",
        "detach",
        "make_writable",
        "verify_write",
        "publish",
        "point",
        "finish_recovery",
    ];
    for point in points {
        let mut world = World::new(Kind::Failover, None);
        world.dies_before = Some(point);
        assert!(!world.run(false), "{point} was never reached");
        world.dies_before = None;
        (world.node, world.term) = (2, 2);
        let id = world.recovery().id;
        assert!(matches!(
            world.commit(Change::TakeOver { recovery: id, evidence: vec![] }),
            Outcome::Done { .. }
        ));
        world.machine = Machine::new(world.recovery().clone(), Policy::default(), world.now_ms);
        world.trace.push("--- successor".into());
        assert!(world.run(true), "{point}");
        assert_eq!(world.recovery().ending, Some(Ending::Succeeded), "{point}: {:?}", world.trace);
        let cleared = world.trace.iter().skip_while(|t| *t != "--- successor").nth(1).unwrap();
        assert!(cleared.starts_with("kill_predecessors"), "{point}: {cleared}");
        let ends =
            world.state.audit.iter().filter(|a| a.kind == crate::core::replicated::EventKind::RecoveryEnded);
        assert_eq!(ends.count(), 1, "{point}");
        assert!(world.state.clusters[&ClusterId("c".into())].slot.is_none());
    }
}

#[test]
fn a_stale_leaders_commands_change_nothing() {
    let mut world = World::new(Kind::Failover, None);
    world.dies_before = Some("drain");
    assert!(!world.run(false));
    let id = world.recovery().id;
    (world.node, world.term) = (2, 2);
    world.commit(Change::TakeOver { recovery: id, evidence: vec![] });
    (world.node, world.term) = (1, 1);
    assert!(matches!(world.commit(Change::RecordIntent { recovery: id }), Outcome::Refused(_)));
    assert_eq!(world.recovery().phase, Phase::Decided);
}

#[test]
fn a_cancelled_one_is_undone_before_the_point_of_no_return_only() {
    let mut world = World::new(Kind::Failover, None);
    world.dies_before = Some("make_writable");
    assert!(!world.run(false));
    assert!(world.feed(Event::Cancel { why: "operator".into() }).is_empty());
    let mut early = World::new(Kind::Failover, None);
    early.dies_before = Some("drain");
    assert!(!early.run(false));
    let effects = early.feed(Event::Cancel { why: "operator".into() });
    assert!(effects.iter().any(|e| matches!(e, Effect::Propose(Change::BeginUndo { .. }))));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Run { step, .. } if step.action.name() == "start_receiver"))
    );
}

/// MySQL takes 2.0 s and more to stop a receiver that tries to connect to a silent host: longer than the deadline of
/// revocation. Where nobody else is left that is waited for; where somebody is, it is not.
#[test]
fn slow_stops_are_waited_for_where_nobody_could_be_promoted_without_them() {
    for slow in [vec![2, 3, 4], vec![4]] {
        let mut world = World::new(Kind::Failover, None);
        let effects = world.feed(Event::Begin { resumed: false });
        let is_slow = |effect: &Effect| match effect {
            Effect::Run { step, .. } => slow.iter().any(|n| step.target.server == id(*n)),
            _ => false,
        };
        let (held, rest): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(is_slow);
        assert_eq!(held.len(), slow.len());
        let mut ends: Vec<u64> = held
            .iter()
            .filter_map(
                |effect| if let Effect::Run { deadline_ms, .. } = effect { Some(*deadline_ms) } else { None },
            )
            .collect();
        assert!(ends.drain(..).all(|deadline_ms| deadline_ms > 2_300));
        world.settle(rest);
        world.wait(1_450);
        assert!(
            !world.trace.contains(&"decide_promotion".to_owned()),
            "before the deadline all are waited for"
        );
        world.wait(600);
        assert_eq!(world.trace.contains(&"decide_promotion".to_owned()), slow.len() < 3, "{slow:?}");
        world.settle(held);
        world.wait(1_000);
        assert_eq!(world.recovery().ending, Some(Ending::Succeeded), "{slow:?}: {:?}", world.trace);
    }
}
