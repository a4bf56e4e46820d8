//! The majority is lost for ever: one survivor, or a backup, becomes a new group.

use std::fs;

use crate::node::{Group, quorate, until};

/// The new group works, knows what was known, and recovers nothing by itself until a person says so.
fn lives(group: &Group, n: usize, lag: u64) {
    until("it leads itself", || group.at(n, &["clusters"]).code == 0);
    let policy = group.json(n, &["policy", "get"]);
    assert_eq!(policy["settings"]["lag_s"], lag);
    let settings = group.json(n, &["settings"]);
    assert_eq!(settings["recoveries"]["enabled"], false, "{settings}");
    let enabled = group.at(n, &["recoveries-enabled", "on"]);
    assert_eq!(enabled.code, 0, "{}", enabled.err);
}

#[test]
fn a_survivor_is_rebuilt_only_with_the_word_unsafe_and_only_stopped() {
    let mut group = Group::of(3, None);
    group.init();
    group.wait_for_leader();
    until("it is set", || group.at(1, &["policy", "set", "lag_s=33"]).code == 0);
    until("node 2 has it", || group.at(2, &["policy", "get", "lag_s", "--stale"]).out.contains("33"));
    let config = group.nodes[1].config();
    let running = quorate(&["nodes", "rebuild", "--unsafe", "--config", &config]);
    assert_eq!(running.code, 1, "a running node is not rebuilt: {}", running.out);
    for node in &mut group.nodes {
        node.kill();
    }
    let unworded = quorate(&["nodes", "rebuild", "--config", &config]);
    assert_eq!(unworded.code, 2, "{}", unworded.err);
    let made = quorate(&["nodes", "rebuild", "--unsafe", "--config", &config, "--json"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let made: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(made["generation"], 2, "{made}");
    group.nodes[1].start();
    lives(&group, 2, 33);
    // A lost node that comes back after all is not let in.
    group.nodes[0].start();
    let status = group.json(2, &["nodes", "status"]);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn a_backup_becomes_a_group() {
    let mut group = Group::of(1, None);
    group.init();
    group.wait_for_leader();
    until("it is set", || group.at(1, &["policy", "set", "lag_s=44"]).code == 0);
    let backup = group.folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    let ran = group.at(1, &["nodes", "backup", backup]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        !fs::read(backup).unwrap().windows(11).any(|w| w == b"canary-5b1d"),
        "a password is in the backup"
    );
    group.add_node();
    let config = group.nodes[1].config();
    let running = quorate(&["nodes", "restore", "--config", &config, backup]);
    assert_eq!(running.code, 1, "a running node is not restored: {}", running.out);
    group.nodes[1].kill();
    let used = quorate(&["nodes", "restore", "--config", &group.nodes[0].config(), backup]);
    assert_eq!(used.code, 1, "a used directory is not overwritten: {}", used.out);
    fs::remove_dir_all(group.nodes[1].folder.join("data")).unwrap();
    let broken = group.folder.path().join("broken");
    fs::write(&broken, "nonsense").unwrap();
    let ran = quorate(&["nodes", "restore", "--config", &config, broken.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("broken was not restored"), "{}", ran.err);
    let ran = quorate(&["nodes", "restore", "--config", &config, backup]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    group.nodes[1].start();
    lives(&group, 2, 44);
}
