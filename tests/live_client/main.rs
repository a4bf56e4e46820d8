//! Clients before a real group that watches real servers: the command line and a client in another language.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod bad_input;
#[path = "../live/mod.rs"]
mod live;
#[path = "../cli_daemon/node.rs"]
#[allow(dead_code)]
mod node;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use live::{Install, PASSWORD, REPL_PASSWORD, Server, one_at_a_time};
use node::{Group, until};
use quorate::model::server::Flavor;
use serde_json::Value;

/// As a careful shop runs its servers; the other tests leave the flushing out.
const DURABLE: [&str; 4] = [
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--performance-schema=ON",
    "--innodb-doublewrite=ON",
];

/// A group of three and a topology: s1 the primary, s2 and s3 below it.
struct Stage {
    group: Group,
    servers: Vec<Server>,
}

impl Stage {
    async fn of(flavor: Flavor, options: &[&str]) -> Option<Self> {
        let install = Install::find(flavor)?;
        let mut servers = Vec::new();
        for number in 1..=3 {
            servers.push(Server::start(&install, number, options).await);
        }
        servers[0].sql("INSERT INTO app.t (v) VALUES (1)").await;
        for replica in &servers[1..] {
            replica.follow(&servers[0]).await;
        }
        let group = Group::watching(3, PASSWORD, REPL_PASSWORD);
        group.init();
        group.wait_for_leader();
        Some(Self { group, servers })
    }

    fn address(&self, n: usize) -> String {
        self.servers[n - 1].address().to_string()
    }

    /// All members answer and replicate.
    fn well(&self) -> bool {
        let ran = self.group.at(2, &["topology", "orders", "--json"]);
        let Ok(cluster) = serde_json::from_str::<Value>(&ran.out) else { return false };
        let mut members = Vec::new();
        flatten(&cluster["tree"], &mut members);
        members.len() == 3 && members.iter().all(|m| m["status"] == "ok")
    }
}

fn flatten(tree: &Value, into: &mut Vec<Value>) {
    for member in tree.as_array().into_iter().flatten() {
        into.push(member.clone());
        flatten(&member["replicas"], into);
    }
}

async fn the_command_line(flavor: Flavor) {
    let _turn = one_at_a_time().await;
    let Some(stage) = Stage::of(flavor, &DURABLE).await else { return };
    for (setting, wished) in
        [("sync_binlog", "1"), ("innodb_flush_log_at_trx_commit", "1"), ("performance_schema", "1")]
    {
        let is = stage.servers[0].value(&format!("SELECT @@global.{setting}")).await;
        assert_eq!(is.as_deref(), Some(wished), "{setting}");
    }
    let group = &stage.group;
    refused_discoveries(group);
    let dry = group.json(1, &["discover", &stage.address(2), "--alias", "orders", "--dry-run"]);
    assert_eq!(dry["members"].as_array().unwrap().len(), 3, "{dry}");
    assert_eq!(group.json(1, &["clusters"]), Value::Array(vec![]), "a dry run adopts nothing");
    // From a replica, by a node that may not lead: the whole topology is found.
    let found = group.json(2, &["discover", &stage.address(2), "--alias", "orders"]);
    assert_eq!((&found["adopted"], found["members"].as_array().unwrap().len()), (&Value::Bool(true), 3));
    until("all are seen to be well", || stage.well());
    let clusters = group.json(3, &["clusters"]);
    assert_eq!((&clusters[0]["primary"], &clusters[0]["members"]), (&stage.address(1).into(), &3.into()));
    assert_eq!(clusters[0]["problems"], Value::Array(vec![]));
    let tree = group.at(1, &["topology"]);
    let signs: Vec<&str> = tree.out.lines().filter(|l| l.starts_with("+ ")).collect();
    assert_eq!(signs.len(), 2, "{}", tree.out);
    let plan = group.json(1, &["plan", "orders"]);
    assert!(plan["blocked_by"].as_array().unwrap().is_empty() && !plan["new_primary"].is_null(), "{plan}");
    let explained = group.at(1, &["explain", "orders"]);
    assert!(explained.out.contains("no failure agreed"), "{}", explained.out);

    let to = stage.address(3);
    let dry = group.json(1, &["switchover", "orders", "--to", &to, "--dry-run"]);
    assert_eq!(dry["new_primary"], to.as_str(), "{dry}");
    assert_eq!(group.json(1, &["recoveries"]), Value::Array(vec![]), "a dry run changes nothing");
    let done = group.json(2, &["switchover", "orders", "--to", &to, "--request-id", "move-1"]);
    assert_eq!((&done["state"], &done["new_primary"]), (&"succeeded".into(), &to.as_str().into()), "{done}");
    let again = group.json(3, &["switchover", "orders", "--to", &to, "--request-id", "move-1"]);
    assert_eq!(again["id"], done["id"], "the same request is the same switchover");
    until("all are seen to be well again", || stage.well());
    assert_eq!(group.json(1, &["recoveries", "orders"]).as_array().unwrap().len(), 1);
    let acked = group.json(1, &["ack", &done["id"].to_string(), "--comment", "seen"]);
    assert_eq!(acked["acknowledged"][0], done["id"]);
    let events = group.json_lines(3, &["events", "--cluster", "orders"]);
    for kind in ["discovered", "recovery_started", "published", "recovery_ended", "acknowledged"] {
        assert!(events.iter().any(|e| e["kind"] == kind), "no {kind}: {events:?}");
    }
    let forgotten = group.at(1, &["forget", "orders"]);
    assert_eq!(forgotten.code, 0, "{}", forgotten.err);
}

