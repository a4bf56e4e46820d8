//! Answers of servers, parsed: recorded on real ones, or written after the manual where a version cannot be had.
//! Each file says which it is.

use quorate::{
    model::{
        address::Address,
        facts::{Receiver, ServerFacts},
        gtid::GtidSet,
        server::Flavor,
    },
    session::parse_recorded,
};

fn read(file: &str) -> ServerFacts {
    let path = format!("{}/tests/answers/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (name, rest) = file.split_once('-').expect("FLAVOUR-VERSION-WHAT");
    let version = rest.split('-').next().expect("a version");
    let recorded = matches!(version, "9.7.4" | "10.11.19");
    let says = if recorded { "recorded on a real server" } else { "Written, not recorded" };
    assert!(text.contains(says), "{file} does not say: {says}");
    let flavor = if name == "mysql" { Flavor::MySql } else { Flavor::MariaDb };
    let facts = parse_recorded(flavor, version, &text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(facts.identity.flavor, flavor);
    assert!(facts.version.text.starts_with(version), "{file}: {}", facts.version);
    facts
}

fn gtids(facts: &ServerFacts, text: &str) -> GtidSet {
    GtidSet::parse(facts.identity.flavor, text).expect("a set")
}

#[test]
fn mysql_9_7_recorded() {
    let primary = read("mysql-9.7.4-primary");
    assert!(primary.writable() && primary.gtid_on && primary.channels.is_empty());
    assert_eq!((primary.semi_sync.source_status, primary.semi_sync.source_clients), (Some(true), Some(1)));
    let replicas = primary.replicas.as_ref().expect("an inventory");
    assert_eq!(
        (replicas[0].server_id, replicas[0].address.clone()),
        (2, Some(Address::new("127.0.0.1", 4502)))
    );
    assert_eq!(primary.dump_clients.as_ref().expect("an inventory")[0].host, "127.0.0.1");
    assert_eq!(primary.durability, Some((0, 2)));

    let replica = read("mysql-9.7.4-replica");
    assert!(!replica.writable());
    let channel = &replica.channels[0];
    assert_eq!(channel.source_uuid, primary.identity.server_uuid);
    assert_eq!((channel.receiver, channel.applier_running, channel.by_gtid), (Receiver::Running, true, true));
    assert_eq!(channel.received, primary.executed);
    assert_eq!((channel.heartbeat_period_ms, channel.heartbeats), (Some(500), Some(6)));
    assert_eq!(channel.heartbeat_age_ms, Some(443));
    assert_eq!(channel.read_position, ("binlog.000001".to_owned(), 723));
    assert_eq!((channel.lag_s, channel.receiver_error.clone(), channel.filtered), (Some(0), None, false));
    assert_eq!(
        (replica.semi_sync.replica_enabled, replica.semi_sync.replica_status),
        (Some(true), Some(true))
    );
}

#[test]
fn mariadb_10_11_recorded() {
    let primary = read("mariadb-10.11.19-primary");
    assert!(primary.writable() && primary.channels.is_empty() && primary.identity.server_uid.is_some());
    assert_eq!((primary.semi_sync.source_status, primary.semi_sync.source_wait_for), (Some(true), Some(1)));
    assert_eq!(primary.executed, gtids(&primary, "0-1-2"));
    assert_eq!(primary.replicas.as_ref().expect("an inventory")[0].server_id, 2);

    let replica = read("mariadb-10.11.19-replica");
    let channel = &replica.channels[0];
    assert_eq!((channel.receiver, channel.applier_running, channel.by_gtid), (Receiver::Running, true, true));
    assert_eq!(channel.received, primary.executed);
    assert_eq!((channel.heartbeat_period_ms, channel.heartbeats), (Some(500), Some(4)));
    assert_eq!((channel.heartbeat_age_ms, channel.source_uuid.clone()), (None, None));
    assert!(replica.executed.contains(&primary.executed) && !replica.writable());
}

#[test]
fn mysql_8_0_20_speaks_of_masters_and_slaves() {
    let facts = read("mysql-8.0.20-replica");
    let channel = &facts.channels[0];
    assert_eq!(channel.source, Address::new("db1", 3306));
    assert_eq!(channel.receiver, Receiver::Connecting);
    assert_eq!(channel.receiver_error.as_ref().map(|(code, _)| *code), Some(2003));
    assert_eq!((channel.lag_s, channel.tls), (None, false));
    assert_eq!((channel.heartbeats, channel.heartbeat_age_ms), (Some(12), Some(250)));
    assert_eq!((facts.semi_sync.replica_enabled, facts.semi_sync.replica_status), (Some(true), Some(false)));
    assert_eq!((facts.semi_sync.source_enabled, facts.semi_sync.source_wait_for), (Some(false), Some(1)));
    assert_eq!(facts.reports_as, Some(Address::new("db2", 3306)));
    assert_eq!(facts.started_at_s, Some(1_700_000_000));
    let behind = facts.in_hand().subtract(&facts.executed);
    assert_eq!(behind, gtids(&facts, "3e11fa47-71ca-11e1-9e33-c80aa9429562:101-104"));
}

#[test]
fn mysql_8_0_36_with_two_channels() {
    let facts = read("mysql-8.0.36-two-channels");
    let names: Vec<&str> = facts.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["east", "west"]);
    let (east, west) = (&facts.channels[0], &facts.channels[1]);
    assert_eq!(
        (east.source.clone(), east.tls, east.by_gtid),
        (Address::new("db1.example.com", 3307), true, true)
    );
    assert_eq!(
        (east.heartbeats, east.heartbeat_age_ms, east.heartbeat_period_ms),
        (Some(3), None, Some(30_000))
    );
    assert!(west.filtered && !east.filtered && !west.by_gtid && !west.applier_running);
    assert_eq!((west.delay_s, west.applier_error.as_ref().map(|(code, _)| *code)), (3600, Some(1062)));
    assert_eq!(facts.semi_sync, quorate::model::facts::SemiSync::default());
    assert_eq!(facts.reports_as, Some(Address::new("db2.example.com", 3306)));
}

#[test]
fn mysql_8_4_primary_with_a_cdc_client() {
    let facts = read("mysql-8.4.3-primary");
    assert!(facts.writable());
    assert_eq!((facts.semi_sync.source_wait_for, facts.semi_sync.source_clients), (Some(2), Some(2)));
    assert_eq!(facts.semi_sync.source_timeout_ms, Some(4_294_967_295));
    let replicas = facts.replicas.as_ref().expect("an inventory");
    assert_eq!(replicas[0].address, Some(Address::new("db3", 3306)));
    assert_eq!((replicas[1].address.clone(), replicas[1].server_id), (None, 4));
    let dumps = facts.dump_clients.as_ref().expect("an inventory");
    assert_eq!(
        dumps.iter().map(|dump| dump.host.as_str()).collect::<Vec<_>>(),
        ["10.0.0.3", "10.0.0.4", "kafka-1"]
    );
    assert_eq!(GtidSet::empty(facts.executed.flavor()).lacks(&facts.executed), 80);
}

#[test]
fn mariadb_10_6_without_uid() {
    let facts = read("mariadb-10.6.18-replica");
    assert_eq!((facts.identity.server_uid.clone(), facts.identity.server_id), (None, 2));
    let channel = &facts.channels[0];
    assert_eq!((channel.receiver, channel.lag_s), (Receiver::Connecting, None));
    assert_eq!(channel.received, gtids(&facts, "0-1-101,1-1-7"));
    assert_eq!(facts.executed, gtids(&facts, "0-1-99,0-2-95,1-1-7"));
    assert!(!facts.executed.contains(&channel.received));
}

#[test]
fn mariadb_11_8_with_two_connections() {
    let facts = read("mariadb-11.8.2-replica");
    assert_eq!(facts.identity.server_uid, None, "`unknown` is no identity");
    let (default, east) = (&facts.channels[0], &facts.channels[1]);
    assert_eq!((default.name.as_str(), east.name.as_str()), ("", "east"));
    assert!(default.by_gtid && !east.by_gtid && east.filtered && !east.applier_running && default.tls);
    assert_eq!((east.receiver, east.heartbeats), (Receiver::Connecting, Some(0)));
}

#[test]
fn an_answer_without_what_matters_is_an_error() {
    let path = format!("{}/tests/answers/mysql-8.4.3-primary.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the file");
    for (from, to) in [("server_id: 2\n", ""), ("read_only: 0\n", "read_only: NULL\n"), (":1-77", ":77-1")] {
        assert!(text.contains(from));
        let error = parse_recorded(Flavor::MySql, "8.4.3", &text.replacen(from, to, 1));
        assert!(error.is_err(), "{from} -> {to}");
    }
}
