//! What the API asks of the node: reads, submissions, discovery, plans, and changes of the group of nodes.

mod planning;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::sync::{oneshot, watch};
use tonic::service::Interceptor;

use crate::{
    api::backend::{
        Backend, Backup, DiscoverWish, Discovered, Failure, GroupChange, GroupTrouble, GroupView,
        LeaderChannel, LiveServer, NodeRole, NodeView, PlanView, ProblemView, Program, ServerTrouble,
        Stamped, StateHash, UNKNOWN_AGE, Wish,
    },
    core::{
        analysis::Repair,
        replicated::{
            Change, Cluster, Kind, Outcome, Refusal, State, command::StartRecovery, recovery::Testimony,
            state::FEATURE_LEVEL,
        },
    },
    model::{
        address::Address,
        server::{ClusterId, ServerId},
    },
    proto::node::v1::{HelloRequest, HelloResponse, peer_client::PeerClient},
    raft::{ChangeError, InitError, PeerStatus, ProposeError, Raft, ReadError},
    server::{
        discovery::{DiscoverError, Discovery, Found},
        group::SubmitError,
        leader::{LeaderHandle, Message, StartError, start},
        observer::{ObserverHandle, Views},
        tools::Tools,
    },
    session::{self, SessionError},
};

/// Bound of asking another node what it runs.
const HELLO: Duration = Duration::from_millis(300);

/// The node behind the API.
pub struct NodeBackend {
    /// The node's own raft: membership, status, backup, and the connection to the leader.
    pub raft: Raft,
    /// Ports and group.
    pub tools: Tools,
    /// What this node sees, as last published.
    pub views: Views,
    /// The observer.
    pub observer: ObserverHandle,
    /// The leader's task here.
    pub leader: LeaderHandle,
    /// Crawls.
    pub discovery: Arc<Discovery>,
    /// Mirrors who leads.
    pub leads: watch::Receiver<Option<u64>>,
}

impl NodeBackend {
    fn cluster(&self, id: &ClusterId) -> Result<Cluster, Failure> {
        let found = self.raft.read(|state| state.clusters.get(id).cloned());
        found.ok_or_else(|| {
            Failure::Refused(Refusal::Unknown { what: "cluster".into(), name: id.0.clone(), near: vec![] })
        })
    }

    /// What each of these nodes runs, where it says so in time.
    async fn programs(&self, nodes: impl Iterator<Item = u64>) -> BTreeMap<u64, Program> {
        let raft = &self.raft;
        let ask = async |node: u64| {
            if node == raft.node_id() {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let state = raft.state_hash().await.map(|(index, hash)| StateHash { index, hash });
                return Some((node, Program { version, feature_level: FEATURE_LEVEL, state }));
            }
            let mut peer = PeerClient::new(raft.peer_channel(node).ok()?);
            let request = HelloRequest { with_state: true, ..HelloRequest::default() };
            let hello = tokio::time::timeout(HELLO, peer.hello(request)).await.ok()?.ok()?.into_inner();
            let HelloResponse { version, feature_level, state_hash: hash, state_index: index, .. } = hello;
            let state = (!hash.is_empty()).then_some(StateHash { index, hash });
            Some((node, Program { version, feature_level, state }))
        };
        futures::future::join_all(nodes.map(ask)).await.into_iter().flatten().collect()
    }

    async fn commit_found(&self, wish: &DiscoverWish, found: Found) -> Result<Discovered, Failure> {
        let known = self.raft.read(|state| {
            found.members.iter().find_map(|m| {
                let by_address = state.member_at(&m.address).map(|(c, _)| c.id.clone());
                by_address.or_else(|| state.cluster_of(&m.server).map(|c| c.id.clone()))
            })
        });
        let mut warnings: Vec<String> =
            found.unread.iter().map(|(address, why)| format!("{address} could not be read: {why}")).collect();
        warnings.extend(
            found.others.iter().map(|o| format!("dump client {o} is no member; listed, not managed")),
        );
        if found.primary.is_none() {
            warnings.push("no single primary was found; nothing is recovered until there is one".into());
        }
        let adopted = known.is_none();
        let cluster = known.unwrap_or_else(|| ClusterId(format!("c-{}", short_id())));
        let mut index = 0;
        if !wish.dry_run && adopted {
            let change = Change::AdoptCluster {
                cluster: cluster.clone(),
                alias: wish.alias.clone(),
                flavor: found.flavor,
                primary: found.primary.clone(),
                members: found.members.clone(),
                durability: found.durability,
            };
            let (at, outcome) = self.submit(change, &wish.by, wish.request_id.as_deref()).await?;
            index = at;
            if let Outcome::Refused(refusal) = outcome {
                return Err(refusal.into());
            }
        } else if !adopted {
            let servers =
                self.raft.read(|s| s.clusters[&cluster].members.keys().cloned().collect::<Vec<_>>());
            self.observer.inventory(servers).await;
            warnings.push("the cluster is known already; an inventory of its members was asked for".into());
        }
        let current = self.raft.read(|state| state.clusters.get(&cluster).cloned());
        if let (Some(cluster), Some(wished), false) = (&current, &wish.alias, adopted)
            && cluster.alias.as_ref() != Some(wished)
        {
            let name = cluster.name();
            warnings
                .push(format!("it keeps the name {name}; `quorate alias {name} {wished}` gives it another"));
        }
        let (alias, primary, members) = match current {
            Some(c) => (c.alias.clone(), c.primary.clone(), c.members.values().cloned().collect()),
            None => (wish.alias.clone(), found.primary, found.members),
        };
        Ok(Discovered { cluster, alias, adopted, primary, members, warnings, index })
    }
}

