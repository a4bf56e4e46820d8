//! mTLS on the client port: who has no certificate of the right authority, or an expired one, is let in nowhere.

use std::{fs, net::SocketAddr, path::Path};

use quorate::{
    api::{ClientTls, error_info},
    proto::v1::{self as pb, topology_client::TopologyClient},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{fake::Fake, world::Log};

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, PEM.
pub fn leaf(by: &Authority, expired: bool) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// Writes a node's files and names them.
pub fn files(folder: &Path, ca: &Authority, (cert, key): &(String, String)) -> ClientTls {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    ClientTls {
        ca: Some(write("ca.pem", &ca.pem())),
        cert: write("cert.pem", cert),
        key: write("key.pem", key),
    }
}

async fn ask(
    address: SocketAddr,
    trusts: &Authority,
    identity: Option<(String, String)>,
) -> Result<(), Status> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusts.pem())).domain_name("localhost");
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    let mut topology = TopologyClient::new(endpoint.connect_lazy());
    topology.list_clusters(pb::ListClustersRequest::default()).await.map(|_| ())
}

#[tokio::test]
async fn only_certificates_of_the_right_authority_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let fake = Fake::leading(Log::with_orders());
    let address = fake.serve_with(Some(files(folder.path(), &ours, &leaf(&ours, false)))).await;
    ask(address, &ours, Some(leaf(&ours, false))).await.expect("a good one is let in");
    for (who, trusts, identity) in [
        ("no certificate", &ours, None),
        ("a certificate of another authority", &ours, Some(leaf(&theirs, false))),
        ("an expired certificate", &ours, Some(leaf(&ours, true))),
        ("a client that trusts another authority", &theirs, Some(leaf(&ours, false))),
    ] {
        let error = ask(address, trusts, identity).await.expect_err(who);
        assert!(error_info(&error).is_none(), "{who}: no node answered: {error}");
    }
}

#[tokio::test]
async fn a_node_with_an_expired_certificate_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority();
    let fake = Fake::leading(Log::with_orders());
    let address = fake.serve_with(Some(files(folder.path(), &ours, &leaf(&ours, true)))).await;
    let error = ask(address, &ours, Some(leaf(&ours, false))).await.unwrap_err();
    assert!(error_info(&error).is_none(), "no node is believed: {error}");
}
