//! A node without raft and without servers: a state behind a lock, failures on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::StreamExt;
use quorate::{
    api::{
        self, ClientTls, Limits,
        backend::{
            Backend, Backup, DiscoverWish, Discovered, Failure, GroupChange, GroupTrouble, GroupView,
            LeaderChannel, LiveServer, NodeRole, NodeView, PlanView, ProblemView, Program, Stamped,
            StateHash, UNKNOWN_AGE, Wish,
        },
    },
    core::replicated::{Change, Outcome, Refusal, State, recovery::Testimony},
    model::{
        address::Address,
        server::{ClusterId, ServerId},
    },
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::world::{Log, cluster_id, dead, live, member, plan_view, problem, start, verdict};

/// What was submitted: name of the change, who, request id.
pub type Submission = (String, String, Option<String>);

pub struct Fake {
    pub id: u64,
    pub log: Arc<Mutex<Log>>,
    pub applied: watch::Sender<u64>,
    pub leader: watch::Sender<Option<u64>>,
    pub way: Mutex<Option<LeaderChannel>>,
    pub submitted: Mutex<Vec<Submission>>,
    /// Taken one by one by whatever can fail.
    pub failures: Mutex<VecDeque<Failure>>,
    pub plan: Mutex<Result<PlanView, Failure>>,
    pub discovered: Mutex<Result<(), Failure>>,
    pub calls: Mutex<u32>,
}

impl Fake {
    /// Node 1, which leads.
    pub fn leading(log: Log) -> Arc<Self> {
        Self::new(1, Some(1), Arc::new(Mutex::new(log)))
    }

    pub fn new(id: u64, leader: Option<u64>, log: Arc<Mutex<Log>>) -> Arc<Self> {
        let index = log.lock().unwrap().index;
        Arc::new(Self {
            id,
            log,
            applied: watch::channel(index).0,
            leader: watch::channel(leader).0,
            way: Mutex::new(None),
            submitted: Mutex::default(),
            failures: Mutex::default(),
            plan: Mutex::new(Ok(plan_view())),
            discovered: Mutex::new(Ok(())),
            calls: Mutex::new(0),
        })
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// Applies a change as the group's own.
    pub fn apply(&self, change: Change) -> u64 {
        let mut log = self.log();
        let id = log.apply(change);
        self.applied.send_replace(log.index);
        id
    }

    pub fn fail_next(&self, failure: Failure) {
        self.failures.lock().unwrap().push_back(failure);
    }

    fn may_fail(&self) -> Result<(), Failure> {
        *self.calls.lock().unwrap() += 1;
        self.failures.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    pub fn leads_via(&self, leader: u64, address: SocketAddr) {
        *self.way.lock().unwrap() = Some(way(address));
        self.leader.send_replace(Some(leader));
    }

    /// Serves its node port, whose gate lets everybody in; gives the address.
    pub async fn serve_nodes(self: &Arc<Self>) -> SocketAddr {
        self.serve_gated(Ok).await
    }

    /// The same, whose gate says that the caller was removed.
    pub async fn serve_nodes_to_nobody(self: &Arc<Self>) -> SocketAddr {
        let removed = |_| Err(Status::failed_precondition("node 2 was removed from the group"));
        self.serve_gated(removed).await
    }

    async fn serve_gated(
        self: &Arc<Self>,
        gate: fn(Request<()>) -> Result<Request<()>, Status>,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend: Arc<dyn Backend> = self.clone();
        let routes = api::peer_routes(backend, gate);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));
        address
    }

    /// Serves its client port; gives the address.
    pub async fn serve(self: &Arc<Self>) -> SocketAddr {
        self.serve_with(None).await
    }

    pub async fn serve_with(self: &Arc<Self>, tls: Option<ClientTls>) -> SocketAddr {
        self.serve_as(tls, Limits::default()).await
    }

    /// The same, for so many clients.
    pub async fn serve_limited(self: &Arc<Self>, limits: Limits) -> SocketAddr {
        self.serve_as(None, limits).await
    }

    async fn serve_as(self: &Arc<Self>, tls: Option<ClientTls>, limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend: Arc<dyn Backend> = self.clone();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            let _until_the_runtime_ends = stop;
            api::serve(backend, listener, tls.as_ref(), limits, stopped).await.unwrap();
        });
        address
    }
}

pub fn way(address: SocketAddr) -> LeaderChannel {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    LeaderChannel::new(channel, Stamped::bare())
}

pub async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tonic::async_trait]
impl Backend for Fake {
    fn node_id(&self) -> u64 {
        self.id
    }

