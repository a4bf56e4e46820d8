//! No secret in any log, event, error, snapshot, backup or dry run.
//!
//! Passwords are canaries; a real group and real servers do everything that handles one. Then the canaries, and the
//! private keys of the certificates, are searched for in all that Quorate wrote: logs at the most talkative level, the
//! output of every command, the data directories, a backup, a restored directory (a snapshot and nothing else), and the
//! event stream. The same search must find the cluster's alias in each of these places (in logs, which do not name it, a
//! server's address): a password that went that way would be seen.
//!
//! Not searched: what the servers themselves write. A server that logs statements logs `CHANGE ... SOURCE_PASSWORD`
//! as it sees fit (MySQL and MariaDB replace the password in their general log).

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../cli_daemon/certificates.rs"]
mod certificates;
#[path = "../live/mod.rs"]
mod live;
#[path = "../cli_daemon/node.rs"]
#[allow(dead_code)]
mod node;
mod search;

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
};

use certificates::{authority, leaf, of_client, of_node};
use live::{Install, PASSWORD, REPL_PASSWORD, Server, one_at_a_time};
use node::{Group, Ran, quorate, until};
use quorate::{
    model::server::Flavor,
    proto::v1::{self as pb, events_client::EventsClient},
};
use search::Search;
use serde_json::Value;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// The replication password from the first switchover on: one that must be escaped in SQL.
const ODD: &str = r#"canary-odd-4d1e'; \ " --"#;
const ODD_LITERAL: &str = r#"'canary-odd-4d1e\'; \\ " --'"#;
/// A password that the nodes do not have, set on servers to be refused there.
const OTHER: &str = "canary-other-55aa";
/// The alias: no secret, and in every place that is searched.
const ALIAS: &str = "marker-2b9e";

/// A group that logs everything, and all that its clients were shown.
struct Stage {
    group: Group,
    servers: Vec<Server>,
    shown: RefCell<Vec<u8>>,
}

