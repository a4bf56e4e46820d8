//! Certificates of a group: one authority for the nodes, one for the clients.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes FILE.pem and FILE.key.
pub fn leaf(folder: &Path, file: &str, names: &[&str], by: &Authority) {
    let params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join(format!("{file}.pem")), params.signed_by(&key, by).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

/// Writes the certificates of both ports of node `id` below `folder`; the body of its section `[tls]`.
pub fn of_node(id: usize, folder: &Path, nodes: &Authority, clients: &Authority) -> String {
    let own = folder.join(format!("node{id}"));
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("node-ca.pem"), nodes.pem()).unwrap();
    fs::write(own.join("client-ca.pem"), clients.pem()).unwrap();
    leaf(&own, "node", &[&format!("node-{id}.demo.quorate")], nodes);
    leaf(&own, "server", &["localhost", "127.0.0.1"], clients);
    "node_ca = \"node-ca.pem\"\nnode_cert = \"node.pem\"\nnode_key = \"node.key\"\n\
     client_ca = \"client-ca.pem\"\nclient_cert = \"server.pem\"\nclient_key = \"server.key\""
        .to_owned()
}

/// What a client says that trusts `FOLDER/ca.pem` and shows the certificate of `who` in `folder`, or none.
pub fn of_client(folder: &Path, who: &str) -> Vec<String> {
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let mut words = vec!["--tls-ca".to_owned(), path("ca.pem")];
    if !who.is_empty() {
        words.extend(["--tls-cert".into(), path(&format!("{who}.pem"))]);
        words.extend(["--tls-key".into(), path(&format!("{who}.key"))]);
    }
    words
}
