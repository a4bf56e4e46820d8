//! A group with the timings for nodes that are far apart: it forms, survives its leader, and keeps what it acknowledged.

use std::fs;

use crate::node::{Group, until};

#[test]
fn a_group_with_the_wan_profile_survives_its_leader() {
    let mut group = Group::prepared(3, None, |node| {
        let text = fs::read_to_string(node.config()).unwrap();
        fs::write(node.config(), format!("profile = \"wan\"\n{text}")).unwrap();
    });
    group.init();
    let leader = group.wait_for_leader();
    until("a change is taken", || group.at(leader, &["policy", "set", "lag_s=17"]).code == 0);
    group.nodes[leader - 1].kill();
    let other = leader % 3 + 1;
    until("another leads", || {
        let ran = group.at(other, &["nodes", "status", "--json", "--timeout", "5s"]);
        let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_default();
        status["leader"].as_u64().is_some_and(|id| id as usize != leader)
    });
    until("a change is taken", || group.at(other, &["policy", "set", "drain_deadline_ms=9000"]).code == 0);
    // A restarted node needs no hand, and has what it missed.
    group.nodes[leader - 1].start();
    until("it caught up", || {
        let ran = group.at(leader, &["--stale", "policy", "get"]);
        ran.out.contains("9000") && ran.out.contains("17")
    });
}
