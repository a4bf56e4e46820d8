//! A group with certificates on both ports.

use std::{fs, path::Path};

use crate::{
    certificates::{authority, leaf, of_client, of_node},
    node::{Group, quorate, until},
};

#[test]
fn certificates_bind_nodes_and_clients() {
    let (nodes, clients) = (authority("nodes"), authority("clients"));
    let tls = |id: usize, folder: &Path| of_node(id, folder, &nodes, &clients);
    let mut group = Group::of(3, Some(&tls));
    let folder = group.folder.path().to_owned();
    leaf(&folder, "anna", &["anna"], &clients);
    leaf(&folder, "mallory", &["anna"], &nodes);
    fs::write(folder.join("ca.pem"), clients.pem()).unwrap();
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let with = |who: &str| of_client(&folder, who);
    group.client = with("anna");
    group.init();
    group.wait_for_leader();
    // Each is asked: two of them pass it on over the node port.
    for n in 1..=3 {
        until("a change is taken", || {
            group.at(n, &["--by", "bert@db1", "policy", "set", &format!("lag_s={n}")]).code == 0
        });
    }
    // What the client says of itself, and what its certificate says, wherever it came in.
    let events = group.json_lines(1, &["events"]);
    let by = "bert@db1 (certificate of anna)";
    assert_eq!(events.iter().filter(|event| event["by"] == by).count(), 3, "{events:?}");
    for who in ["", "mallory"] {
        group.client = with(who);
        let ran = group.at(1, &["clusters"]);
        assert_eq!(ran.code, 3, "`{who}` is let in: {}{}", ran.out, ran.err);
    }
    let endpoint = format!("127.0.0.1:{}", group.nodes[0].node_port);
    let mut words = vec![
        "--endpoint".to_owned(),
        endpoint,
        "clusters".into(),
        "--tls-name".into(),
        "node-1.demo.quorate".into(),
    ];
    words.extend(["--tls-ca".into(), path("node1/node-ca.pem")]);
    words.extend(["--tls-cert".into(), path("mallory.pem"), "--tls-key".into(), path("mallory.key")]);
    let ran = quorate(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(ran.code, 0, "a client with a certificate of the nodes' authority is no node: {}", ran.out);
    group.client = with("anna");
}