#[tonic::async_trait]
impl Backend for NodeBackend {
    fn node_id(&self) -> u64 {
        self.raft.node_id()
    }

    fn look(&self, see: &mut dyn FnMut(&State)) {
        self.raft.read(|state| see(state));
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.raft.applied()
    }

    fn leader(&self) -> watch::Receiver<Option<u64>> {
        self.leads.clone()
    }

    fn leader_channel(&self) -> Option<LeaderChannel> {
        let raft = &self.raft;
        let leader = raft.leadership().borrow().leader.filter(|l| *l != raft.node_id())?;
        let (channel, stamp) = raft.peer_parts(leader).ok()?;
        // Each call is stamped with who makes it; the leader's gate checks it.
        let stamped = Stamped(Arc::new(move |request| stamp.clone().call(request)));
        Some(LeaderChannel::new(channel, stamped))
    }

    async fn barrier(&self) -> Result<(), Failure> {
        let raft = &self.raft;
        let leadership = *raft.leadership().borrow();
        if !leadership.is_leader {
            return Err(Failure::NotLeader { leader: leadership.leader });
        }
        match raft.read_barrier().await {
            Ok(_) => Ok(()),
            Err(ReadError::NoLeader | ReadError::LeaderUnreachable { .. }) => {
                Err(Failure::NotLeader { leader: raft.leadership().borrow().leader })
            }
            Err(_) => Err(Failure::NoQuorum),
        }
    }