/// What cannot be adopted says why, and nothing is half done.
fn refused_discoveries(group: &Group) {
    let nobody = format!("127.0.0.1:{}", node::free_port());
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = http.local_addr().unwrap().to_string();
    let own = format!("127.0.0.1:{}", group.nodes[0].client_port);
    for (address, reasons) in [
        (&nobody, &["SERVER_UNREACHABLE"][..]),
        (&deaf, &["SERVER_UNREACHABLE", "NOT_A_SERVER"]),
        (&own, &["NOT_A_SERVER", "SERVER_UNREACHABLE"]),
    ] {
        let ran = group.at(1, &["discover", address, "--json"]);
        assert_eq!(ran.code, 1, "{address}: {}{}", ran.out, ran.err);
        let error: Value = serde_json::from_str(&ran.err).unwrap();
        let reason = error["error"]["reason"].as_str().unwrap();
        assert!(reasons.contains(&reason), "{address}: {error}");
        assert!(error["error"]["text"].as_str().unwrap().contains(address.as_str()), "{error}");
    }
    assert_eq!(group.json(1, &["clusters"]), Value::Array(vec![]));
}

async fn another_language(flavor: Flavor) {
    let _turn = one_at_a_time().await;
    let Some(python) = python() else { return };
    let Some(stage) = Stage::of(flavor, &[]).await else { return };
    let endpoint = format!("127.0.0.1:{}", stage.group.nodes[1].client_port);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/client.py");
    let run = Command::new(python).arg(script).args([&endpoint, &stage.address(2)]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    let answer: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(answer["old_primary"], stage.address(1).as_str(), "{answer}");
    assert_ne!(answer["new_primary"], answer["old_primary"], "{answer}");
}

/// An interpreter with what client.py needs: `QUORATE_TEST_PYTHON`, else an environment made once under `target`.
/// `QUORATE_TEST_PYTHON=none` skips, and says so.
fn python() -> Option<PathBuf> {
    match std::env::var("QUORATE_TEST_PYTHON").as_deref() {
        Ok("none") => {
            eprintln!("skipped: no Python client (QUORATE_TEST_PYTHON=none)");
            return None;
        }
        Ok(named) => return Some(named.into()),
        Err(_) => {}
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let environment = target.join("python-client");
    let (program, made) = (environment.join("bin/python"), environment.join("made"));
    let wanted = root.join("tests/python/requirements.txt");
    if std::fs::read(&made).ok() != std::fs::read(&wanted).ok() {
        let run = |program: &Path, words: &[&str]| {
            let run = Command::new(program).args(words).output().expect("python3 with venv is needed");
            assert!(run.status.success(), "{words:?}: {}", String::from_utf8_lossy(&run.stderr));
        };
        run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()]);
        run(&program, &["-m", "pip", "install", "--quiet", "-r", wanted.to_str().unwrap()]);
        std::fs::copy(&wanted, &made).unwrap();
    }
    Some(program)
}

mod mysql {
    #[tokio::test(flavor = "multi_thread")]
    async fn the_command_line_steers_a_real_topology() {
        super::the_command_line(super::Flavor::MySql).await;
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn bad_topologies_are_refused_in_words() {
        super::bad_input::bad_topologies(super::Flavor::MySql).await;
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn a_python_client_fails_over_and_acknowledges() {
        super::another_language(super::Flavor::MySql).await;
    }
}

mod mariadb {
    #[tokio::test(flavor = "multi_thread")]
    async fn the_command_line_steers_a_real_topology() {
        super::the_command_line(super::Flavor::MariaDb).await;
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn bad_topologies_are_refused_in_words() {
        super::bad_input::bad_topologies(super::Flavor::MariaDb).await;
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn a_python_client_fails_over_and_acknowledges() {
        super::another_language(super::Flavor::MariaDb).await;
    }
}
