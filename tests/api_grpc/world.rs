//! A state made by commands, and what a node sees of its servers.

use std::collections::BTreeMap;

use quorate::{
    api::backend::{LiveServer, PlanView, ProblemView},
    core::{
        analysis::{
            Class, Code, Evidence, Finding, PrimarySign, ReplicaSign, Severity, Verdict,
            observation::AttemptEnd,
        },
        plan::step::{Action, Step, Target},
        replicated::{
            Change, Command, Decision, Durability, Ending, Kind, Member, MemberState, Outcome, State,
            StepRecord,
            command::StartRecovery,
            recovery::{Considered, Revoked, Testimony},
        },
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, SemiSync, ServerFacts},
        gtid::GtidSet,
        server::{ClusterId, Flavor, Identity, ServerId},
    },
};

pub const WALL_MS: u64 = 1_795_305_600_000;
const UUID: &str = "11111111-1111-1111-1111-111111111111";

pub fn server(n: u32) -> ServerId {
    ServerId(format!("server-{n}"))
}

pub fn cluster_id() -> ClusterId {
    ClusterId("c1".into())
}

pub fn member(n: u32, source: Option<u32>) -> Member {
    Member {
        server: server(n),
        identity: identity(n),
        address: Address::new(format!("db{n}"), 3306),
        version: "8.4.2".into(),
        source: source.map(server),
        channel: String::new(),
        channels: u32::from(source.is_some()),
        datacenter: Some(if n <= 2 { "dc1".into() } else { "dc2".into() }),
        state: MemberState::Normal,
    }
}

fn identity(n: u32) -> Identity {
    Identity { flavor: Flavor::MySql, server_uuid: Some(format!("uuid-{n}")), server_id: n, server_uid: None }
}

/// The log, as far as tests write it.
pub struct Log {
    pub state: State,
    pub index: u64,
}

impl Log {
    /// Three voters and nothing else.
    pub fn new() -> Self {
        let mut state = State::default();
        state.set_voters((1..=3).map(|n| (n, format!("inc{n}"))).collect());
        Self { state, index: 10 }
    }

    /// One cluster `orders`: db1 the primary, db2 and db4 below it, db3 below db2.
    pub fn with_orders() -> Self {
        let mut log = Self::new();
        log.apply(adopt());
        log
    }

    /// The same after db1 died and db2 took over, block and all.
    pub fn after_failover() -> Self {
        let mut log = Self::with_orders();
        for node in 1..=3 {
            log.apply(Change::ReportVerdict { verdict: verdict(node, 1, dead()) });
        }
        let id = log.apply(Change::StartRecovery(Box::new(start(Kind::Failover))));
        let decision = Box::new(decision());
        log.apply(Change::DecidePromotion { recovery: id, decision });
        log.apply(Change::RecordIntent { recovery: id });
        log.apply(Change::Publish { recovery: id });
        let step = |step: &str, server: &str, at_ms, outcome: &str| StepRecord {
            step: step.into(),
            server: server.into(),
            node: 1,
            outcome: outcome.into(),
            at_ms,
            took_ms: 4,
        };
        let steps = vec![
            step("stop_receiver", "db2:3306", 3, "done"),
            step("fence", "db1:3306", 3, "unknown: connection refused"),
            step("make_writable", "db2:3306", 31, "done"),
        ];
        log.apply(Change::RecordSteps { recovery: id, steps });
        log.apply(Change::FinishRecovery {
            recovery: id,
            ending: Ending::Succeeded,
            reason: "db2:3306 accepts writes".into(),
            left_behind: vec![(server(1), "dead".into())],
            repointed: vec![server(4)],
            candidate_open: false,
        });
        log
    }

    /// A failover that was given up while its fence of db1 may still land.
    pub fn given_up() -> Self {
        let mut log = Self::with_orders();
        for node in 1..=3 {
            log.apply(Change::ReportVerdict { verdict: verdict(node, 1, dead()) });
        }
        let recovery = log.apply(Change::StartRecovery(Box::new(start(Kind::Failover))));
        let why = "no server can be promoted: db2:3306: its promotion rule is must_not".to_owned();
        log.apply(Change::BeginUndo { recovery, why, fence_unknown: true });
        log
    }

    /// Applies it; panics when it is refused.
    pub fn apply(&mut self, change: Change) -> u64 {
        match self.submit(change, "quorate", None, 1) {
            (_, Outcome::Done { id, .. }) => id,
            (_, other) => panic!("{other:?}"),
        }
    }

    pub fn submit(
        &mut self,
        change: Change,
        by: &str,
        request_id: Option<&str>,
        node: u64,
    ) -> (u64, Outcome) {
        self.index += 1;
        let command = Command {
            at_ms: self.state.log_time_ms + 5,
            wall_ms: WALL_MS + self.index * 10,
            node,
            term: 2,
            by: by.into(),
            request_id: request_id.map(str::to_owned),
            change,
        };
        (self.index, self.state.apply(self.index, &command))
    }
}

pub fn adopt() -> Change {
    Change::AdoptCluster {
        cluster: cluster_id(),
        alias: Some("orders".into()),
        flavor: Flavor::MySql,
        primary: Some(server(1)),
        members: vec![member(1, None), member(2, Some(1)), member(3, Some(2)), member(4, Some(1))],
        durability: Durability::Async,
    }
}

fn target(n: u32) -> Target {
    member(n, None).target()
}

pub fn dead() -> Finding {
    let replicas = vec![(server(2), ReplicaSign::Lost), (server(4), ReplicaSign::Lost)];
    let evidence = Evidence {
        primary: PrimarySign::Gone { how: "connection refused".into() },
        replicas,
        hard: true,
        urgent_round_done: true,
        needs_witness: false,
        text: "db1:3306 refuses connections, 2 of 2 replicas lost it".into(),
    };
    Finding::Failure { class: Class::Primary, code: Code::DeadPrimary, evidence }
}

