//! Values for tests: a cluster of `db1` (the primary) and replicas of it, all healthy. A test changes what it is about.

use std::collections::BTreeSet;

use crate::{
    core::{
        analysis::{Class, Code, Evidence, Finding, PrimarySign, ReplicaSign, Verdict},
        plan::marks::{Mark, Marks},
        replicated::{
            Cluster, Member, MemberState,
            recovery::{Kind, Phase, Recovery, Testimony},
        },
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, SemiSync, ServerFacts},
        gtid::GtidSet,
        server::{ClusterId, Flavor, Identity, ServerId, Version},
    },
};

/// Server `n` by its identity.
pub fn id(n: u32) -> ServerId {
    ServerId(format!("00000000-0000-0000-0000-{n:012}"))
}

/// The identity itself; MariaDB has no uuid.
pub fn identity(flavor: Flavor, n: u32) -> Identity {
    let server_uuid = (flavor == Flavor::MySql).then(|| id(n).0);
    Identity { flavor, server_uuid, server_id: n, server_uid: None }
}

/// `dbN:3306`.
pub fn address(n: u32) -> Address {
    Address::new(format!("db{n}"), 3306)
}

/// A MySQL set.
pub fn set(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MySql, text).unwrap()
}

/// What voters remember that saw these servers, which hold nothing yet, caught up since they were started.
pub fn caught_up(servers: impl IntoIterator<Item = u32>) -> Marks {
    let mark = Mark { held: GtidSet::empty(Flavor::MySql), caught_up: BTreeSet::from([1]) };
    servers.into_iter().map(|n| (id(n), mark.clone())).collect()
}

/// A member; all but the first replicate from it.
pub fn member(flavor: Flavor, n: u32) -> Member {
    Member {
        server: id(n),
        identity: identity(flavor, n),
        address: address(n),
        version: version(flavor).into(),
        source: (n > 1).then(|| id(1)),
        channel: String::new(),
        channels: u32::from(n > 1),
        datacenter: None,
        state: MemberState::Normal,
    }
}

/// Cluster `c` of that many members, nothing known of its durability.
pub fn cluster(flavor: Flavor, members: u32) -> Cluster {
    Cluster {
        primary: Some(id(1)),
        members: (1..=members).map(|n| (id(n), member(flavor, n))).collect(),
        ..Cluster::new(ClusterId("c".into()), flavor)
    }
}

/// A failover of [`cluster`] away from its primary, of which nothing was done yet.
pub fn recovery(flavor: Flavor) -> Recovery {
    Recovery {
        id: 0,
        cluster: ClusterId("c".into()),
        kind: Kind::Failover,
        class: Class::Primary,
        code: None,
        epoch: 1,
        old_primary: member(flavor, 1).target(),
        requested_by: None,
        waived: vec![],
        to: None,
        kill_writers: false,
        evidence: vec![],
        revoked: vec![],
        semi_sync: None,
        owner: (1, 1),
        side_effects: false,
        phase: Phase::Started,
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
        voters: vec![],
    }
}

/// A channel that receives from `source` and is up to date.
pub fn channel(flavor: Flavor, source: u32) -> Channel {
    Channel {
        name: String::new(),
        source: address(source),
        source_uuid: identity(flavor, source).server_uuid,
        source_server_id: Some(source),
        receiver: Receiver::Running,
        receiver_error: None,
        applier_running: true,
        applier_error: None,
        received: GtidSet::empty(flavor),
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
    }
}

/// What a probe of member `n` says: the first takes writes, the others are read-only and replicate from it.
pub fn facts(flavor: Flavor, n: u32) -> ServerFacts {
    let replica = n > 1;
    let of_mysql = |value: bool| (flavor == Flavor::MySql).then_some(value);
    ServerFacts {
        identity: identity(flavor, n),
        version: version(flavor).parse::<Version>().unwrap(),
        started_at_s: Some(1),
        uptime_s: Some(86_400),
        reports_as: None,
        read_only: replica,
        super_read_only: of_mysql(replica),
        offline_mode: of_mysql(false),
        gtid_on: true,
        executed: GtidSet::empty(flavor),
        purged: None,
        log_bin: true,
        log_replica_updates: true,
        binlog_format: Some("ROW".into()),
        semi_sync: SemiSync::default(),
        connections: None,
        channels: if replica { vec![channel(flavor, 1)] } else { Vec::new() },
        replicas: None,
        dump_clients: None,
        durability: None,
    }
}

fn version(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "9.7.4",
        Flavor::MariaDb => "10.11.19-MariaDB",
    }
}

/// The verdict of a node that saw `db1` refuse its connections, and its three replicas lose it.
pub fn dead(node: u64) -> Testimony {
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
