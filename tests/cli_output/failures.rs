//! Exit codes, and sentences that say what, where and what to do.

use quorate::{
    api::backend::{Failure, ServerTrouble},
    core::replicated::Refusal,
    model::address::Address,
};
use tokio::net::TcpListener;

use crate::{
    check,
    fake::{Fake, blocked},
    run, run_at,
    world::Log,
};

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_sentences_and_exit_1() {
    let fake = Fake::leading(Log::with_orders());
    let node = fake.serve().await;
    let mut said = String::new();
    let long = "session 4711 (app@10.0.0.5) has run for 9.2 s: UPDATE stock SET ...; end it, wait, or use --kill-writers";
    let login = "the account `quorate` lacks the grant REPLICATION CLIENT; see the README's grants";
    for (failure, words) in [
        (None, &["topology", "ordesr"][..]),
        (None, &["switchover", "orders", "--to", "db9:3306"]),
        (None, &["switchover", "orders", "--to", "db1:3306"]),
        (None, &["ack", "99", "--comment", "x"]),
        (None, &["forget", "--server", "db1:3306"]),
        (None, &["policy", "set", "silense_ms=1s"]),
        (None, &["policy", "set", "silence_ms=10ms"]),
        (Some(blocked()), &["failover", "orders"]),
        (Some(Refusal::LongStatement { sessions: long.into() }.into()), &["switchover", "orders"]),
        (
            Some(Failure::Server {
                trouble: ServerTrouble::LoginFailed,
                address: Address::new("db7", 3306),
                why: login.into(),
            }),
            &["discover", "db7"],
        ),
        (
            Some(Failure::Unknown("no answer in 2 s".into())),
            &["recoveries-enabled", "on", "--request-id", "r7"],
        ),
        (Some(Failure::NotYet("a drill")), &["switchover", "orders"]),
    ] {
        if let Some(failure) = failure {
            fake.fail_next(failure);
        }
        let ran = run(node, words).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{words:?}: {}", ran.err);
        said.push_str(&format!("$ quorate {}\n{}", words.join(" "), ran.err));
    }
    check("refusals.txt", &said);
    let ran = run(node, &["forget", "db2:3306"]).await;
    assert_eq!(ran.code, 2, "an address is not taken for its whole cluster");
    assert!(ran.err.contains("`quorate forget --server db2:3306`"), "{}", ran.err);
    fake.fail_next(blocked());
    let ran = run(node, &["failover", "orders", "--json"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["reason"], "CLUSTER_BLOCKED");
    assert_eq!(error["error"]["metadata"]["left_s"], "1790");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_exits_2_before_anything_is_asked() {
    let mut said = String::new();
    for words in [
        &["nodes", "init", "1:10.0.0.1:7101"][..],
        &["nodes", "init", "1=10.0.0.1"],
        &["downtime", "db1:3306", "--for", "30", "--why", "x"],
        &["downtime", "db1:3306", "--for", "3parsec", "--why", "x"],
        &["recoveries-enabled", "off"],
        &["policy", "set", "silence_ms"],
        &["policy", "set", "silence_ms=2parsec"],
        &["ack", "--comment", "x"],
        &["clusters", "--endpoint", "nonsense"],
        &["clusters", "--tls-name", "x"],
        &["clusters", "--tls-ca", "/nonexistent.pem"],
    ] {
        let ran = run_at(&["127.0.0.1:1".into()], words).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        said.push_str(&format!("$ quorate {}\n{}", words.join(" "), ran.err));
    }
    check("usage.txt", &said);
    for words in [&["--json", "nonsense"][..], &["downtime", "db1:3306", "--json", "--for", "30"]] {
        let ran = run_at(&["127.0.0.1:1".into()], words).await;
        let error: serde_json::Value = serde_json::from_str(&ran.err).expect("an object");
        assert_eq!((ran.code, error["error"]["reason"].as_str()), (2, Some("USAGE")), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_exits_3_and_names_each_node() {
    let ran = run_at(&["127.0.0.1:1".into(), "127.0.0.1:2".into()], &["clusters"]).await;
    assert_eq!(ran.code, 3);
    check("unreachable.txt", &ran.err);
    let ran = run_at(&["127.0.0.1:1".into()], &["events", "--follow"]).await;
    assert_eq!(ran.code, 3, "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leader_exits_4_and_stale_answers() {
    let fake = Fake::leading(Log::with_orders());
    fake.leader.send_replace(None);
    let node = fake.serve().await;
    let ran = run(node, &["clusters"]).await;
    assert_eq!(ran.code, 4);
    check("no-leader.txt", &ran.err);
    assert_eq!(run(node, &["clusters", "--stale"]).await.code, 0);
    assert_eq!(run(node, &["nodes", "status"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_is_asked_when_one_is_down_deaf_or_without_leader() {
    let good = Fake::leading(Log::with_orders()).serve().await.to_string();
    let lost = Fake::new(2, None, Fake::leading(Log::with_orders()).log.clone()).serve().await.to_string();
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = (deaf.local_addr().unwrap().to_string(), deaf).0;
    for bad in ["127.0.0.1:1".to_owned(), lost, deaf] {
        let ran = run_at(&[bad.clone(), good.clone()], &["clusters", "--timeout", "3s"]).await;
        assert_eq!(ran.code, 0, "{bad}: {}", ran.err);
    }
}