impl Stage {
    async fn of(install: &Install) -> Self {
        let mut servers = Vec::new();
        for number in 1..=3 {
            servers.push(Server::start(install, number, &[]).await);
        }
        servers[0].sql("INSERT INTO app.t (v) VALUES (1)").await;
        for replica in &servers[1..] {
            replica.follow(&servers[0]).await;
        }
        // Receivers that are connected stay so; whoever connects from now on needs the new one.
        servers[0].sql(&format!("ALTER USER 'repl'@'%' IDENTIFIED BY {ODD_LITERAL}")).await;
        for server in &servers {
            let began = std::time::Instant::now();
            while server.try_connect("repl", ODD).await.is_err() {
                assert!(began.elapsed() < live::PATIENCE, "the new replication password does not arrive");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        let (nodes, clients) = (authority("nodes"), authority("clients"));
        let tls = |id: usize, folder: &Path| of_node(id, folder, &nodes, &clients);
        let mut group = Group::prepared(3, Some(&tls), |node| {
            node.set_passwords(PASSWORD, ODD);
            node.log_level = Some("trace");
        });
        let folder = group.folder.path().to_owned();
        leaf(&folder, "anna", &["anna"], &clients);
        fs::write(folder.join("ca.pem"), clients.pem()).unwrap();
        group.client = of_client(&folder, "anna");
        group.init();
        group.wait_for_leader();
        Self { group, servers, shown: RefCell::default() }
    }

    /// Asks node `n`; remembers all that was shown.
    fn at(&self, n: usize, words: &[&str]) -> Ran {
        self.keep(self.group.at(n, words))
    }

    fn keep(&self, ran: Ran) -> Ran {
        self.shown.borrow_mut().extend([ran.out.as_bytes(), ran.err.as_bytes()].concat());
        ran
    }

    fn json(&self, n: usize, words: &[&str]) -> Value {
        let ran = self.at(n, &[words, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    fn address(&self, n: usize) -> String {
        self.servers[n - 1].address().to_string()
    }

    /// Reads that no test of their own asks for, in text and JSON.
    fn look_around(&self) {
        for words in [
            &["clusters"][..],
            &["topology", ALIAS],
            &["problems"],
            &["explain", ALIAS],
            &["plan", ALIAS],
            &["recoveries"],
            &["events", "-n", "500"],
            &["settings"],
            &["policy", "get"],
            &["nodes", "status"],
            &["switchover", ALIAS, "--dry-run"],
            &["failover", ALIAS, "--dry-run", "--waive", "verdict"],
        ] {
            self.at(1, words);
            self.at(2, &[words, &["--json"]].concat());
        }
    }

    fn wait_until_well(&self) {
        until("all members are well", || {
            let tree = self.json(2, &["topology", ALIAS])["tree"].to_string();
            tree.matches("\"status\":\"ok\"").count() == 3
        });
    }

    fn wait_for_success(&self, count: usize) -> Value {
        let mut last = Value::Null;
        until("the recovery succeeds", || {
            let all = self.json(1, &["recoveries", ALIAS]);
            let done = all.as_array().unwrap().iter().filter(|r| r["state"] == "succeeded").count();
            last = all[0].clone();
            done == count
        });
        last
    }
}

/// Refused by a stranger and by the primary; each says so, and nobody takes it for death.
async fn wrong_passwords(stage: &Stage, install: &Install) {
    let stranger = Server::start(install, 9, &[]).await;
    stranger.sql(&format!("ALTER USER 'quorate'@'%' IDENTIFIED BY '{OTHER}'")).await;
    let ran = stage.at(1, &["discover", &stranger.address().to_string(), "--json"]);
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &error["error"]["reason"]), (1, &"LOGIN_FAILED".into()), "{error}");
    let text = error["error"]["text"].as_str().unwrap();
    assert!(text.contains(&stranger.address().to_string()) && text.contains("denied"), "{text}");
    drop(stranger);

    let primary = &stage.servers[0];
    primary.sql(&format!("SET sql_log_bin=0; ALTER USER 'quorate'@'%' IDENTIFIED BY '{OTHER}'")).await;
    primary.kill_sessions_of("quorate").await;
    until("the failed login is a problem", || {
        stage.json(1, &["problems"]).to_string().contains("LoginFailed")
    });
    stage.look_around();
    primary.sql(&format!("SET sql_log_bin=0; ALTER USER 'quorate'@'%' IDENTIFIED BY '{PASSWORD}'")).await;
}

/// A switchover, a failover, and the return of the dead primary: each points servers with the credential.
async fn change_primaries(stage: &mut Stage) {
    let to = stage.address(3);
    // A node that logs this much may be blind for a moment, and then refuses.
    until("the switchover is done", || stage.at(2, &["switchover", ALIAS, "--to", &to]).code == 0);
    stage.wait_until_well();
    stage.servers[2].kill();
    let failover = stage.wait_for_success(2);
    assert_eq!(failover["old_primary"], to.as_str(), "{failover}");
    stage.look_around();
    let id = failover["id"].to_string();
    stage.at(1, &["recovery", &id]);
    stage.at(3, &["recovery", &id, "--json"]);
    stage.servers[2].boot().await;
    stage.wait_until_well();
    stage.at(1, &["ack", &id, "--comment", "seen"]);
    stage.look_around();
}

/// The stream as it comes over the wire, from the beginning to an acknowledgement.
async fn event_stream(stage: &Stage) -> Vec<u8> {
    use prost::Message;
    let read = |file: &str| fs::read(stage.group.folder.path().join(file)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("anna.pem"), read("anna.key")))
        .domain_name("localhost");
    let endpoint = format!("https://127.0.0.1:{}", stage.group.nodes[2].client_port);
    let channel = Endpoint::from_shared(endpoint).unwrap().tls_config(tls).unwrap().connect_lazy();
    let request = pb::WatchEventsRequest::default();
    let mut stream = EventsClient::new(channel).watch_events(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    loop {
        let next = tokio::time::timeout(live::PATIENCE, stream.message()).await.expect("an event in time");
        let batch = next.unwrap().expect("no end");
        bytes.extend(batch.encode_to_vec());
        bytes.extend(format!("{batch:?}").into_bytes());
        if batch.events.iter().any(|event| event.kind == "acknowledged") {
            return bytes;
        }
    }
}

/// A backup, and the data directory that a restore makes of it: one snapshot.
fn backup(stage: &mut Stage) -> (Vec<u8>, PathBuf) {
    let file = stage.group.folder.path().join("backup");
    until("a backup is taken", || stage.at(1, &["nodes", "backup", file.to_str().unwrap()]).code == 0);
    let fresh = node::Node::new(9, stage.group.folder.path(), "plaintext = true");
    let ran = quorate(&["nodes", "restore", "--config", &fresh.config(), file.to_str().unwrap()]);
    assert_eq!(stage.keep(ran).code, 0);
    (fs::read(file).unwrap(), fresh.folder.join("data"))
}

/// Every byte of every file below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(bytes_below(&path)),
            false => all.extend(fs::read(&path).unwrap()),
        }
        all.push(0);
    }
    all
}