pub fn verdict(node: u64, sequence: u64, finding: Finding) -> Verdict {
    Verdict {
        node,
        incarnation: format!("inc{node}"),
        sequence,
        cluster: cluster_id(),
        epoch: 1,
        subject: server(1),
        finding,
    }
}

pub fn start(kind: Kind) -> StartRecovery {
    let evidence = match kind {
        Kind::Switchover => vec![],
        _ => (1..=3).map(|n| Testimony { verdict: verdict(n, 2, dead()), age_ms: 10 * n }).collect(),
    };
    StartRecovery {
        kind,
        cluster: cluster_id(),
        class: Class::Primary,
        code: (kind != Kind::Switchover).then_some(Code::DeadPrimary),
        epoch: 1,
        generation: 1,
        subject: server(1),
        evidence,
        revoked: vec![Revoked { target: target(2), channel: String::new() }],
        semi_sync: None,
        waived: vec![],
        to: None,
        kill_writers: false,
    }
}

pub fn gtids(text: &str) -> GtidSet {
    let text = if text.is_empty() { String::new() } else { format!("{UUID}:{text}") };
    GtidSet::parse(Flavor::MySql, &text).unwrap()
}

fn decision() -> Decision {
    Decision {
        candidate: target(2),
        channel: String::new(),
        must_hold: gtids("1-100"),
        lost: gtids("101-102"),
        semi_sync_acks: None,
        unprotected: None,
        ackers: vec![],
        siblings: vec![Revoked { target: target(4), channel: String::new() }],
        considered: considered(),
    }
}

pub fn considered() -> Vec<Considered> {
    let one = |n: u32, chosen, why: &str| Considered {
        server: server(n),
        address: format!("db{n}:3306"),
        chosen,
        why: why.into(),
    };
    vec![
        one(2, true, "holds the most: 100 transactions"),
        one(4, false, "lacks 3 transactions of db2:3306"),
        one(3, false, "is no direct replica of db1:3306"),
    ]
}

pub fn plan_view() -> PlanView {
    let step = |n, action| Step { target: target(n), action };
    PlanView {
        old_primary: server(1),
        candidate: Some(server(2)),
        considered: considered(),
        lost: None,
        stages: vec![
            (
                "revoke and fence".into(),
                vec![step(1, Action::Fence), step(2, Action::StopReceiver { channel: String::new() })],
            ),
            (
                "writable".into(),
                vec![step(2, Action::MakeWritable { must_hold: GtidSet::empty(Flavor::MySql) })],
            ),
        ],
        refused_by: vec![],
        warnings: vec!["db4:3306 lags 12 s".into()],
    }
}

pub fn problem() -> ProblemView {
    ProblemView {
        code: Code::DeadPrimary,
        class: Class::Primary,
        severity: Severity::Critical,
        repaired: true,
        server: Some(server(1)),
        text: "db1:3306 refuses connections, 2 of 2 replicas lost it".into(),
        nodes: vec![1, 2, 3],
    }
}

fn facts(n: u32, source: Option<u32>) -> ServerFacts {
    let received = gtids("1-100");
    let channel = source.map(|source| Channel {
        name: String::new(),
        source: Address::new(format!("db{source}"), 3306),
        source_uuid: None,
        source_server_id: Some(source),
        receiver: Receiver::Running,
        receiver_error: None,
        applier_running: true,
        applier_error: None,
        received,
        by_gtid: true,
        read_position: ("bin.1".into(), 4),
        executed_position: ("bin.1".into(), 4),
        lag_s: Some(0),
        delay_s: 0,
        heartbeat_period_ms: Some(500),
        heartbeats: None,
        heartbeat_age_ms: None,
        filtered: false,
        tls: false,
    });
    ServerFacts {
        identity: identity(n),
        version: "8.4.2".parse().unwrap(),
        started_at_s: None,
        uptime_s: None,
        reports_as: None,
        read_only: source.is_some(),
        super_read_only: Some(source.is_some()),
        offline_mode: None,
        gtid_on: true,
        executed: gtids("1-100"),
        purged: None,
        log_bin: true,
        log_replica_updates: true,
        binlog_format: Some("ROW".into()),
        semi_sync: SemiSync::default(),
        connections: Some((7, 151)),
        channels: channel.into_iter().collect(),
        replicas: None,
        dump_clients: None,
        durability: None,
    }
}

/// A transaction that no primary of this cluster wrote.
pub const ERRANT: &str = "99999999-9999-9999-9999-999999999999:1";

/// All four answer: db4 lags and holds a transaction of its own, db3's receiver is broken, db2 was read a moment later
/// than the primary.
pub fn live() -> BTreeMap<ServerId, LiveServer> {
    let mut live = BTreeMap::new();
    for (n, source) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1))] {
        let mut facts = facts(n, source);
        if n == 3 {
            facts.channels[0].receiver = Receiver::Connecting;
            facts.channels[0].receiver_error = Some((2003, "cannot connect".into()));
            facts.channels[0].lag_s = None;
        }
        if n == 1 {
            facts.identity.server_uuid = Some(UUID.into());
        }
        if n == 2 {
            facts.executed = gtids("1-103");
        }
        if n == 4 {
            facts.executed.merge(&GtidSet::parse(Flavor::MySql, ERRANT).unwrap());
            facts.channels[0].lag_s = Some(12);
        }
        live.insert(
            server(n),
            LiveServer { facts: Some((facts, 120)), last_attempt: Some((AttemptEnd::Answered, 120)) },
        );
    }
    live
}
