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
        self.issue_until(name, 2200)
    }

    fn issue_until(&self, name: &str, year: i32) -> NodeTls {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("sign");
        let file = |kind: &str| self.folder.join(format!("{name}.{kind}.pem"));
        fs::write(file("cert"), cert.pem()).expect("write");
        fs::write(file("key"), key.serialize_pem()).expect("write");
        NodeTls { ca: self.folder.join("ca.pem"), cert: file("cert"), key: file("key") }
    }
}

type Tune = Box<dyn Fn(&mut Options) + Send + Sync>;

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
    let authority = Authority::new(folder.path().join("ca"));
    let issued: Vec<NodeTls> =
        (1..=3).map(|id| authority.issue(&format!("node-{id}.test.quorate"))).collect();
    let files = |name: &str| {
        let file = |kind: &str| folder.path().join(format!("ca/{name}.{kind}.pem"));
        NodeTls { ca: folder.path().join("ca/ca.pem"), cert: file("cert"), key: file("key") }
    };
    let tune = move |options: &mut Options| options.tls = Some(issued[options.node_id as usize - 1].clone());
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

/// Nodes 1 and 2 are fine; whoever listens in node 3's place is not: it cannot be made a member, nor be one.
async fn third_is_no_member(third: impl FnOnce(&Path, &Authority) -> Tune) {
    let folder = tempfile::tempdir().expect("tempdir");
    let authority = Authority::new(folder.path().join("ca"));
    let third = third(folder.path(), &authority);
    let files = [authority.issue("node-1.test.quorate"), authority.issue("node-2.test.quorate")];
    let mut group = Group::open(3, move |options| match files.get(options.node_id as usize - 1) {
        Some(files) => options.tls = Some(files.clone()),
        None => third(options),
    })
    .await;
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
        let files = Authority::new(folder.join("other")).issue("node-3.test.quorate");
        Box::new(move |options| options.tls = Some(files.clone()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_in_its_place_is_no_member() {
    third_is_no_member(|_, authority| {
        let files = authority.issue("node-9.test.quorate");
        Box::new(move |options| {
            options.node_id = 9;
            options.tls = Some(files.clone());
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_of_another_group_is_no_member() {
    third_is_no_member(|_, authority| {
        let files = authority.issue("node-3.prod.quorate");
        Box::new(move |options| {
            options.group = "prod".to_owned();
            options.tls = Some(files.clone());
        })
    })
    .await;
}

/// The reason why node 3 does not start with these files.
async fn refusal(folder: &Path, files: NodeTls) -> String {
    let mut options = Options::new(3, "test", folder.join("data"));
    options.free_bytes_min = 0;
    options.tls = Some(files);
    let Err(error) = Raft::open(options).await else { panic!("opened") };
    assert!(matches!(error, OpenError::Tls { .. }), "{error}");
    assert!(!folder.join("data").exists(), "nothing was made");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_peers_would_refuse_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("tempdir");
    let authority = Authority::new(folder.path().join("ca"));
    let good = authority.issue("node-3.test.quorate");

    let missing = NodeTls { key: folder.path().join("nothing.pem"), ..good.clone() };
    let said = refusal(folder.path(), missing).await;
    assert!(said.contains("nothing.pem"), "{said}");

    let said = refusal(folder.path(), authority.issue("node-9.test.quorate")).await;
    assert!(
        said.contains("node-9.test.quorate") && said.contains("needs one for node-3.test.quorate"),
        "{said}"
    );

    let said = refusal(folder.path(), authority.issue("*.test.quorate")).await;
    assert!(said.contains("needs one for"), "a wildcard would be every node: {said}");

    let other = Authority::new(folder.path().join("other"));
    let strange = NodeTls { ca: other.folder.join("ca.pem"), ..good.clone() };
    let said = refusal(folder.path(), strange).await;
    assert!(said.contains("another authority"), "{said}");

    let expired = authority.issue_until("node-3.test.quorate", 2020);
    let said = refusal(folder.path(), expired).await;
    assert!(said.contains("expired") && said.contains("days ago"), "{said}");

    let swapped =
        NodeTls { key: other.issue("node-3.test.quorate").key, ..authority.issue("node-3.test.quorate") };
    let said = refusal(folder.path(), swapped).await;
    assert!(said.contains("does not go with"), "{said}");

    let text = NodeTls { cert: good.key.clone(), ..good };
    let said = refusal(folder.path(), text).await;
    assert!(said.contains("no certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_certificate_is_known() {
    let folder = tempfile::tempdir().expect("tempdir");
    let authority = Authority::new(folder.path().join("ca"));
    let mut options = Options::new(3, "test", folder.path().join("data"));
    options.free_bytes_min = 0;
    options.tls = Some(authority.issue_until("node-3.test.quorate", 2100));
    let raft = Raft::open(options).await.expect("open");
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_102_444_800);
    assert_eq!(raft.certificate_expires(), Some(end));
    raft.shutdown().await;
}