    fn look(&self, see: &mut dyn FnMut(&State)) {
        see(&self.log().state);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leader(&self) -> watch::Receiver<Option<u64>> {
        self.leader.subscribe()
    }

    fn leader_channel(&self) -> Option<LeaderChannel> {
        self.way.lock().unwrap().clone()
    }

    async fn barrier(&self) -> Result<(), Failure> {
        let leader = *self.leader.borrow();
        if leader == Some(self.id) { Ok(()) } else { Err(Failure::NotLeader { leader }) }
    }

    async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<&str>,
    ) -> Result<(u64, Outcome), Failure> {
        self.may_fail()?;
        let name = change.name().to_owned();
        self.submitted.lock().unwrap().push((name, by.to_owned(), request_id.map(str::to_owned)));
        let mut log = self.log();
        let done = log.submit(change, by, request_id, self.id);
        self.applied.send_replace(log.index);
        Ok(done)
    }

    fn live(&self, _cluster: &ClusterId) -> BTreeMap<ServerId, LiveServer> {
        live()
    }

    fn problems(&self, _cluster: &ClusterId) -> Vec<ProblemView> {
        vec![problem()]
    }

    async fn testimonies(&self, _cluster: &ClusterId) -> Vec<Testimony> {
        let leads = *self.leader.borrow() == Some(self.id);
        let age = |ms| if leads { ms } else { UNKNOWN_AGE };
        vec![
            Testimony { verdict: verdict(1, 2, dead()), age_ms: age(40) },
            Testimony { verdict: verdict(2, 2, dead()), age_ms: age(9_000) },
        ]
    }

    async fn discover(&self, wish: DiscoverWish) -> Result<Discovered, Failure> {
        self.may_fail()?;
        self.discovered.lock().unwrap().clone()?;
        let members = vec![member(1, None), member(2, Some(1))];
        let mut index = 0;
        if !wish.dry_run {
            let change = super::world::adopt();
            index = self.submit(change, &wish.by, wish.request_id.as_deref()).await?.0;
        }
        Ok(Discovered {
            cluster: cluster_id(),
            alias: wish.alias,
            adopted: true,
            primary: members.first().map(|m| m.server.clone()),
            members,
            warnings: vec!["cdc@10.0.0.9 reads the binary log of db1:3306 and is no member".into()],
            index,
        })
    }

    async fn plan(&self, _wish: &Wish) -> Result<PlanView, Failure> {
        self.plan.lock().unwrap().clone()
    }

    async fn start(&self, wish: &Wish, by: &str, request_id: Option<&str>) -> Result<u64, Failure> {
        let mut wanted = start(wish.kind);
        let cluster = self.log().state.clusters.get(&wish.cluster).cloned();
        wanted.generation = cluster.map_or(1, |c| c.generation);
        let change = Change::StartRecovery(Box::new(wanted));
        match self.submit(change, by, request_id).await?.1 {
            Outcome::Done { id, .. } => Ok(id),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::None => Err(Failure::Internal("no outcome".into())),
        }
    }

    async fn init_group(&self, nodes: Vec<(u64, Address)>) -> Result<GroupView, Failure> {
        self.may_fail()?;
        let mut view = self.group().await;
        view.nodes = nodes
            .into_iter()
            .map(|(id, address)| node(id, &address.to_string(), NodeRole::Follower))
            .collect();
        Ok(view)
    }

    async fn group(&self) -> GroupView {
        let leader = *self.leader.borrow();
        let role = |id| match leader {
            Some(leader) if leader == id => NodeRole::Leader,
            Some(_) => NodeRole::Follower,
            None => NodeRole::Unknown,
        };
        GroupView {
            group: "demo".into(),
            node: self.id,
            leader,
            term: 2,
            log_index: *self.applied.borrow(),
            initialised: true,
            nodes: (1..=3).map(|id| node(id, &format!("127.0.0.1:710{id}"), role(id))).collect(),
        }
    }

    async fn change_group(&self, change: GroupChange, _by: &str) -> Result<String, Failure> {
        self.may_fail()?;
        match change {
            GroupChange::Remove { id } if id > 3 => {
                let why = format!("there is no node {id}");
                Err(Failure::Group { trouble: GroupTrouble::UnknownNode, why })
            }
            other => Ok(format!("{other:?}")),
        }
    }

    async fn backup(&self) -> Result<Backup, Failure> {
        let parts = [Ok(b"one ".to_vec()), Ok(b"two".to_vec())];
        Ok((42, futures::stream::iter(parts).boxed()))
    }
}

fn node(id: u64, address: &str, role: NodeRole) -> NodeView {
    NodeView {
        id,
        address: address.into(),
        client_address: format!("127.0.0.1:720{id}"),
        role,
        voter: true,
        applied: Some(10),
        incarnation: format!("inc{id}"),
        program: Some(Program {
            version: "0.1.0".into(),
            feature_level: 1,
            state: Some(StateHash { index: 10, hash: "5ca1ab1e".into() }),
        }),
        datacenter: String::new(),
        heard_ms: Some(3),
    }
}

/// A refusal that a plan or a start may meet.
pub fn blocked() -> Failure {
    Failure::Refused(Refusal::ClusterBlocked { recovery: 14, left_s: 1_790 })
}
