//! Mutual TLS on the node port: a certificate is one node of one group, or no use.

use std::fs;
use std::path::{Path, PathBuf};

use quorate::proto::raft::v1::raft_client::RaftClient;
use quorate::proto::raft::v1::{IdentifyRequest, ReadIndexRequest};
use quorate::raft::{InitError, NodeTls, OpenError, Options, Raft};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::support::{Group, eventually};

/// A certificate authority in a folder of its own.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: PathBuf) -> Authority {
        fs::create_dir_all(&folder).expect("mkdir");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("authority");
        fs::write(folder.join("ca.pem"), issuer.pem()).expect("write");
        Authority { folder, issuer }
    }

    /// A certificate for `name`, as the files of a node.
    fn issue(&self, name: &str) -> NodeTls {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("sign");
        let file = |kind: &str| self.folder.join(format!("{name}.{kind}.pem"));
        fs::write(file("cert"), cert.pem()).expect("write");
        fs::write(file("key"), key.serialize_pem()).expect("write");
        NodeTls { ca: self.folder.join("ca.pem"), cert: file("cert"), key: file("key") }
    }
}

type Tune = Box<dyn Fn(&mut Options) + Send + Sync>;

/// Three nodes with certificates; node 3's may be a wrong one.
fn certified(folder: &Path, third: impl FnOnce(&Authority) -> NodeTls) -> Tune {
    let authority = Authority::new(folder.join("ca"));
    let third = third(&authority);
    let files = [authority.issue("node-1.test.quorate"), authority.issue("node-2.test.quorate"), third];
    Box::new(move |options| options.tls = Some(files[options.node_id as usize - 1].clone()))
}

/// A raw client: whatever certificate, whatever claims.
fn dial(address: &str, files: Option<&NodeTls>, ca: &Path, name: &str) -> Channel {
    let read = |path: &Path| fs::read(path).expect("read");
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca))).domain_name(name);
    if let Some(files) = files {
        tls = tls.identity(Identity::from_pem(read(&files.cert), read(&files.key)));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("address");
    endpoint.tls_config(tls).expect("tls").connect_lazy()
}

/// A call that claims to come from node `from`.
async fn claim(channel: Channel, from: &Raft, to: &Raft) -> Result<u64, Status> {
    let mut request = Request::new(ReadIndexRequest {});
    for (key, value) in [
        ("quorate-group", "test".to_owned()),
        ("quorate-generation", "1".to_owned()),
        ("quorate-from", from.node_id().to_string()),
        ("quorate-from-incarnation", from.incarnation().to_owned()),
        ("quorate-to", to.node_id().to_string()),
        ("quorate-to-incarnation", to.incarnation().to_owned()),
    ] {
        request.metadata_mut().insert(key, value.parse().expect("ascii"));
    }
    RaftClient::new(channel).read_index(request).await.map(|answer| answer.into_inner().index)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_certificates_works_and_strangers_are_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    let tune = certified(folder.path(), |authority| authority.issue("node-3.test.quorate"));
    let files = |name: &str| {
        let file = |kind: &str| folder.path().join(format!("ca/{name}.{kind}.pem"));
        NodeTls { ca: folder.path().join("ca/ca.pem"), cert: file("cert"), key: file("key") }
    };
    let mut group = Group::running(3, tune).await;
    let committed = group.commit(10).await;
    for id in 1..=3 {
        group.applied(id, committed.index).await;
    }

    let leader = group.leader().await;
    let follower = leader % 3 + 1;
    let address = group.raft(leader).own_info().node_addr;
    let (name, ca) = (format!("node-{leader}.test.quorate"), folder.path().join("ca/ca.pem"));
    let (to, from) = (group.raft(leader), group.raft(follower));

    // The rightful owner of the claim is let in: the refusals below are not for another reason.
    let own = files(&format!("node-{follower}.test.quorate"));
    claim(dial(&address, Some(&own), &ca, &name), from, to).await.expect("the rightful owner");

    // A certificate of this group, of another node than the one claimed.
    let other = files(&format!("node-{leader}.test.quorate"));
    let refused = claim(dial(&address, Some(&other), &ca, &name), from, to).await.expect_err("wrong node");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    // The right id, of another group under the same authority.
    let elsewhere = Authority::new(folder.path().join("other"));
    let strange = elsewhere.issue(&format!("node-{follower}.test.quorate"));
    let refused =
        claim(dial(&address, Some(&strange), &ca, &name), from, to).await.expect_err("wrong authority");
    assert_ne!(refused.code(), Code::PermissionDenied, "the handshake should fail: {refused}");

    // No certificate at all.
    let channel = dial(&address, None, &ca, &name);
    let asked = RaftClient::new(channel).identify(IdentifyRequest { group: "test".to_owned() }).await;
    asked.expect_err("no certificate, no answer");

    // Plain text to a TLS port.
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("address").connect_lazy();
    let asked = RaftClient::new(channel).identify(IdentifyRequest { group: "test".to_owned() }).await;
    asked.expect_err("no TLS, no answer");
    group.stop_all().await;
}

/// Nodes 1 and 2 are fine; node 3's certificate is wrong, so it cannot be made a member, nor be one.
async fn third_is_no_member(third: impl FnOnce(&Path, &Authority) -> NodeTls) {
    let folder = tempfile::tempdir().expect("tempdir");
    let tune = certified(folder.path(), |authority| third(folder.path(), authority));
    let mut group = Group::open(3, tune).await;
    let asked = group.raft(1).init(group.members()).await;
    assert!(matches!(asked, Err(InitError::Unreachable { node: 3, .. })), "{asked:?}");

    let mut two = group.members();
    two.remove(&3);
    group.raft(1).init(two).await.expect("init of two");
    let leader = group.leader().await;
    let info = group.raft(3).own_info();
    eventually("it is added all the same", || async {
        group.raft(leader).add_learner(3, info.clone()).await.ok()
    })
    .await;
    eventually("it cannot be reached", || async {
        group.raft(leader).status().peers.get(&3)?.trouble.clone()
    })
    .await;
    group.commit(10).await;
    assert_eq!(*group.raft(3).applied().borrow(), 0, "it was given entries");
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_authority_is_no_member() {
    third_is_no_member(|folder, _| {
        let other = Authority::new(folder.join("other")).issue("node-3.test.quorate");
        NodeTls { ca: folder.join("ca/ca.pem"), ..other }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_anothers_certificate_is_no_member() {
    third_is_no_member(|_, authority| authority.issue("node-9.test.quorate")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_group_is_no_member() {
    third_is_no_member(|_, authority| authority.issue("node-3.prod.quorate")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_certificate_file_is_named() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut options = Options::new(1, "test", folder.path().join("data"));
    let missing = folder.path().join("nothing.pem");
    options.tls = Some(NodeTls { ca: missing.clone(), cert: missing.clone(), key: missing.clone() });
    let Err(error) = Raft::open(options).await else { panic!("opened") };
    assert!(matches!(error, OpenError::Tls { .. }) && error.to_string().contains("nothing.pem"), "{error}");
}
