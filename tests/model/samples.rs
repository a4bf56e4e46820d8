//! Values of the product for the model's three servers and its nodes.

use std::collections::BTreeSet;

use quorate::{
    core::{
        analysis::{Class, Code, Evidence, Finding, PrimarySign, ReplicaSign, Verdict},
        plan::marks::{Mark, Marks},
        replicated::{Cluster, Durability, Member, MemberState, State, command::Switch, recovery::Testimony},
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, SemiSync, ServerFacts},
        gtid::GtidSet,
        policy::Policy,
        server::{ClusterId, Flavor, Identity, ServerId, Version},
    },
};

use crate::servers::{Held, SERVERS, Server};

/// Nodes that vote. The third one never leads, and is asked for nothing: what it could do the second one does.
const VOTERS: u64 = 3;

pub fn cluster_id() -> ClusterId {
    ClusterId("c".into())
}

/// The one cluster of a state.
pub fn cluster(state: &State) -> &Cluster {
    state.clusters.values().next().expect("it has one")
}

/// What the model calls a server.
pub fn letter(server: usize) -> &'static str {
    ["P", "A", "B"][server]
}

pub fn id(server: usize) -> ServerId {
    ServerId(format!("00000000-0000-0000-0000-00000000000{server}"))
}

/// Which of them has that name.
pub fn number(id: &ServerId) -> usize {
    id.0.bytes().last().map(|last| usize::from(last - b'0')).expect("a name ends with its number")
}

pub fn address(server: usize) -> Address {
    Address::new(letter(server), 3306)
}

/// Whose address it is.
pub fn dialled(at: &Address) -> usize {
    (0..SERVERS).find(|server| &address(*server) == at).expect("one of the three")
}

fn identity(server: usize) -> Identity {
    Identity {
        flavor: Flavor::MySql,
        server_uuid: Some(id(server).0),
        server_id: server as u32 + 1,
        server_uid: None,
    }
}

fn member(server: usize) -> Member {
    Member {
        server: id(server),
        identity: identity(server),
        address: address(server),
        version: "9.7.4".into(),
        source: (server > 0).then(|| id(0)),
        channel: String::new(),
        channels: u32::from(server > 0),
        datacenter: None,
        state: MemberState::Normal,
    }
}

/// The set as the product knows it.
pub fn set(held: Held) -> GtidSet {
    let parts: Vec<String> = (0..SERVERS)
        .filter(|server| held.0[*server] > 0)
        .map(|server| format!("{}:1-{}", id(server), held.0[server]))
        .collect();
    GtidSet::parse(Flavor::MySql, &parts.join(",")).expect("a set")
}

/// Whether `held` is all of `goal`.
pub fn holds(held: Held, goal: &GtidSet) -> bool {
    set(held).contains(goal)
}

/// What the nodes remember: the servers live since before the first event, and none of them is started anew.
pub fn caught_up() -> Marks {
    let mark = Mark { held: GtidSet::empty(Flavor::MySql), caught_up: BTreeSet::from([1]) };
    (0..SERVERS).map(|server| (id(server), mark.clone())).collect()
}

pub fn facts(server: usize, now: &Server) -> ServerFacts {
    let replica = now.source.is_some();
    ServerFacts {
        identity: identity(server),
        version: "9.7.4".parse::<Version>().expect("a version"),
        started_at_s: Some(1),
        uptime_s: Some(86_400),
        reports_as: None,
        read_only: now.read_only,
        super_read_only: Some(now.read_only),
        offline_mode: Some(false),
        gtid_on: true,
        executed: set(now.executed),
        purged: None,
        log_bin: true,
        log_replica_updates: true,
        binlog_format: None,
        semi_sync: SemiSync { source_enabled: Some(now.acks.is_some()), ..SemiSync::default() },
        connections: None,
        channels: if replica { vec![channel(now)] } else { Vec::new() },
        replicas: None,
        dump_clients: None,
        durability: None,
    }
}

fn channel(now: &Server) -> Channel {
    let source = now.source.expect("a replica");
    Channel {
        name: String::new(),
        source: address(source),
        source_uuid: identity(source).server_uuid,
        source_server_id: Some(source as u32 + 1),
        receiver: if now.receives { Receiver::Running } else { Receiver::Stopped },
        receiver_error: None,
        applier_running: true,
        applier_error: None,
        received: set(now.received),
        by_gtid: true,
        read_position: (String::new(), 0),
        executed_position: (String::new(), 0),
        lag_s: None,
        delay_s: 0,
        heartbeat_period_ms: None,
        heartbeats: None,
        heartbeat_age_ms: None,
        filtered: false,
        tls: false,
    }
}

/// What node `node` says of a primary that it does not reach.
pub fn dead(node: u64, epoch: u64, primary: usize) -> Testimony {
    let replicas = (0..SERVERS).filter(|server| *server != primary);
    let evidence = Evidence {
        primary: PrimarySign::Gone { how: String::new() },
        replicas: replicas.map(|server| (id(server), ReplicaSign::Lost)).collect(),
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
            cluster: cluster_id(),
            epoch,
            subject: id(primary),
            finding: Finding::Failure { class: Class::Primary, code: Code::DeadPrimary, evidence },
        },
        age_ms: 1,
    }
}

/// The replicated state of a healthy cluster whose primary is P.
pub fn state(policy: Policy, durability: Durability) -> State {
    let cluster = Cluster {
        id: cluster_id(),
        alias: None,
        flavor: Flavor::MySql,
        primary: Some(id(0)),
        epoch: 1,
        members: (0..SERVERS).map(|server| (id(server), member(server))).collect(),
        generation: 1,
        recoveries: Switch::default(),
        durability,
        slot: None,
        failed_attempts: 0,
        retry_not_before_ms: 0,
        primary_since: None,
        witness: None,
    };
    State {
        voters: (1..=VOTERS).map(|node| (node, format!("i{node}"))).collect(),
        clusters: [(cluster_id(), cluster)].into(),
        policy,
        ..State::default()
    }
}

/// Bounds that are longer than any pause in the model are over at its next one; a block never ends by itself.
pub fn policy() -> Policy {
    Policy {
        drain_deadline_ms: 10_000,
        drain_max_ms: 15_000,
        retry_backoff_max_ms: 10_000,
        breaker_recoveries: 1_000,
        block_for_ms: 1_000_000_000,
        audit_keep: 100,
        ..Policy::default()
    }
}