    async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<&str>,
    ) -> Result<(u64, Outcome), Failure> {
        let submitted = self.tools.group.submit(change, by, request_id.map(str::to_owned)).await;
        submitted.map_err(not_submitted)
    }

    fn live(&self, cluster: &ClusterId) -> BTreeMap<ServerId, LiveServer> {
        let Some(shown) = self.views.of(cluster) else { return BTreeMap::new() };
        let now = self.tools.now_ms();
        let live = |o: &crate::core::analysis::observation::Observation| LiveServer {
            facts: o.facts.as_deref().cloned().zip(o.answered_ms.map(|at| now.saturating_sub(at))),
            last_attempt: o.last_attempt.clone().map(|(at, end)| (end, now.saturating_sub(at))),
        };
        shown.seen.observations.iter().map(|(server, o)| (server.clone(), live(o))).collect()
    }

    fn problems(&self, cluster: &ClusterId) -> Vec<ProblemView> {
        let Some(shown) = self.views.of(cluster) else { return Vec::new() };
        let verdicts = self.raft.read(|state| state.verdicts.get(cluster).cloned().unwrap_or_default());
        let me = self.node_id();
        let nodes = |code| {
            let mut nodes: Vec<u64> = verdicts
                .values()
                .filter(|v| v.node != me && v.failure().is_some_and(|(_, c, _)| c == code))
                .map(|v| v.node)
                .collect();
            nodes.push(me);
            nodes.sort_unstable();
            nodes
        };
        shown
            .problems
            .iter()
            .map(|p| ProblemView {
                code: p.code,
                class: p.class,
                severity: p.severity,
                repaired: p.repair != Repair::Nothing,
                server: Some(p.subject.clone()),
                text: p.text.clone(),
                nodes: nodes(p.code),
            })
            .collect()
    }

    async fn testimonies(&self, cluster: &ClusterId) -> Vec<Testimony> {
        let raft = &self.raft;
        if raft.leadership().borrow().is_leader {
            return self.leader.evidence(cluster).await;
        }
        raft.read(|state| {
            let of_cluster = state.verdicts.get(cluster).into_iter().flat_map(BTreeMap::values);
            of_cluster.map(|v| Testimony { verdict: v.clone(), age_ms: UNKNOWN_AGE }).collect()
        })
    }

    async fn discover(&self, wish: DiscoverWish) -> Result<Discovered, Failure> {
        let found = self.discovery.crawl(&wish.address).await.map_err(discover_failure)?;
        self.commit_found(&wish, found).await
    }

    async fn plan(&self, wish: &Wish) -> Result<PlanView, Failure> {
        self.plan_now(wish).await
    }

    async fn start(&self, wish: &Wish, by: &str, request_id: Option<&str>) -> Result<u64, Failure> {
        let plan = self.plan(wish).await?;
        if let Some(refusal) = plan.refused_by.into_iter().next() {
            return Err(refusal.into());
        }
        let cluster = self.cluster(&wish.cluster)?;
        let evidence = match wish.kind {
            Kind::Switchover => Vec::new(),
            _ => self.leader.evidence(&wish.cluster).await,
        };
        let start = StartRecovery {
            kind: wish.kind,
            cluster: wish.cluster.clone(),
            class: crate::core::analysis::Class::Primary,
            code: None,
            epoch: cluster.epoch,
            generation: cluster.generation,
            subject: plan.old_primary,
            evidence,
            revoked: start::revoked(&cluster),
            semi_sync: start::semi_sync(&cluster),
            waived: wish.waived.clone(),
            to: wish.to.clone(),
            kill_writers: wish.kill_writers,
        };
        let (reply, answer) = oneshot::channel();
        let message = Message::Operator {
            start: Box::new(start),
            by: by.to_owned(),
            request_id: request_id.map(str::to_owned),
            reply,
        };
        self.leader.tell(message).await;
        match answer.await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(StartError::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(StartError::NotCommitted(error))) => Err(not_submitted(error.into())),
            Err(_) => Err(Failure::Unknown("this node stopped leading while it was committed".into())),
        }
    }

    async fn init_group(&self, nodes: Vec<(u64, Address)>) -> Result<GroupView, Failure> {
        let raft = &self.raft;
        // Before anybody else is asked: a second init is that, whoever is down.
        if !raft.membership().nodes.is_empty() {
            return Err(init_failure(InitError::AlreadyInitialised { node: raft.node_id() }));
        }
        let mut members = BTreeMap::new();
        for (id, address) in nodes {
            let info = match id == raft.node_id() {
                true => raft.own_info(),
                false => raft.identify(id, &address.to_string()).await.map_err(init_failure)?.info,
            };
            members.insert(id, crate::raft::NodeInfo { node_addr: address.to_string(), ..info });
        }
        raft.init(members).await.map_err(init_failure)?;
        Ok(self.group().await)
    }

    async fn group(&self) -> GroupView {
        let raft = &self.raft;
        let status = raft.status();
        let leadership = *raft.leadership().borrow();
        let me = raft.node_id();
        let programs = self.programs(status.membership.nodes.keys().copied()).await;
        let nodes = status
            .membership
            .nodes
            .iter()
            .map(|(id, info)| {
                let peer = status.peers.get(id).cloned().unwrap_or_default();
                let voter = status.membership.voters.contains(id);
                let applied = if *id == me { status.applied } else { peer.matched };
                NodeView {
                    id: *id,
                    address: info.node_addr.clone(),
                    client_address: info.client_addr.clone(),
                    role: role(*id, voter, &peer, leadership.leader, me),
                    voter,
                    applied,
                    incarnation: info.incarnation.clone(),
                    program: programs.get(id).cloned(),
                    datacenter: info.datacenter.clone().unwrap_or_default(),
                    heard_ms: peer.answered.map(|age| age.as_millis() as u64),
                }
            })
            .collect::<Vec<_>>();
        GroupView {
            group: raft.group().to_owned(),
            node: me,
            leader: leadership.leader,
            term: leadership.term,
            log_index: status.last_log.unwrap_or(0),
            initialised: !nodes.is_empty(),
            nodes,
        }
    }

    async fn change_group(&self, change: GroupChange, _by: &str) -> Result<String, Failure> {
        let raft = &self.raft;
        let identify = async |id: u64, address: &Address| {
            let found = raft.identify(id, &address.to_string()).await.map_err(init_failure)?;
            Ok::<_, Failure>(crate::raft::NodeInfo { node_addr: address.to_string(), ..found.info })
        };
        match change {
            GroupChange::Add { id, address } => {
                let info = identify(id, &address).await?;
                raft.add_learner(id, info).await.map_err(change_failure)?;
                Ok(format!(
                    "node {id} at {address} follows as a learner; `quorate nodes make-voter {id}` lets it vote"
                ))
            }
            GroupChange::MakeVoter { id } => {
                raft.make_voter(id).await.map_err(change_failure)?;
                Ok(format!("node {id} votes"))
            }
            GroupChange::Remove { id } => {
                raft.remove(id).await.map_err(change_failure)?;
                Ok(format!("node {id} is no member any more; its id is never used again"))
            }
            GroupChange::Replace { old, id, address } => {
                let info = identify(id, &address).await?;
                raft.replace(old, id, info).await.map_err(change_failure)?;
                Ok(format!("node {id} at {address} votes in the place of node {old}"))
            }
            GroupChange::TransferLeader { to } => {
                let voters = raft.membership().voters;
                let target = to.or_else(|| voters.into_iter().find(|id| *id != raft.node_id()));
                let target = target.ok_or_else(|| Failure::Group {
                    trouble: GroupTrouble::Refused,
                    why: "there is no other voter".into(),
                })?;
                raft.transfer_leader(target).await.map_err(change_failure)?;
                Ok(format!("node {target} leads"))
            }
        }
    }

    async fn backup(&self) -> Result<Backup, Failure> {
        self.barrier().await?;
        let raft = &self.raft;
        let index = *raft.applied().borrow();
        let bytes = raft.backup().map_err(|error| Failure::Internal(error.to_string()))?;
        let chunks: Vec<Result<Vec<u8>, Failure>> = bytes.chunks(64 * 1024).map(|c| Ok(c.to_vec())).collect();
        Ok((index, futures::stream::iter(chunks).boxed()))
    }
}

