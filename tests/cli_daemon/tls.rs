//! A group with certificates on both ports.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::node::{Group, quorate, until};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes FILE.pem and FILE.key.
fn leaf(folder: &Path, file: &str, names: &[&str], by: &Authority) {
    let params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join(format!("{file}.pem")), params.signed_by(&key, by).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn certificates_bind_nodes_and_clients() {
    let (nodes, clients) = (authority("nodes"), authority("clients"));
    let tls = |id: usize, folder: &Path| {
        let own = folder.join(format!("node{id}"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("node-ca.pem"), nodes.pem()).unwrap();
        fs::write(own.join("client-ca.pem"), clients.pem()).unwrap();
        leaf(&own, "node", &[&format!("node-{id}.demo.quorate")], &nodes);
        leaf(&own, "server", &["localhost", "127.0.0.1"], &clients);
        "node_ca = \"node-ca.pem\"\nnode_cert = \"node.pem\"\nnode_key = \"node.key\"\n\
         client_ca = \"client-ca.pem\"\nclient_cert = \"server.pem\"\nclient_key = \"server.key\""
            .to_owned()
    };
    let mut group = Group::of(3, Some(&tls));
    let folder = group.folder.path().to_owned();
    leaf(&folder, "anna", &["anna"], &clients);
    leaf(&folder, "mallory", &["anna"], &nodes);
    fs::write(folder.join("ca.pem"), clients.pem()).unwrap();
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let with = |who: &str| {
        let mut words = vec!["--tls-ca".to_owned(), path("ca.pem")];
        if !who.is_empty() {
            words.extend([
                "--tls-cert".into(),
                path(&format!("{who}.pem")),
                "--tls-key".into(),
                path(&format!("{who}.key")),
            ]);
        }
        words
    };
    group.client = with("anna");
    group.init();
    group.wait_for_leader();
    // Each is asked: two of them pass it on over the node port.
    for n in 1..=3 {
        until("a change is taken", || group.at(n, &["policy", "set", &format!("lag_s={n}")]).code == 0);
    }
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
