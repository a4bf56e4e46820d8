//! Servers that lie about themselves: to the discovery, and to a node's memory of them.

use std::{collections::BTreeMap, sync::Arc};

use quorate::{
    core::analysis::observation::{AttemptEnd, Observation},
    model::{
        address::Address,
        facts::{ListedReplica, ServerFacts},
        gtid::GtidSet,
        server::Flavor,
    },
    server::{
        discovery::{DiscoverError, Discovery},
        observer::watch::Watch,
    },
    session::parse_recorded,
};

use crate::{
    group::{Fleet, identity, open, ports, server},
    texts::recorded,
};

fn facts(n: u32) -> ServerFacts {
    let (flavor, version, text) = recorded()
        .into_iter()
        .find(|(flavor, version, text)| {
            *flavor == Flavor::MySql && version == "9.7.4" && text.contains("Auto_Position: 1")
        })
        .unwrap();
    let facts = parse_recorded(flavor, &version, &text).unwrap();
    ServerFacts { identity: identity(n), reports_as: None, ..facts }
}

fn at(n: u16) -> Address {
    Address::new("127.0.0.1", n)
}

/// A server that replicates from `source` and lists these.
fn replica_of(n: u32, source: Option<u16>, listed: &[u16]) -> ServerFacts {
    let mut facts = facts(n);
    match source {
        Some(source) => {
            facts.channels[0].source = at(source);
            facts.channels[0].source_uuid = Some(server(source.into()).0);
            facts.channels[0].source_server_id = Some(source.into());
        }
        None => facts.channels.clear(),
    }
    let listed = listed.iter().map(|n| ListedReplica {
        server_id: u32::from(*n),
        address: Some(at(*n)),
        server_uuid: Some(server((*n).into()).0),
    });
    ServerFacts { replicas: Some(listed.collect()), ..facts }
}

async fn crawl(fleet: Fleet) -> Result<usize, DiscoverError> {
    let folder = tempfile::tempdir().unwrap();
    let (raft, _listener) = open(&folder, 1).await;
    let found = Discovery::new(ports(&raft, fleet)).crawl(&at(1)).await;
    raft.shutdown().await;
    found.map(|found| found.members.len())
}

#[tokio::test]
async fn a_server_that_follows_itself_or_lists_thousands_is_named() {
    let itself = Fleet(BTreeMap::from([(at(1), replica_of(1, Some(1), &[1]))]));
    assert!(matches!(crawl(itself).await, Err(DiscoverError::Loop { .. })));
    let circle =
        BTreeMap::from([(at(1), replica_of(1, Some(2), &[2])), (at(2), replica_of(2, Some(1), &[1]))]);
    assert!(matches!(crawl(Fleet(circle)).await, Err(DiscoverError::Loop { .. })));
    let thousands: Vec<u16> = (2..20_000).collect();
    let many = Fleet(BTreeMap::from([(at(1), replica_of(1, None, &thousands))]));
    assert_eq!(crawl(many).await, Err(DiscoverError::TooLarge));
    let twins = BTreeMap::from([
        (at(1), replica_of(1, None, &[2])),
        (
            at(2),
            ServerFacts { identity: identity(1), reports_as: Some(at(2)), ..replica_of(2, Some(1), &[]) },
        ),
    ]);
    assert!(matches!(crawl(Fleet(twins)).await, Err(DiscoverError::Duplicate { .. })));
    let honest =
        BTreeMap::from([(at(1), replica_of(1, None, &[2, 2, 9])), (at(2), replica_of(2, Some(1), &[]))]);
    assert_eq!(crawl(Fleet(honest)).await, Ok(2), "one that cannot be read is left out");
}

/// What a node remembers of a server, through answers that contradict each other.
#[test]
fn answers_that_contradict_each_other_are_not_taken_for_facts() {
    let (mut watch, mut seen): (Watch, Observation) = Watch::begun(1_000);
    let (expected, mut now) = (identity(1), 1_000);
    let mut hear = |facts: ServerFacts| {
        now += 250;
        watch.attempt(&mut seen, now, AttemptEnd::Answered, Some(Arc::new(facts)), Some(&expected), None);
        let mark = watch.high_water.clone();
        (seen.last_attempt.clone().unwrap().1, seen.facts.clone().unwrap().executed.clone(), mark.unwrap())
    };
    let set = |text: &str| GtidSet::parse(Flavor::MySql, &format!("{}:{text}", server(1).0)).unwrap();
    let holding = |text: &str| ServerFacts { executed: set(text), channels: Vec::new(), ..facts(1) };
    assert_eq!(hear(holding("1-100")), (AttemptEnd::Answered, set("1-100"), set("1-100")));
    // Another server answers in between: nothing of what it says is this one's.
    let other = ServerFacts { identity: identity(7), ..holding("1-900") };
    let (end, executed, mark) = hear(other);
    assert!(matches!(end, AttemptEnd::WrongIdentity { .. }));
    assert_eq!((executed, mark), (set("1-100"), set("1-100")));
    // It forgets, and remembers again; its clock jumps by years.
    for (started_at_s, text) in [(Some(0), "1-7"), (Some(u64::MAX), "1-2:5"), (None, "1-99")] {
        let (_, executed, mark) = hear(ServerFacts { started_at_s, ..holding(text) });
        assert_eq!((executed, mark), (set(text), set("1-100")), "what it acknowledged once is not forgotten");
    }
    assert_eq!(hear(holding("1-101")).2, set("1-101"));
}
