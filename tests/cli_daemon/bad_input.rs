//! Bad input to the real program: it says what is wrong, where, and what to do, and has done nothing.

use std::fs;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::{
    certificates::{authority, leaf, of_client, of_node},
    node::{Group, Node, free_port, quorate, until},
};

/// `quorate serve` ends with 1, in these words, and has not touched a data directory.
fn does_not_start(node: &Node, words: &[&str]) {
    let ran = quorate(&["serve", "--config", &node.config()]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{}\nlacks {word}", ran.err);
    }
    assert!(!node.folder.join("data").exists(), "nothing half done");
}

#[test]
fn a_wrong_file_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, says) in [
        ("group = ", "gruop = ", &["quorate.toml:2: there is no key `gruop`", "did you mean `group`?"][..]),
        ("node_id = 1", "node_id = \"one\"", &["quorate.toml:1: `node_id` must be a whole number"]),
        ("data_dir", "silence_ms = \"1.2s\"\ndata_dir", &["it is policy", "quorate policy set silence_ms="]),
        ("servers.password", "no-such-file", &["`servers.password_file`", "no-such-file", "cannot be read"]),
    ] {
        let node = Node::new(1, folder.path(), "plaintext = true");
        let text = fs::read_to_string(node.config()).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(node.config(), text.replacen(from, to, 1)).unwrap();
        does_not_start(&node, says);
    }
    let ran = quorate(&["serve", "--config", "/no/such/quorate.toml"]);
    assert!(ran.code == 1 && ran.err.contains("/no/such/quorate.toml"), "{}", ran.err);
}

#[test]
fn a_wrong_certificate_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (nodes, clients, theirs) = (authority("nodes"), authority("clients"), authority("theirs"));
    let body = of_node(1, folder.path(), &nodes, &clients);
    let node = Node::new(1, folder.path(), &body);
    leaf(&node.folder, "node", &["node-1.demo.quorate"], &theirs);
    does_not_start(
        &node,
        &["`tls.node_cert`", "node.pem", "does not come from the authority in `tls.node_ca`"],
    );

    let mut params = CertificateParams::new(vec!["node-1.demo.quorate".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 2, 1);
    let key = KeyPair::generate().unwrap();
    fs::write(node.folder.join("node.pem"), params.signed_by(&key, &nodes).unwrap().pem()).unwrap();
    fs::write(node.folder.join("node.key"), key.serialize_pem()).unwrap();
    does_not_start(&node, &["`tls.node_cert`", "node.pem", "expired"]);
}

/// What a person sees whose own certificate, or whose idea of the authority, is wrong.
#[test]
fn a_client_with_a_wrong_certificate_is_told_so() {
    let (nodes, clients, theirs) = (authority("nodes"), authority("clients"), authority("theirs"));
    let tls = |id: usize, folder: &std::path::Path| of_node(id, folder, &nodes, &clients);
    let mut group = Group::of(1, Some(&tls));
    let folder = group.folder.path().to_owned();
    fs::write(folder.join("ca.pem"), clients.pem()).unwrap();
    leaf(&folder, "anna", &["anna"], &clients);
    leaf(&folder, "stranger", &["anna"], &theirs);
    group.client = of_client(&folder, "anna");
    group.init();
    until("a good one is let in", || group.at(1, &["clusters"]).code == 0);
    let endpoint = format!("127.0.0.1:{}", group.nodes[0].client_port);

    group.client = of_client(&folder, "stranger");
    let ran = group.at(1, &["clusters"]);
    assert!(ran.code == 3 && ran.err.contains(&endpoint), "{}", ran.err);
    assert!(ran.err.contains("certificate"), "{}", ran.err);
    fs::write(folder.join("ca.pem"), theirs.pem()).unwrap();
    group.client = of_client(&folder, "anna");
    let ran = group.at(1, &["clusters"]);
    assert!(ran.code == 3 && ran.err.contains(&endpoint), "{}", ran.err);
    assert!(ran.err.contains("certificate"), "{}", ran.err);
    group.client = vec![];
    let ran = group.at(1, &["clusters"]);
    assert!(ran.code == 3 && ran.err.contains("--tls-ca"), "without TLS: {}", ran.err);
}

#[test]
fn wrong_words_and_units_change_nothing() {
    let group = Group::of(1, None);
    group.init();
    group.wait_for_leader();
    let before = group.json(1, &["policy", "get"]);
    for (words, code, says) in [
        (&["policy", "set", "silense_ms=1200"][..], 1, "did you mean silence_ms?"),
        (&["policy", "set", "silence_ms=5parsecs"], 2, "`parsecs` is no unit of time"),
        (&["policy", "set", "silence_ms=1"], 1, "it must be at least 500"),
        (&["policy", "set", "lag_s=ten"], 2, "`lag_s`"),
        (&["downtime", "db1:3306", "--for", "2fortnights", "--why", "x"], 2, "2fortnights"),
        (&["discover", "no port here:x"], 1, "address"),
        (&["topology", "orders"], 1, "no cluster `orders`"),
        (&["clustres"], 2, "clusters"),
    ] {
        let ran = group.at(1, words);
        assert_eq!(ran.code, code, "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(says), "{words:?}: {}\nlacks {says}", ran.err);
    }
    assert_eq!(group.json(1, &["policy", "get"]), before);
}

#[test]
fn nobody_there_is_no_leader_and_is_told_apart() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let ran = quorate(&["--endpoint", &nobody, "clusters"]);
    assert!(ran.code == 3 && ran.err.contains(&nobody), "{}", ran.err);
    let mut group = Group::of(3, None);
    group.init();
    group.wait_for_leader();
    for node in &mut group.nodes[1..] {
        node.kill();
    }
    let mut ran = group.at(1, &["policy", "set", "lag_s=20"]);
    until("node 1 knows that it is alone", || {
        ran = group.at(1, &["policy", "set", "lag_s=20", "--timeout", "5s"]);
        ran.code == 4
    });
    assert!(ran.err.contains("majority") || ran.err.contains("no leader"), "{}", ran.err);
    let again = group.at(1, &group.init_words());
    assert!(again.code == 1 && again.err.contains("already"), "a second init: {}", again.err);
}
