//! Goldens.

use std::time::Duration;

use quorate::core::replicated::{Change, Ending};

use crate::{
    check, check_both,
    fake::Fake,
    run,
    world::{Log, server},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cluster() {
    let node = Fake::leading(Log::with_orders()).serve().await;
    check_both(node, "clusters", &["clusters"]).await;
    check_both(node, "topology", &["topology"]).await;
    check_both(node, "problems", &["problems", "orders"]).await;
    check_both(node, "explain", &["explain", "orders"]).await;
    check_both(node, "plan", &["plan", "orders"]).await;
    check_both(node, "switchover-dry-run", &["switchover", "orders", "--dry-run"]).await;
    check_both(node, "nodes-status", &["nodes", "status"]).await;
    check_both(node, "policy", &["policy", "get", "lag_s", "drain_policy"]).await;
    check_both(node, "nodes-init", &["nodes", "init", "1=10.0.0.1:7101", "2=[::1]:7101", "3=c.example:7101"])
        .await;
    check_both(node, "nodes-transfer", &["nodes", "transfer-leader", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colour_is_for_terminals_and_for_those_who_ask() {
    let node = Fake::leading(Log::with_orders()).serve().await;
    let plain = run(node, &["topology", "orders"]).await.out;
    assert!(!plain.contains('\x1b'), "no terminal, no colour");
    let coloured = run(node, &["topology", "orders", "--color", "always"]).await.out;
    check("topology-colour.txt", &coloured);
    let mut bare = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        bare.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    bare.push_str(rest);
    assert_eq!(bare, plain, "colour moves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_fence_may_still_land() {
    let node = Fake::leading(Log::given_up()).serve().await;
    check_both(node, "topology-fence-unknown", &["topology"]).await;
    check_both(node, "recoveries-fence-unknown", &["recoveries"]).await;
    check_both(node, "recovery-fence-unknown", &["recovery", "15"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover() {
    let fake = Fake::leading(Log::after_failover());
    let node = fake.serve().await;
    check_both(node, "clusters-blocked", &["clusters"]).await;
    check_both(node, "topology-blocked", &["topology", "db4:3306"]).await;
    check_both(node, "recoveries", &["recoveries"]).await;
    check_both(node, "recovery", &["recovery", "15"]).await;
    check_both(node, "events", &["events"]).await;
    check_both(node, "settings", &["settings"]).await;
    let ran = run(node, &["ack", "--cluster", "orders", "--comment", "disk replaced", "--json"]).await;
    check("ack.json", &ran.out);
    let ran = run(node, &["ack", "--all", "--comment", "again"]).await;
    assert_eq!(ran.out, "nothing was left to acknowledge\n");
    check_both(node, "recovery-acknowledged", &["recovery", "15"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovering() {
    let node = Fake::leading(Log::new()).serve().await;
    check_both(node, "no-clusters", &["clusters"]).await;
    check_both(node, "discover-dry-run", &["discover", "db1", "--alias", "orders", "--dry-run"]).await;
    check("discover.txt", &run(node, &["discover", "db1", "--alias", "orders"]).await.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_set() {
    let fake = Fake::leading(Log::with_orders());
    let node = fake.serve().await;
    let mut said = String::new();
    for words in [
        &["alias", "orders", "sales"][..],
        &["downtime", "db1:3306", "--for", "2h", "--why", "kernel"],
        &["maintenance", "sales", "--for", "30m", "--why", "move"],
        &["promotion-rule", "db4:3306", "must-not"],
        &["promotion-rule", "db2:3306", "prefer", "--for", "1d"],
        &["recoveries-enabled", "off", "--why", "audit"],
        &["recoveries-enabled", "off", "--cluster", "sales", "--why", "audit too"],
        &["policy", "set", "silence_ms=2s", "drain_policy=refuse"],
        &["settings"],
        &["downtime", "db1:3306", "--end"],
        &["maintenance", "sales", "--end"],
        &["recoveries-enabled", "on"],
        &["confirm", "db4:3306"],
        &["forget", "--server", "db4:3306", "--dry-run"],
        &["forget", "--server", "db4:3306"],
        &["forget", "sales"],
        &["clusters"],
    ] {
        let ran = run(node, words).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        said.push_str(&format!("$ quorate {}\n{}", words.join(" "), ran.out));
    }
    check("settings-story.txt", &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_is_waited_for_and_its_end_is_the_exit_code() {
    for (ending, code) in [(Ending::Cancelled, 1), (Ending::Failed, 1)] {
        let fake = Fake::leading(Log::with_orders());
        let node = fake.serve().await;
        let other = fake.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let running = other.log().state.recoveries.keys().next().copied();
                if let Some(recovery) = running {
                    let reason = "a statement of app@10.0.0.5 ran for 9 s".into();
                    let left_behind = vec![(server(4), "not reached".into())];
                    other.apply(Change::FinishRecovery {
                        recovery,
                        ending,
                        reason,
                        left_behind,
                        repointed: vec![],
                        candidate_open: false,
                    });
                    return;
                }
            }
        });
        let ran = run(node, &["switchover", "orders"]).await;
        assert_eq!(ran.code, code);
        // Told where it has not ended by the time its start is answered: either may be first here.
        let err = ran.err.replace("switchover 12 is running ...\n", "");
        check(&format!("switchover-{ending:?}.txt").to_lowercase(), &format!("{}---\n{err}", ran.out));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_follow_one_object_a_line() {
    use std::io::{BufRead, BufReader};
    let fake = Fake::leading(Log::after_failover());
    let node = fake.serve().await;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["--endpoint", &node.to_string(), "--json", "events", "--follow", "-n", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, mut lines_seen) = tokio::sync::mpsc::unbounded_channel();
    let reader = tokio::task::spawn_blocking(move || {
        for line in lines {
            let value: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            if send.send(value["text"].as_str().unwrap().to_owned()).is_err() {
                return;
            }
        }
    });
    let first = lines_seen.recv().await.unwrap();
    assert!(first.contains("are blocked for"), "{first}");
    for n in 0..3 {
        let kind = quorate::core::replicated::EventKind::Alert;
        fake.apply(Change::Note { kind, cluster: None, server: None, text: format!("note {n}") });
        assert_eq!(lines_seen.recv().await.unwrap(), format!("note {n}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines_seen);
    reader.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_whole_file_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let node = Fake::leading(Log::with_orders()).serve().await;
    let path = file.to_str().unwrap();
    let ran = run(node, &["nodes", "backup", path, "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(std::fs::read(&file).unwrap(), b"one two");
    let again = run(node, &["nodes", "backup", path]).await;
    assert_eq!(again.code, 2, "{}", again.err);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half done is left");
}

#[test]
fn the_help_fits_a_tired_person() {
    let help = |words: &[&str]| {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(words)
            .arg("--help")
            .output()
            .unwrap();
        String::from_utf8(run.stdout).unwrap()
    };
    let main = help(&[]);
    for said in ["Exit codes:", "First steps:", "quorate plan orders", "[env: QUORATE_ENDPOINTS"] {
        assert!(main.contains(said), "{said}");
    }
    for verb in ["switchover", "failover", "ack", "discover", "downtime"] {
        assert!(help(&[verb]).contains("Example"), "{verb} has no example");
    }
    assert!(help(&["topology"]).contains("GTID:errant"));
    let bash = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["completions", "bash"])
        .output()
        .unwrap();
    assert!(String::from_utf8(bash.stdout).unwrap().contains("promotion-rule"));
}
