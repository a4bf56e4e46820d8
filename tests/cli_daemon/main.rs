//! The real daemon, without servers to watch: groups are made, answer on any node, survive restarts, are rescued; and
//! what cannot start says why.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

mod bad_input;
mod certificates;
mod disk_full;
mod node;
mod rescue;
mod starts;
mod tls;
mod wan;

use node::{Group, until};

#[test]
fn a_group_is_made_once_and_any_node_answers() {
    let group = Group::of(3, None);
    let before = group.at(1, &["clusters"]);
    assert_eq!(before.code, 4, "{}", before.err);
    assert!(before.err.contains("belongs to no group yet"), "{}", before.err);
    let status = group.at(1, &["nodes", "status"]);
    assert!(status.out.contains("belongs to no group yet"), "{} {}", status.out, status.err);

    let made = group.init();
    assert_eq!((made["group"].as_str(), made["nodes"].as_array().unwrap().len()), (Some("demo"), 3));
    group.wait_for_leader();
    let again = group.at(2, &group.init_words());
    assert_eq!(again.code, 1, "{}", again.err);
    assert!(again.err.contains("already") && again.err.contains("nodes add"), "{}", again.err);

    until("whoever is asked knows what each node runs", || {
        let status = group.json(2, &["nodes", "status"]);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().all(|n| n["version"] == env!("CARGO_PKG_VERSION") && n["feature_level"] == 1)
    });

    // Whoever is asked, the change is seen by whoever is asked next.
    for (n, lag) in [(1, "11"), (2, "12"), (3, "13")] {
        let set = group.at(n, &["policy", "set", &format!("lag_s={lag}")]);
        assert_eq!(set.code, 0, "node {n}: {}", set.err);
        let other = n % 3 + 1;
        let read = group.json(other, &["policy", "get"]);
        assert_eq!(read["settings"]["lag_s"].to_string(), lag, "set at {n}, read at {other}");
    }
    let one = group.json(1, &["policy", "get", "lag_s"]);
    assert_eq!(one["settings"], serde_json::json!({"lag_s": 13}));
    let events = group.json_lines(3, &["events"]);
    let policy = events.iter().filter(|e| e["kind"] == "policy").count();
    assert_eq!(policy, 3);
    assert!(events.iter().all(|e| e["by"] == "anna" || e["kind"] != "policy"), "{events:?}");
}

#[test]
fn a_group_outlives_a_lost_node_and_a_restart_of_all() {
    let mut group = Group::of(3, None);
    group.init();
    let leader = group.wait_for_leader();
    group.nodes[leader - 1].kill();
    let others: Vec<usize> = (1..=3).filter(|n| *n != leader).collect();
    until("a change is taken without the lost node", || {
        group.at(others[0], &["policy", "set", "lag_s=20"]).code == 0
    });
    group.nodes[others[0] - 1].kill();
    let alone = group.at(others[1], &["policy", "set", "lag_s=21"]);
    assert_eq!(alone.code, 4, "{}", alone.err);
    let stale = group.at(others[1], &["policy", "get", "lag_s", "--stale"]);
    assert!(stale.out.contains("20"), "{} {}", stale.out, stale.err);
    group.nodes[others[1] - 1].kill();
    for node in &mut group.nodes {
        node.start();
    }
    group.wait_for_leader();
    let read = group.json(1, &["policy", "get"]);
    assert_eq!(read["settings"]["lag_s"], 20);
}

#[test]
fn the_office_is_handed_over_and_members_come_and_go() {
    let mut group = Group::of(3, None);
    group.init();
    let leader = group.wait_for_leader();
    let next = leader % 3 + 1;
    let moved = group.at(leader, &["nodes", "transfer-leader", &next.to_string()]);
    assert_eq!(moved.code, 0, "{}", moved.err);
    until("the office is handed over", || group.leader() == Some(next));
    let address = group.add_node();
    let added = group.at(1, &["nodes", "add", &format!("4={address}")]);
    assert_eq!(added.code, 0, "{}", added.err);
    until("the learner votes", || group.at(2, &["nodes", "make-voter", "4"]).code == 0);
    let gone = group.at(2, &["nodes", "remove", "1"]);
    assert_eq!(gone.code, 0, "{}", gone.err);
    let status = group.json(4, &["nodes", "status"]);
    let ids: Vec<u64> =
        status["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [2, 3, 4]);
    let unknown = group.at(2, &["nodes", "remove", "9"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
    let absent = group.at(2, &["nodes", "add", "9=127.0.0.1:1"]);
    assert!(absent.err.contains("start it") && !absent.err.contains("is made"), "{}", absent.err);

    // The removed node still runs, and knows no better than to ask the leader.
    let asked = group.at(1, &["clusters", "--json"]);
    assert_eq!(asked.code, 4, "{}", asked.err);
    assert!(["NOT_A_MEMBER", "NO_LEADER"].iter().any(|reason| asked.err.contains(reason)), "{}", asked.err);
}
