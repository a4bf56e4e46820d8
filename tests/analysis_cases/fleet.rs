//! Builds what the analysis judges: a cluster, and one node's observations of its members.

use std::{collections::BTreeMap, sync::Arc};

use quorate::{
    core::{
        analysis::{
            Finding,
            observation::{AttemptEnd, Observation},
            problem::{self, Problem, View},
        },
        replicated::{
            cluster::{Cluster, Member, MemberState},
            state::Pause,
        },
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, SemiSync, ServerFacts},
        gtid::GtidSet,
        policy::Policy,
        server::{ClusterId, Flavor, Identity, ServerId},
    },
};

/// The node's clock at the time of judging. Everything is given as so many milliseconds ago.
pub const NOW_MS: u64 = 1_000_000;

/// A cluster under construction, and what one node has seen of it.
pub struct Fleet {
    pub cluster: Cluster,
    pub observations: BTreeMap<ServerId, Observation>,
    pub policy: Policy,
    pub downtimes: BTreeMap<ServerId, Pause>,
    pub urgent_round_done_ms: Option<u64>,
    pub recoveries_running: bool,
}

impl Fleet {
    /// A MySQL cluster whose primary is called `primary`.
    pub fn new(primary: &str) -> Self {
        let cluster = Cluster {
            primary: Some(ServerId(primary.into())),
            ..Cluster::new(ClusterId("c".into()), Flavor::MySql)
        };
        Self {
            cluster,
            observations: BTreeMap::new(),
            policy: Policy::default(),
            downtimes: BTreeMap::new(),
            urgent_round_done_ms: None,
            recoveries_running: false,
        }
    }

    /// Adds a member, healthy and seen 100 ms ago, that replicates from `source`.
    pub fn add(&mut self, name: &str, address: Address, source: Option<&str>) {
        let server = ServerId(name.into());
        let number = self.cluster.members.len() as u32 + 1;
        let member = Member {
            server: server.clone(),
            identity: identity(name, number),
            address,
            version: "9.7.4".into(),
            source: source.map(|s| ServerId(s.into())),
            channel: String::new(),
            channels: u32::from(source.is_some()),
            datacenter: None,
            state: MemberState::Normal,
        };
        let channels = source.map(|s| channel(self.address_of(s), s)).into_iter().collect();
        let observation = Observation {
            watched_since_ms: Some(0),
            answered_ms: Some(ago(100)),
            facts: Some(Arc::new(facts(member.identity.clone(), channels))),
            last_attempt: Some((ago(100), AttemptEnd::Answered)),
            ..Observation::default()
        };
        self.cluster.members.insert(server.clone(), member);
        self.observations.insert(server, observation);
    }

    /// Where a member listens; an address of its own where it is not known (yet).
    pub fn address_of(&self, name: &str) -> Address {
        let member = self.cluster.members.get(&ServerId(name.into()));
        member.map(|m| m.address.clone()).unwrap_or_else(|| Address::new(name, 3306))
    }

    pub fn observation(&mut self, name: &str) -> &mut Observation {
        self.observations.get_mut(&ServerId(name.into())).expect("the server was added before")
    }

    pub fn facts(&mut self, name: &str) -> &mut ServerFacts {
        Arc::make_mut(self.observation(name).facts.as_mut().expect("it has facts"))
    }

    /// The channel of a replica.
    pub fn channel(&mut self, name: &str) -> &mut Channel {
        self.facts(name).channels.first_mut().expect("it is a replica")
    }

    pub fn downtime(&mut self, name: &str) {
        let pause = Pause { by: "op".into(), why: "disk".into(), until_ms: u64::MAX };
        self.downtimes.insert(ServerId(name.into()), pause);
    }

    pub fn view(&self) -> View<'_> {
        View {
            cluster: &self.cluster,
            observations: &self.observations,
            policy: &self.policy,
            downtimes: &self.downtimes,
            now_ms: NOW_MS,
            urgent_round_done_ms: self.urgent_round_done_ms,
            recoveries_running: self.recoveries_running,
        }
    }

    pub fn problems(&self) -> Vec<Problem> {
        problem::problems(&self.view())
    }

    pub fn finding(&self) -> Finding {
        problem::finding(&self.view())
    }

    pub fn suspected(&self) -> bool {
        problem::suspected(&self.view())
    }
}

/// So many milliseconds before now.
pub fn ago(ms: u64) -> u64 {
    NOW_MS - ms
}

/// The identity of a server, as a GTID names it.
pub fn uuid_of(name: &str) -> String {
    let number = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
    format!("00000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff)
}

fn identity(name: &str, number: u32) -> Identity {
    Identity { flavor: Flavor::MySql, server_uuid: Some(uuid_of(name)), server_id: number, server_uid: None }
}

fn channel(source: Address, name: &str) -> Channel {
    Channel {
        name: String::new(),
        source,
        source_uuid: Some(uuid_of(name)),
        source_server_id: None,
        receiver: Receiver::Running,
        receiver_error: None,
        applier_running: true,
        applier_error: None,
        received: GtidSet::empty(Flavor::MySql),
        by_gtid: true,
        read_position: ("binlog.000001".into(), 4),
        executed_position: ("binlog.000001".into(), 4),
        lag_s: Some(0),
        delay_s: 0,
        heartbeat_period_ms: None,
        heartbeats: None,
        heartbeat_age_ms: None,
        filtered: false,
        tls: false,
    }
}

fn facts(identity: Identity, channels: Vec<Channel>) -> ServerFacts {
    ServerFacts {
        identity,
        version: "9.7.4".parse().expect("a version"),
        started_at_s: Some(1),
        uptime_s: Some(86_400),
        reports_as: None,
        read_only: !channels.is_empty(),
        super_read_only: Some(!channels.is_empty()),
        offline_mode: Some(false),
        gtid_on: true,
        executed: GtidSet::empty(Flavor::MySql),
        purged: None,
        log_bin: true,
        log_replica_updates: true,
        binlog_format: Some("ROW".into()),
        semi_sync: SemiSync::default(),
        connections: Some((5, 100)),
        channels,
        replicas: None,
        dump_clients: None,
        durability: None,
    }
}
