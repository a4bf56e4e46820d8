//! The cases of a peer, through an adapter outside the core. What each is to Quorate is listed by name.

use std::{collections::BTreeMap, fs};

use quorate::{
    core::analysis::{Code, observation::AttemptEnd},
    model::{address::Address, facts::Receiver, server::ServerId},
};
use serde_json::Value;

use crate::fleet::{Fleet, ago};

/// What is expected of Quorate.
enum Expected {
    /// The peer's codes about the primary, under Quorate's names.
    Same,
    /// The same about the primary; the peer's other code is not judged yet.
    SameOfThePrimary(&'static str),
    /// What the case is about is not judged yet: it must raise no false alarm meanwhile.
    NotYetCovered(&'static str),
}
use Expected::{NotYetCovered, Same, SameOfThePrimary};

/// Each case by name. Nothing is decided otherwise on purpose so far.
const CASES: &[(&str, Expected)] = &[
    ("analysis-all-master-replicas-not-replicating-or-dead", Same),
    ("analysis-dead-intermediate-master-and-replicas", NotYetCovered("intermediate sources")),
    ("analysis-dead-master", Same),
    ("analysis-errant-gtid-downtimed", NotYetCovered("errant sets of replicas")),
    ("analysis-errant-gtid", NotYetCovered("errant sets of replicas")),
    ("analysis-first-tier-replica-failing-to-connect", NotYetCovered("single broken replicas")),
    ("analysis-no-failover-support", NotYetCovered("structure: no GTID")),
    ("analysis-no-logging-replicas", NotYetCovered("structure: replicas without binary log")),
    ("analysis-no-problem-downtime", Same),
    ("analysis-no-writeable-master", Same),
    ("analysis-semi-sync-locked-master-hypothesis", NotYetCovered("semi-sync waiting for ackers")),
    ("analysis-semi-sync-locked-master", NotYetCovered("semi-sync waiting for ackers")),
    ("analysis-semi-sync-ok", NotYetCovered("semi-sync waiting for ackers")),
    ("analysis-unreachable-intermediate-master-partial-success", NotYetCovered("intermediate sources")),
    ("analysis-unreachable-intermediate-master-with-lagging-replicas", NotYetCovered("intermediate sources")),
    ("analysis-unreachable-intermediate-master", NotYetCovered("intermediate sources")),
    ("analysis-unreachable-master-not-lagging-replicas", Same),
    (
        "analysis-unreachable-master-partial-success-broken-replica-8033",
        SameOfThePrimary("FirstTierReplicaFailingToConnectToMaster"),
    ),
    (
        "analysis-unreachable-master-partial-success-broken-replica",
        SameOfThePrimary("FirstTierReplicaFailingToConnectToMaster"),
    ),
    ("analysis-unreachable-master-with-delayed-replicas", Same),
    ("analysis-unreachable-master-with-lagging-replicas-and-delayed-replicas", Same),
    ("analysis-unreachable-master-with-lagging-replicas", Same),
    ("analysis-unreachable-master", Same),
];

fn folder() -> String {
    format!("{}/tests/cases/analysis", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_case_is_listed_and_each_listed_case_is_there() {
    let mut files: Vec<String> = fs::read_dir(folder())
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".json", ""))
        .collect();
    files.sort();
    let mut listed: Vec<String> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(files, listed);
}

#[test]
fn each_case_gives_what_is_listed() {
    for (name, expected) in CASES {
        let text = fs::read_to_string(format!("{}/{name}.json", folder())).expect("the case");
        let case: Value = serde_json::from_str(&text).expect("JSON");
        let mut theirs = codes(&case);
        let ours: Vec<Code> = fleet(&case).problems().iter().map(|p| p.code).collect();
        match expected {
            Same => {}
            SameOfThePrimary(other) => {
                assert!(theirs.iter().any(|code| code == other), "{name} has no {other}");
                theirs.retain(|code| code != other);
            }
            NotYetCovered(what) => {
                assert!(ours.is_empty(), "{name} ({what} not yet covered) raises {ours:?}");
                continue;
            }
        }
        let theirs: Vec<Code> = theirs.iter().map(|code| translate(name, code)).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

fn codes(case: &Value) -> Vec<String> {
    let expected = case["expect"].as_array().expect("a list");
    expected.iter().map(|e| e["analysis"].as_str().expect("a code").to_owned()).collect()
}

/// The peer's code under Quorate's name.
fn translate(case: &str, code: &str) -> Code {
    match code {
        "DeadMaster" => Code::DeadPrimary,
        "DeadMasterAndSomeReplicas" => Code::DeadPrimaryAndSomeReplicas,
        "DeadMasterAndReplicas" => Code::DeadPrimaryAndReplicas,
        "DeadMasterWithoutReplicas" => Code::DeadPrimaryWithoutReplicas,
        "UnreachableMaster" => Code::UnreachablePrimary,
        "UnreachableMasterWithLaggingReplicas" => Code::UnreachablePrimaryWithLaggingReplicas,
        "AllMasterReplicasNotReplicating" | "AllMasterReplicasNotReplicatingOrDead" => {
            Code::AllPrimaryReplicasNotReplicating
        }
        "NoWriteableMasterStructureWarning" => Code::ReadOnlyPrimary,
        other => panic!("{case}: {other} has no name in Quorate; list the case as not yet covered"),
    }
}

/// A case as a cluster and one node's observations of it.
fn fleet(case: &Value) -> Fleet {
    let servers = case["servers"].as_array().expect("a list of servers");
    let by_name: BTreeMap<String, &Value> = servers.iter().map(|s| (name(s), s)).collect();
    let primary = servers.iter().find(|s| s["source"].is_null()).expect("one has no source");
    let mut fleet = Fleet::new(&name(primary));
    // Sources before their replicas, so that a channel finds its source's address.
    for server in servers.iter().filter(|s| s["source"].is_null()) {
        add(&mut fleet, server, &by_name);
    }
    for server in servers.iter().filter(|s| !s["source"].is_null()) {
        add(&mut fleet, server, &by_name);
    }
    fleet
}

fn name(server: &Value) -> String {
    format!("{}:{}", server["host"].as_str().expect("a host"), server["port"])
}

fn add(fleet: &mut Fleet, server: &Value, all: &BTreeMap<String, &Value>) {
    let own = name(server);
    let source = (!server["source"].is_null()).then(|| name(&server["source"]));
    assert!(source.as_ref().is_none_or(|s| all.contains_key(s)), "{own} follows a stranger");
    let address: Address = own.parse().expect("HOST:PORT");
    fleet.add(&own, address, source.as_deref());
    fleet.facts(&own).read_only = server["read_only"] == true;
    fleet.facts(&own).super_read_only = None;
    if source.is_some() {
        receive(fleet, &own, server);
    }
    let valid = if source.is_some() { "seen_since_last_check" } else { "last_check_valid" };
    if server[valid] != true {
        // A check that got only part of an answer got none: Quorate's probe is one round trip.
        let since = ago(server["seconds_since_last_seen"].as_u64().expect("seconds") * 1_000);
        let observation = fleet.observation(&own);
        observation.answered_ms = Some(since);
        observation.last_attempt = Some((ago(200), AttemptEnd::Silent { greeted: false }));
        observation.waiting_since_ms = Some(ago(150));
    }
    if server["downtimed"] == true {
        fleet.downtime(&own);
    }
    assert!(fleet.cluster.members.contains_key(&ServerId(own)));
}

fn receive(fleet: &mut Fleet, own: &str, server: &Value) {
    let running = server["io_running"] == true;
    let error = server["last_io_error"].as_str().expect("a text");
    // The peer takes a receiver that claims to be connected at its word.
    fleet.observation(own).source_heard_ms = running.then(|| ago(100));
    let channel = fleet.channel(own);
    channel.receiver = if running { Receiver::Running } else { Receiver::Stopped };
    channel.receiver_error = error.contains("connecting").then(|| (2003, error.to_owned()));
    channel.applier_running = server["sql_running"] == true;
    channel.lag_s = server["lag_seconds"].as_u64();
    channel.delay_s = server["sql_delay"].as_u64().unwrap_or(0);
}
