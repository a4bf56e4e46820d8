//! A member with several sources testifies about the primary by its channel from the primary, wherever that stands in
//! its list.

use std::sync::Arc;

use quorate::{
    core::analysis::{
        ReplicaSign,
        observation::{AttemptEnd, Observation},
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, ServerFacts},
        server::ServerId,
    },
    server::observer::watch::Watch,
};

use crate::fleet::{Fleet, NOW_MS, ago};

/// A primary that refuses, and a replica whose first channel is from a server of another topology.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new("primary");
    fleet.add("primary", Address::new("db1", 3306), None);
    fleet.add("r1", Address::new("db2", 3306), Some("primary"));
    fleet.observation("primary").last_attempt = Some((ago(50), AttemptEnd::Refused));
    let other = Channel {
        name: "a".into(),
        source: Address::new("elsewhere", 3306),
        source_uuid: Some("other".into()),
        source_server_id: Some(99),
        ..fleet.channel("r1").clone()
    };
    fleet.channel("r1").name = "b".into();
    fleet.facts("r1").channels.insert(0, other);
    fleet
}

/// What a watch of the replica makes of facts that it gave at these times.
fn watched(fleet: &Fleet, given: &[(u64, ServerFacts)]) -> (Watch, Observation) {
    let member = &fleet.cluster.members[&ServerId("r1".into())];
    let (mut watch, mut seen) = Watch::begun(0);
    for (at_ms, facts) in given {
        let channel = fleet.cluster.channel_of(member, facts);
        let facts = Some(Arc::new(facts.clone()));
        watch.attempt(&mut seen, *at_ms, AttemptEnd::Answered, facts, None, channel);
    }
    (watch, seen)
}

#[test]
fn the_channel_from_the_primary_is_judged_and_the_one_on_record_where_there_is_none() {
    let mut fleet = fleet();
    let facts = fleet.facts("r1").clone();
    let member = fleet.cluster.members[&ServerId("r1".into())].clone();
    let judged = |fleet: &Fleet, facts: &ServerFacts| {
        fleet.cluster.channel_of(&member, facts).map(|channel| channel.name.clone())
    };
    assert_eq!(judged(&fleet, &facts).as_deref(), Some("b"));
    fleet.cluster.primary = None;
    assert_eq!(judged(&fleet, &facts).as_deref(), Some("b"), "its source on record");
    let without = ServerFacts { channels: facts.channels[..1].to_vec(), ..facts };
    assert_eq!(judged(&fleet, &without).as_deref(), Some("a"), "its only one");
}

#[test]
fn traffic_of_another_source_does_not_prove_that_the_primary_lives() {
    let mut fleet = fleet();
    let before = fleet.facts("r1").clone();
    let mut after = before.clone();
    after.channels[0].read_position.1 += 1_000;
    after.channels[0].heartbeats = Some(77);
    let (_, seen) = watched(&fleet, &[(ago(400), before.clone()), (ago(200), after.clone())]);
    assert_eq!(seen.source_noticed_ms, None);
    after.channels[1].read_position.1 += 1_000;
    let (_, seen) = watched(&fleet, &[(ago(400), before), (ago(200), after)]);
    assert_eq!(seen.source_noticed_ms, Some(ago(200)));
}

#[test]
fn a_loss_of_the_primary_shows_though_the_first_channel_runs() {
    let mut fleet = fleet();
    let running = fleet.facts("r1").clone();
    let mut broken = running.clone();
    broken.channels[1].receiver = Receiver::Connecting;
    let (_, seen) = watched(&fleet, &[(ago(300), running), (ago(20), broken)]);
    assert_eq!(seen.source_lost_ms, Some(ago(20)));
    *fleet.observation("r1") = seen;
    let problems = fleet.problems();
    let evidence = problems[0].evidence.as_ref().expect("the primary does not answer");
    assert_eq!(evidence.replicas, [(ServerId("r1".into()), ReplicaSign::Lost)]);
}

#[test]
fn another_source_begins_anew() {
    let mut fleet = fleet();
    let before = fleet.facts("r1").clone();
    let mut after = before.clone();
    after.channels[1].source = Address::new("db9", 3306);
    after.channels[1].read_position = ("b.9".into(), 4);
    let (mut watch, mut seen) = watched(&fleet, &[(ago(400), before)]);
    seen.source_heard_ms = Some(ago(500));
    let facts = Some(Arc::new(after.clone()));
    watch.attempt(&mut seen, NOW_MS, AttemptEnd::Answered, facts, None, after.channels.get(1));
    assert_eq!((seen.source_heard_ms, seen.source_noticed_ms), (None, None));
}