fn role(id: u64, voter: bool, peer: &PeerStatus, leader: Option<u64>, me: u64) -> NodeRole {
    if leader == Some(id) {
        return NodeRole::Leader;
    }
    if id != me && peer.trouble.is_some() {
        return NodeRole::Unreachable;
    }
    match (id == me || peer.answered.is_some(), voter) {
        (false, _) => NodeRole::Unknown,
        (true, true) => NodeRole::Follower,
        (true, false) => NodeRole::Learner,
    }
}

fn short_id() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}

fn discover_failure(error: DiscoverError) -> Failure {
    let why = error.to_string();
    let (trouble, address) = match error {
        DiscoverError::Seed { address, why } => {
            let trouble = match &why {
                session::ReadError::Grant(_)
                | session::ReadError::Session(SessionError::AccessDenied { .. }) => {
                    ServerTrouble::LoginFailed
                }
                session::ReadError::Session(SessionError::NotMySql(_)) => ServerTrouble::NotAServer,
                session::ReadError::Session(_) => ServerTrouble::Unreachable,
            };
            let remedy = match &why {
                session::ReadError::Session(error) => error.remedy(),
                session::ReadError::Grant(_) => None,
            };
            let why = std::iter::once(why.to_string()).chain(remedy.map(str::to_owned)).collect::<Vec<_>>();
            return Failure::Server { trouble, address, why: why.join("; ") };
        }
        DiscoverError::Duplicate { first, .. } => (ServerTrouble::DuplicateId, first),
        DiscoverError::Mixed(first, _) => (ServerTrouble::NotAServer, first),
        DiscoverError::Loop { first, .. } => (ServerTrouble::Loop, first),
        DiscoverError::Alone(_) | DiscoverError::TooLarge => {
            return Failure::Refused(Refusal::Invalid(why));
        }
    };
    Failure::Server { trouble, address, why }
}

fn init_failure(error: InitError) -> Failure {
    let trouble = match &error {
        InitError::AlreadyInitialised { .. } => GroupTrouble::AlreadyInitialised,
        InitError::Unreachable { .. } => GroupTrouble::Unreachable,
        InitError::OtherNode { .. } | InitError::NotThisNode { .. } => GroupTrouble::OtherNode,
        InitError::Failed { .. } => GroupTrouble::Refused,
    };
    Failure::Group { trouble, why: error.to_string() }
}

fn change_failure(error: ChangeError) -> Failure {
    match error {
        ChangeError::NotLeader { leader } => Failure::NotLeader { leader },
        ChangeError::NoQuorum => Failure::NoQuorum,
        ChangeError::Unknown { what } => Failure::Unknown(what),
        ChangeError::Unfinished { .. } => Failure::Unknown(error.to_string()),
        ChangeError::Busy => Failure::Group { trouble: GroupTrouble::Busy, why: error.to_string() },
        ChangeError::Refused { what } => Failure::Group { trouble: GroupTrouble::Refused, why: what },
    }
}

fn not_submitted(error: SubmitError) -> Failure {
    match error {
        SubmitError::NoLeader => Failure::NotLeader { leader: None },
        SubmitError::Refused(ProposeError::NoQuorum) => Failure::NoQuorum,
        SubmitError::Refused(other) => Failure::Refused(Refusal::Invalid(other.to_string())),
        SubmitError::Unknown(what) => Failure::Unknown(what),
    }
}
