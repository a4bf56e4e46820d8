//! The nodes, servers and values that random commands are about.

use quorate::{
    core::{
        plan::step::Target,
        replicated::{Member, MemberState, StepRecord},
    },
    model::{
        address::Address,
        server::{Flavor, Identity, ServerId},
    },
};

pub fn incarnation(node: u64, wiped: bool) -> String {
    format!("i{node}{}", if wiped { "-new" } else { "" })
}

pub fn server(cluster: u8, number: u8) -> ServerId {
    ServerId(format!("s{cluster}{number}"))
}

pub fn identity(cluster: u8, number: u8) -> Identity {
    let server_id = u32::from(cluster) * 10 + u32::from(number) + 1;
    Identity {
        flavor: Flavor::MySql,
        server_uuid: Some(server(cluster, number).0),
        server_id,
        server_uid: None,
    }
}

pub fn member(cluster: u8, number: u8, source: Option<u8>) -> Member {
    Member {
        server: server(cluster, number),
        identity: identity(cluster, number),
        address: Address::new(format!("db{cluster}{number}"), 3306),
        version: "9.7.4".into(),
        source: source.map(|s| server(cluster, s)),
        channel: String::new(),
        channels: u32::from(source.is_some()),
        datacenter: None,
        state: MemberState::Normal,
    }
}

pub fn stranger() -> Target {
    Target { server: server(8, 8), identity: identity(8, 8), address: Address::new("db88", 3306) }
}

pub fn step() -> StepRecord {
    StepRecord {
        step: "stop_receiver".into(),
        server: "db00:3306".into(),
        node: 1,
        outcome: "done".into(),
        at_ms: 3,
        took_ms: 4,
    }
}
