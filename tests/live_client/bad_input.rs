//! Topologies that are not adopted, and names that nobody knows: what the command line says about real servers.

use std::fs;

use serde_json::Value;

use crate::{
    live::{Install, PASSWORD, REPL_PASSWORD, Server, one_at_a_time},
    node::{Group, until},
};
use quorate::model::server::Flavor;

/// One node, and nothing adopted by it.
fn lone_node() -> Group {
    let group = Group::watching(1, PASSWORD, REPL_PASSWORD);
    group.init();
    group.wait_for_leader();
    group
}

/// A discovery fails for this reason, in these words, and leaves nothing behind.
fn refused(group: &Group, seed: &Server, reason: &str, words: &[&str]) {
    let ran = group.at(1, &["discover", &seed.address().to_string(), "--json"]);
    let error: Value = serde_json::from_str(&ran.err).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    assert_eq!((ran.code, &error["error"]["reason"]), (1, &reason.into()), "{error}");
    let text = error["error"]["text"].as_str().unwrap();
    eprintln!("{reason}: {text}");
    for word in words {
        assert!(text.contains(word), "{text}\nlacks {word}");
    }
    assert_eq!(group.json(1, &["clusters"]), Value::Array(vec![]), "nothing half done");
}

/// Points without waiting for a success that never comes.
async fn point(replica: &Server, source: &Server) {
    let port = source.port;
    let sql = match replica.install.flavor {
        Flavor::MySql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='repl', \
             SOURCE_PASSWORD='{REPL_PASSWORD}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ),
        Flavor::MariaDb => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', \
             MASTER_PASSWORD='{REPL_PASSWORD}', MASTER_USE_GTID=slave_pos; START SLAVE"
        ),
    };
    replica.sql(&sql).await;
}

async fn unpoint(replica: &Server) {
    let noun = if replica.install.flavor == Flavor::MySql { "REPLICA" } else { "SLAVE" };
    replica.sql(&format!("STOP {noun}; RESET {noun} ALL")).await;
}

pub async fn bad_topologies(flavor: Flavor) {
    let _turn = one_at_a_time().await;
    let Some(install) = Install::find(flavor) else { return };
    let group = lone_node();
    let one = Server::start(&install, 1, &[]).await;
    let here = one.address().to_string();
    refused(&group, &one, "INVALID_ARGUMENT", &[&here, "replicates from nobody", "Point a replica at it"]);

    let grant = if flavor == Flavor::MySql { "REPLICATION CLIENT" } else { "SLAVE MONITOR" };
    one.sql(&format!("SET sql_log_bin=0; REVOKE {grant} ON *.* FROM 'quorate'@'%'")).await;
    refused(&group, &one, "LOGIN_FAILED", &[&here, &format!("GRANT {grant} ON *.* TO")]);
    one.sql(&format!("SET sql_log_bin=0; GRANT {grant} ON *.* TO 'quorate'@'%'")).await;

    // The second server 1: replication refuses to start, and the channel is there.
    let mut twin = Server::start(&install, 1, &[]).await;
    let there = twin.address().to_string();
    point(&twin, &one).await;
    refused(
        &group,
        &twin,
        "DUPLICATE_SERVER_ID",
        &["server_id 1 ", &here, &there, "Give one of them another"],
    );

    twin.sql("SET GLOBAL server_id=2").await;
    if flavor == Flavor::MySql {
        unpoint(&twin).await;
        twin.kill();
        fs::copy(one.data().join("auto.cnf"), twin.data().join("auto.cnf")).unwrap();
        twin.boot().await;
        twin.sql("SET GLOBAL server_id=2").await;
        point(&twin, &one).await;
        refused(&group, &twin, "DUPLICATE_SERVER_ID", &["server_uuid ", &here, &there]);
        unpoint(&twin).await;
        twin.kill();
        fs::remove_file(twin.data().join("auto.cnf")).unwrap();
        twin.boot().await;
        twin.sql("SET GLOBAL server_id=2").await;
        point(&twin, &one).await;
    }

    point(&one, &twin).await;
    refused(&group, &one, "REPLICATION_LOOP", &["replicate in a circle", &here, &there]);
    unpoint(&one).await;
    unpoint(&twin).await;
    unknown_names(&group, &one, &twin).await;
}

/// What nobody knows is answered with what is near; the rest of a good topology stays as it is.
async fn unknown_names(group: &Group, one: &Server, two: &Server) {
    two.follow(one).await;
    group.json(1, &["discover", &two.address().to_string(), "--alias", "orders"]);
    let member = one.address().to_string();
    let digits = (0..10).map(|digit| format!("{}{digit}", &member[..member.len() - 1]));
    let near = digits.into_iter().find(|near| *near != member && *near != two.address().to_string()).unwrap();
    for (words, says) in [
        (vec!["topology", "ordres"], "did you mean orders"),
        (vec!["switchover", "ordres"], "did you mean orders"),
        (vec!["switchover", "orders", "--to", &near], &member),
        (vec!["forget", "--server", &near], &member),
        (vec!["promotion-rule", &near, "must_not"], &member),
        (vec!["recovery", "77"], "77"),
    ] {
        let ran = group.at(1, &words);
        eprintln!("{words:?}: {}", ran.err.trim());
        assert_eq!(ran.code, 1, "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(says), "{words:?}: {}\nlacks {says}", ran.err);
    }
    let again = group.at(1, &["discover", &member, "--alias", "other"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let shown = [again.out, again.err].concat();
    assert!(shown.contains("it keeps the name orders; `quorate alias orders other`"), "{shown}");
    assert_eq!(group.json(1, &["clusters"]).as_array().unwrap().len(), 1, "it is adopted once");
    until("both members are well", || {
        let tree = group.json(1, &["topology", "orders"]).to_string();
        tree.matches("\"status\":\"ok\"").count() == 2
    });
}
