//! Nodes of a group in this process, each with its own directory, port and (cuttable) links.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use quorate::core::replicated::{Change, Command};
use quorate::raft::{Committed, GrpcService, NodeInfo, Options, ProposeError, Raft};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Every wait for a fact ends here, and fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A command that leaves a trace and nothing else: log time.
pub fn command(at_ms: u64) -> Command {
    let by = "test".to_owned();
    Command { at_ms, wall_ms: 0, node: 1, term: 0, by, request_id: None, change: Change::Tick }
}

/// Waits until `fact` holds; says `what` was waited for when it never does.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut fact: impl FnMut() -> F) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(value) = fact().await {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Links that are down: (from, to). Calls over them are never answered.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<BTreeSet<(u64, u64)>>>);

impl Links {
    /// Cuts both directions between `node` and each of `others`.
    pub fn isolate(&self, node: u64, others: impl IntoIterator<Item = u64>) {
        let mut cut = self.0.lock().expect("links");
        for other in others {
            cut.insert((node, other));
            cut.insert((other, node));
        }
    }

    pub fn heal(&self) {
        self.0.lock().expect("links").clear();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.0.lock().expect("links").contains(&(from, to))
    }
}

/// One running node.
pub struct Node {
    pub raft: Raft,
    server: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.server.abort();
        self.raft.shutdown().await;
    }
}

/// A group whose nodes can be stopped, started and cut off.
pub struct Group {
    pub folder: TempDir,
    pub links: Links,
    pub nodes: BTreeMap<u64, Node>,
    /// Where nodes that have no address yet will listen.
    pub host: IpAddr,
    addresses: BTreeMap<u64, SocketAddr>,
    tune: Box<dyn Fn(&mut Options) + Send + Sync>,
}

impl Group {
    /// Nodes 1 to `size`, opened and served, not initialised.
    pub async fn open(size: u64, tune: impl Fn(&mut Options) + Send + Sync + 'static) -> Group {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut group = Group {
            folder,
            links: Links::default(),
            nodes: BTreeMap::new(),
            host: Ipv4Addr::LOCALHOST.into(),
            addresses: BTreeMap::new(),
            tune: Box::new(tune),
        };
        for id in 1..=size {
            group.start(id).await;
        }
        group
    }

    /// As [`Group::open`], initialised with all nodes as voters, and led.
    pub async fn running(size: u64, tune: impl Fn(&mut Options) + Send + Sync + 'static) -> Group {
        let group = Group::open(size, tune).await;
        group.nodes[&1].raft.init(group.members()).await.expect("init");
        group.leader().await;
        group
    }

    pub fn options(&self, id: u64) -> Options {
        let mut options = Options::new(id, "test", self.folder.path().join(format!("node{id}")));
        options.free_bytes_min = 0;
        if let Some(address) = self.addresses.get(&id) {
            options.node_addr = address.to_string();
            options.client_addr = format!("client{id}:1");
        }
        (self.tune)(&mut options);
        options
    }

    /// Starts node `id` on its directory, at the address it had before.
    pub async fn start(&mut self, id: u64) -> &Raft {
        let any = SocketAddr::from((self.host, 0));
        let wanted = self.addresses.get(&id).copied().unwrap_or(any);
        let listener =
            eventually("the port is free again", || async { TcpListener::bind(wanted).await.ok() }).await;
        self.addresses.insert(id, listener.local_addr().expect("address"));
        let raft = Raft::open(self.options(id)).await.expect("open");
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Cuttable { inner: raft.grpc_service(), to: id, links: self.links.clone() };
        let mut builder = Server::builder();
        if let Some(tls) = raft.server_tls() {
            builder = builder.tls_config(tls).expect("server tls");
        }
        let router = builder.add_service(service);
        let server = tokio::spawn(async move {
            let ended = async move { drop(stopped.await) };
            router.serve_with_incoming_shutdown(TcpIncoming::from(listener), ended).await.expect("serve");
        });
        self.nodes.insert(id, Node { raft, server, stop: Some(stop) });
        &self.nodes[&id].raft
    }

    /// The next start of node `id` takes any port.
    pub fn forget_address(&mut self, id: u64) {
        self.addresses.remove(&id);
    }

    pub async fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).expect("running").stop().await;
    }

    pub fn raft(&self, id: u64) -> &Raft {
        &self.nodes[&id].raft
    }

    pub fn members(&self) -> BTreeMap<u64, NodeInfo> {
        self.nodes.iter().map(|(id, node)| (*id, node.raft.own_info())).collect()
    }

    /// The leader that a majority follows: one that can pass a read barrier.
    pub async fn leader(&self) -> u64 {
        eventually("somebody leads", || async {
            for (id, node) in &self.nodes {
                if node.raft.leadership().borrow().is_leader && node.raft.read_barrier().await.is_ok() {
                    return Some(*id);
                }
            }
            None
        })
        .await
    }

    /// Proposes until it is committed, at whoever leads.
    pub async fn commit(&self, at_ms: u64) -> Committed {
        eventually("a command is committed", || async {
            let leader = self.leader().await;
            match self.raft(leader).propose(command(at_ms)).await {
                Ok(committed) => Some(committed),
                Err(ProposeError::TooLarge { .. } | ProposeError::Encode { .. }) => panic!("not a command"),
                Err(_) => None,
            }
        })
        .await
    }

    /// Waits until node `id` has applied `index`.
    pub async fn applied(&self, id: u64, index: u64) {
        let mut applied = self.raft(id).applied();
        let reached = tokio::time::timeout(DEADLINE, applied.wait_for(|applied| *applied >= index)).await;
        assert!(matches!(reached, Ok(Ok(_))), "node {id} never applied {index}");
    }

    pub async fn stop_all(&mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.stop().await;
        }
    }
}

/// A node's service whose callers can be cut off.
#[derive(Clone)]
struct Cuttable {
    inner: GrpcService,
    to: u64,
    links: Links,
}

impl NamedService for Cuttable {
    const NAME: &'static str = GrpcService::NAME;
}

impl Service<http::Request<Body>> for Cuttable {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let from = request.headers().get("quorate-from").and_then(|from| from.to_str().ok()?.parse().ok());
        let (links, to) = (self.links.clone(), self.to);
        let answer = self.inner.call(request);
        Box::pin(async move {
            if from.is_some_and(|from| links.is_cut(from, to)) {
                return std::future::pending().await;
            }
            let answer = answer.await;
            if from.is_some_and(|from| links.is_cut(to, from)) {
                return std::future::pending().await;
            }
            answer
        })
    }
}
