//! A group of three for the tests of lying members: node 1 is real and leads, node 2 is played by hand, node 3 has gone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use quorate::{
    core::{
        analysis::{Class, Code, Evidence, Finding, PrimarySign, ReplicaSign, Verdict},
        plan::step::{Step, StepEnd, Target},
        replicated::{Change, Durability, Member, MemberState, Outcome},
    },
    executor::Permit,
    model::{
        address::Address,
        facts::ServerFacts,
        server::{ClusterId, Flavor, Identity, ServerId},
    },
    probe::{ProbeEvent, ProbeSettings, ProbeTarget},
    proto::node::v1::{
        self as pb, DelegateRequest, HelloRequest, MarksRequest, ReportRequest, SubmitRequest, UrgentRequest,
        peer_client::PeerClient,
        peer_server::{Peer, PeerServer},
    },
    raft::{Options, PeerChannel, Raft},
    server::{
        actors::{self, Actors},
        peer::service::PeerApi,
        ports::{
            Ports, Probe, Servers,
            host::Machine,
            peers::{GrpcPeers, encode},
        },
    },
    session::{ReadError, SessionError},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Every wait for a fact ends here, and fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub async fn eventually<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Servers as their facts say; nobody is probed.
#[derive(Default)]
pub struct Fleet(pub BTreeMap<Address, ServerFacts>);

struct Silent;

impl Probe for Silent {
    fn urgent(&self, _: Duration) -> oneshot::Receiver<ProbeEvent> {
        oneshot::channel().1
    }
    fn reprobe(&self) {}
    fn inventory_now(&self) {}
    fn set(&self, _: ProbeSettings) {}
    fn discard(&self) {}
}

impl Servers for Fleet {
    fn watch(&self, _: ProbeTarget, _: ProbeSettings, _: mpsc::Sender<ProbeEvent>) -> Box<dyn Probe> {
        Box::new(Silent)
    }
    fn read(&self, address: &Address) -> BoxFuture<'_, Result<ServerFacts, ReadError>> {
        let facts = self.0.get(address).cloned().ok_or(ReadError::Session(SessionError::Refused));
        async move { facts }.boxed()
    }
    fn prepare(&self, _: &Target) {}
    fn forget(&self, _: &ServerId) {}
    fn drop_all(&self) {}
    fn drop_busy(&self) {}
    fn set_nodes(&self, _: Vec<u64>) {}
    fn open(&self, _: &Target, _: Duration) -> BoxFuture<'static, Result<tokio::time::Instant, String>> {
        async { Err("no step is expected here".to_owned()) }.boxed()
    }
    fn run(&self, _: Permit, _: Step, _: Duration) -> BoxFuture<'static, StepEnd> {
        async { StepEnd::Refused { why: "no step is expected here".into() } }.boxed()
    }
}

pub fn ports(raft: &Raft, fleet: Fleet) -> Ports {
    Ports {
        log: Arc::new(raft.clone()),
        peers: Arc::new(GrpcPeers::new(raft.clone())),
        servers: Arc::new(fleet),
        host: Arc::new(Machine::new(Arc::default())),
    }
}

/// Node 1, which leads and is real; node 2, which is played by hand; and node 3, which has gone.
pub struct Group {
    pub one: Raft,
    pub two: Raft,
    actors: Actors,
    pub liar: Arc<Liar>,
    _folder: TempDir,
}

pub async fn open(folder: &TempDir, id: u64) -> (Raft, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = Options::new(id, "fuzz", folder.path().join(id.to_string()));
    options.node_addr = listener.local_addr().unwrap().to_string();
    options.free_bytes_min = 0;
    (Raft::open(options).await.unwrap(), listener)
}