/// Passwords, also cut off at either end, and the nodes' private keys.
fn secrets(stage: &Stage) -> Search {
    let mut secrets = vec![("a password's beginning", b"canary-".to_vec())];
    for (name, password) in [
        ("the servers' password", PASSWORD),
        ("the first replication password", REPL_PASSWORD),
        ("the replication password", ODD),
        ("the other password", OTHER),
    ] {
        secrets.push((name, password.as_bytes()["canary-".len()..].to_vec()));
    }
    for node in &stage.group.nodes {
        for file in ["node.key", "server.key"] {
            let pem = fs::read_to_string(node.folder.join(file)).unwrap();
            let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            let der = base64(&body.concat());
            // RFC 5208 and 5915: the private number of a P-256 key stands here.
            assert_eq!(der[34..36], [4, 32], "{file} has another form than this test knows");
            secrets.push((file, der[36..68].to_vec()));
        }
    }
    Search::of(secrets.iter().map(|(name, secret)| (*name, secret.as_slice())))
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits =
        text.bytes().filter(|c| *c != b'=').flat_map(|c| (0..6).rev().map(move |at| value(c) >> at & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum * 2 + bit)).collect()
}

async fn no_secret_is_shown(flavor: Flavor) {
    let _turn = one_at_a_time().await;
    let Some(install) = Install::find(flavor) else { return };
    let mut stage = Stage::of(&install).await;
    stage.at(1, &["discover", &stage.address(2), "--alias", ALIAS, "--dry-run"]);
    stage.json(2, &["discover", &stage.address(2), "--alias", ALIAS]);
    stage.wait_until_well();
    stage.look_around();
    wrong_passwords(&stage, &install).await;
    stage.wait_until_well();
    change_primaries(&mut stage).await;

    let mut places = vec![("the event stream".to_owned(), event_stream(&stage).await)];
    let (backup, restored) = backup(&mut stage);
    places.push(("the backup".into(), backup));
    places.push(("a restored directory".into(), bytes_below(&restored)));
    places.push(("the output of commands".into(), stage.shown.take()));
    for node in &mut stage.group.nodes {
        node.terminate();
        places.push((format!("the data of node {}", node.id), bytes_below(&node.folder.join("data"))));
        let log = fs::read(node.folder.join("log")).unwrap();
        assert!(log.windows(5).any(|word| word == b"TRACE"), "the log tells all");
        places.push((format!("the log of node {}", node.id), log));
    }
    let secrets = secrets(&stage);
    let address = stage.address(3);
    for (place, bytes) in &places {
        let marker = if place.starts_with("the log") { address.as_bytes() } else { ALIAS.as_bytes() };
        let seen = Search::of([("marker", marker)]).find(bytes);
        assert!(seen.is_some(), "the search does not see {} in {place}", String::from_utf8_lossy(marker));
        let found = secrets.find(bytes);
        assert!(found.is_none(), "a secret is in {place}: {}", found.unwrap_or_default());
    }
}

mod mysql {
    #[tokio::test(flavor = "multi_thread")]
    async fn no_secret_is_shown() {
        super::no_secret_is_shown(super::Flavor::MySql).await;
    }
}

mod mariadb {
    #[tokio::test(flavor = "multi_thread")]
    async fn no_secret_is_shown() {
        super::no_secret_is_shown(super::Flavor::MariaDb).await;
    }
}