impl Group {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (one, at_one) = open(&folder, 1).await;
        let (two, at_two) = open(&folder, 2).await;
        let (three, at_three) = open(&folder, 3).await;
        let actors = actors::start(ports(&one, Fleet::default()));
        let api = PeerApi { raft: one.clone(), answers: actors.answers.clone() };
        let router = tonic::transport::Server::builder()
            .add_service(one.grpc_service())
            .add_service(PeerServer::with_interceptor(api, one.gate()));
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(at_one)));
        let liar = Arc::new(Liar {
            three: three.incarnation().to_owned(),
            two: two.incarnation().to_owned(),
            rounds: AtomicU64::new(0),
            sequence: AtomicU64::new(1),
        });
        let router = tonic::transport::Server::builder()
            .add_service(two.grpc_service())
            .add_service(PeerServer::from_arc(liar.clone()));
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(at_two)));
        let router = tonic::transport::Server::builder().add_service(three.grpc_service());
        let serving = tokio::spawn(router.serve_with_incoming(TcpIncoming::from(at_three)));
        let members = [&one, &two, &three].map(|raft| (raft.node_id(), raft.own_info()));
        one.init(BTreeMap::from(members)).await.unwrap();
        let leader = eventually("somebody leads", || one.leadership().borrow().leader).await;
        if leader != 1 {
            let leading = if leader == 2 { &two } else { &three };
            leading.transfer_leader(1).await.unwrap();
        }
        eventually("node 1 leads", || one.leadership().borrow().is_leader.then_some(())).await;
        serving.abort();
        three.shutdown().await;
        let group = Self { one, two, actors, liar, _folder: folder };
        group.adopt().await;
        group
    }

    async fn adopt(&self) {
        let member = |n: u32| Member {
            server: server(n),
            identity: identity(n),
            address: Address::new("127.0.0.1", n as u16),
            version: "9.7.4".into(),
            source: (n > 1).then(|| server(1)),
            channel: String::new(),
            channels: u32::from(n > 1),
            datacenter: None,
            state: MemberState::Normal,
        };
        let change = Change::AdoptCluster {
            cluster: ClusterId("c1".into()),
            alias: None,
            flavor: Flavor::MySql,
            primary: Some(server(1)),
            members: vec![member(1), member(2)],
            durability: Durability::Async,
        };
        let (_, outcome) = self.actors.tools.group.submit(change, "test", None).await.unwrap();
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }

    /// The peer service of node 1, as node 2 asks it.
    pub fn client(&self) -> PeerClient<PeerChannel> {
        PeerClient::new(self.two.peer_channel(1).unwrap())
    }

    pub async fn stop(self) {
        self.one.shutdown().await;
        self.two.shutdown().await;
    }
}

pub fn server(n: u32) -> ServerId {
    ServerId(format!("00000000-0000-0000-0000-{n:012}"))
}

pub fn identity(n: u32) -> Identity {
    Identity { flavor: Flavor::MySql, server_uuid: Some(server(n).0), server_id: n, server_uid: None }
}

pub fn dead(node: u64, incarnation: &str, sequence: u64, cluster: &str) -> Verdict {
    let evidence = Evidence {
        primary: PrimarySign::Gone { how: "connection refused".into() },
        replicas: vec![(server(2), ReplicaSign::Lost)],
        hard: true,
        urgent_round_done: true,
        needs_witness: false,
        text: "it refuses connections".into(),
    };
    Verdict {
        node,
        incarnation: incarnation.into(),
        sequence,
        cluster: ClusterId(cluster.into()),
        epoch: 1,
        subject: server(1),
        finding: Finding::Failure { class: Class::Primary, code: Code::DeadPrimary, evidence },
    }
}

/// Node 2 when it is asked: in each second round it speaks for node 3, which has gone.
pub struct Liar {
    two: String,
    three: String,
    pub rounds: AtomicU64,
    pub sequence: AtomicU64,
}

#[tonic::async_trait]
impl Peer for Liar {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        Ok(Response::new(pb::HelloResponse { feature_level: u32::MAX, ..Default::default() }))
    }
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<pb::ReportResponse>, Status> {
        Ok(Response::new(pb::ReportResponse::default()))
    }
    async fn urgent(&self, request: Request<UrgentRequest>) -> Result<Response<pb::UrgentResponse>, Status> {
        let round = self.rounds.fetch_add(1, Ordering::SeqCst);
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst);
        let cluster = request.into_inner().cluster;
        let verdict = match round % 2 {
            0 => dead(3, &self.three, sequence, &cluster),
            _ => dead(2, &self.two, sequence, &cluster),
        };
        Ok(Response::new(pb::UrgentResponse { verdict_bytes: encode(&verdict) }))
    }
    async fn delegate(&self, _: Request<DelegateRequest>) -> Result<Response<pb::DelegateResponse>, Status> {
        Ok(Response::new(pb::DelegateResponse { end_bytes: vec![0xc1] }))
    }
    async fn confirm(&self, _: Request<pb::ConfirmRequest>) -> Result<Response<pb::ConfirmResponse>, Status> {
        Ok(Response::new(pb::ConfirmResponse { read_index: u64::MAX }))
    }
    async fn marks(&self, _: Request<MarksRequest>) -> Result<Response<pb::MarksResponse>, Status> {
        Ok(Response::new(pb::MarksResponse { marks_bytes: vec![0xdf; 3 << 20] }))
    }
    async fn submit(&self, _: Request<SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        Ok(Response::new(pb::SubmitResponse { index: u64::MAX, outcome_bytes: vec![0xc1] }))
    }
}
