//! What the API needs from the node it speaks for. `src/server` implements it; the tests of the API have a fake.
//!
//! Nothing here decides: names are resolved, refusals are worded and calls are forwarded by the API; what may be done
//! is judged by `core`, and done by whoever implements this.

mod group;

use std::{collections::BTreeMap, sync::Arc};

use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    core::{
        analysis::{Class, Code, Severity, observation::AttemptEnd},
        plan::step::Step,
        replicated::{
            Change, Kind, Outcome, Refusal, State,
            cluster::Member,
            recovery::{Considered, Testimony, Waiver},
        },
    },
    model::{
        address::Address,
        facts::ServerFacts,
        gtid::GtidSet,
        server::{ClusterId, ServerId},
    },
};

pub use self::group::{GroupChange, GroupView, NodeRole, NodeView, Program, StateHash};

/// Why a call has no answer of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It was judged and refused; nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// Not done: another node leads, or none that this one knows.
    #[error("this node is not the leader")]
    NotLeader {
        /// Who is, as far as this node knows.
        leader: Option<u64>,
    },
    /// Not done: no majority of the nodes answers.
    #[error("no majority of the nodes answers")]
    NoQuorum,
    /// Proposed; it may take effect now, later or never.
    #[error("its fate is unknown: {0}")]
    Unknown(String),
    /// A server cannot be used as asked.
    #[error("{address}: {why}")]
    Server {
        /// What is the matter.
        trouble: ServerTrouble,
        /// Which server.
        address: Address,
        /// What was seen and what to do, in one sentence; never a secret.
        why: String,
    },
    /// The group of nodes cannot be changed as asked.
    #[error("{why}")]
    Group {
        /// What is the matter.
        trouble: GroupTrouble,
        /// In one sentence.
        why: String,
    },
    /// This version cannot do it.
    #[error("{0} is not done by this version")]
    NotYet(&'static str),
    /// Our own mistake.
    #[error("{0}")]
    Internal(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What is the matter with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTrouble {
    /// No connection.
    Unreachable,
    /// Wrong password, or a grant is missing.
    LoginFailed,
    /// What answers is no MySQL or MariaDB server, or of a version that is not spoken.
    NotAServer,
    /// Two servers of one topology have the same `server_id` or `server_uuid`.
    DuplicateId,
    /// Servers replicate in a ring.
    Loop,
}

/// What is the matter with a change of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupTrouble {
    /// A second `init`.
    AlreadyInitialised,
    /// No `init` yet.
    NotInitialised,
    /// The asked node is a member no more: removed, wiped or replaced.
    NotAMember,
    /// A named node does not answer.
    Unreachable,
    /// Another node answers there, or one of another group.
    OtherNode,
    /// No such node.
    UnknownNode,
    /// It would not be safe now.
    Refused,
    /// Another change is under way.
    Busy,
}

/// What this node sees of one server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveServer {
    /// Facts of its last answer, and their age in milliseconds.
    pub facts: Option<(ServerFacts, u64)>,
    /// How the last attempt ended, and how long ago in milliseconds.
    pub last_attempt: Option<(AttemptEnd, u64)>,
}

/// Something wrong with a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemView {
    /// Code.
    pub code: Code,
    /// Class.
    pub class: Class,
    /// Severity.
    pub severity: Severity,
    /// Whether something is done about it automatically.
    pub repaired: bool,
    /// The server it is about.
    pub server: Option<ServerId>,
    /// One sentence.
    pub text: String,
    /// Nodes that see it.
    pub nodes: Vec<u64>,
}

/// The age of a verdict whose age only the leader knows.
pub const UNKNOWN_AGE: u64 = u64::MAX;

/// What a discovery is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverWish {
    /// Any server of the topology.
    pub address: Address,
    /// Name for a new cluster.
    pub alias: Option<String>,
    /// Look and tell, commit nothing.
    pub dry_run: bool,
    /// Who asks.
    pub by: String,
    /// The client's request id.
    pub request_id: Option<String>,
}

/// What a discovery found.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// The cluster, adopted or to be adopted.
    pub cluster: ClusterId,
    /// Its alias.
    pub alias: Option<String>,
    /// It was not known before.
    pub adopted: bool,
    /// Its primary, if exactly one was found.
    pub primary: Option<ServerId>,
    /// Its members.
    pub members: Vec<Member>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Log index of the adoption or change; 0 when nothing was committed.
    pub index: u64,
}

/// A role change that is asked for, or asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// `Failover`: what would happen if the primary died now; only for plans.
    pub kind: Kind,
    /// Whose primary.
    pub cluster: ClusterId,
    /// Wished candidate.
    pub to: Option<ServerId>,
    /// Rules waived by name.
    pub waived: Vec<Waiver>,
    /// Whether writers may be killed.
    pub kill_writers: bool,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanView {
    /// The old primary.
    pub old_primary: ServerId,
    /// Who would be promoted.
    pub candidate: Option<ServerId>,
    /// Every member with why or why not.
    pub considered: Vec<Considered>,
    /// What would be lost, as far as is known now.
    pub lost: Option<GtidSet>,
    /// Stages in order; the steps of one stage run side by side.
    pub stages: Vec<(String, Vec<Step>)>,
    /// What would refuse it now.
    pub refused_by: Vec<Refusal>,
    /// What else a person should know.
    pub warnings: Vec<String>,
}

/// A backup: the log index it is of, and its bytes in order.
pub type Backup = (u64, BoxStream<'static, Result<Vec<u8>, Failure>>);

/// A connection to the leader's node port.
pub type LeaderChannel = InterceptedService<Channel, Stamped>;

/// Attaches to a call that is passed on which node makes it, so that the leader's gate lets it in.
#[derive(Clone)]
pub struct Stamped(pub Arc<Stamp>);

/// Puts the stamp on one call.
pub type Stamp = dyn Fn(Request<()>) -> Result<Request<()>, Status> + Send + Sync;

impl Stamped {
    /// Adds nothing.
    pub fn bare() -> Self {
        Self(Arc::new(Ok))
    }
}

impl Interceptor for Stamped {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        (self.0)(request)
    }
}

/// The node, as the API needs it. Every call is bounded in time by its implementer.
#[tonic::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// This node's number.
    fn node_id(&self) -> u64;

    /// Shows the state as applied here. Called with short, synchronous closures only.
    fn look(&self, see: &mut dyn FnMut(&State));

    /// Newest log index applied here. Whoever sees an index here sees its effects through `look`.
    fn applied(&self) -> watch::Receiver<u64>;

    /// Who leads, as far as this node knows.
    fn leader(&self) -> watch::Receiver<Option<u64>>;

    /// A channel to the leader's node port, where the same services are served to peers. `None` when no leader is
    /// known or this node is it.
    fn leader_channel(&self) -> Option<LeaderChannel>;

    /// Returns once this node leads, by the word of a majority, and has applied everything acknowledged before the
    /// call.
    async fn barrier(&self) -> Result<(), Failure>;

    /// Proposes and waits for the outcome: the index it was applied at, and what `apply` said. A refusal is an
    /// outcome, not a failure.
    async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<&str>,
    ) -> Result<(u64, Outcome), Failure>;

    /// What this node sees of each member.
    fn live(&self, cluster: &ClusterId) -> BTreeMap<ServerId, LiveServer>;

    /// Problems of a cluster: this node's own and those reported to it.
    fn problems(&self, cluster: &ClusterId) -> Vec<ProblemView>;

    /// The newest verdict of each node with its age at the leader. Where this node does not lead: what the log says, each
    /// of [`UNKNOWN_AGE`].
    async fn testimonies(&self, cluster: &ClusterId) -> Vec<Testimony>;

    /// Finds a whole topology and commits it.
    async fn discover(&self, wish: DiscoverWish) -> Result<Discovered, Failure>;

    /// What would happen. Reads servers where it must; changes nothing.
    async fn plan(&self, wish: &Wish) -> Result<PlanView, Failure>;

    /// Starts a role change; returns the id of its record when the start is committed.
    async fn start(&self, wish: &Wish, by: &str, request_id: Option<&str>) -> Result<u64, Failure>;

    /// Makes a new group of these nodes.
    async fn init_group(&self, nodes: Vec<(u64, Address)>) -> Result<GroupView, Failure>;

    /// The group as this node sees it.
    async fn group(&self) -> GroupView;

    /// Changes the group; says in words what was done.
    async fn change_group(&self, change: GroupChange, by: &str) -> Result<String, Failure>;

    /// The replicated state as of now.
    async fn backup(&self) -> Result<Backup, Failure>;
}

/// Reads a value from the state.
pub fn look<T>(backend: &dyn Backend, see: impl FnOnce(&State) -> T) -> T {
    let mut see = Some(see);
    let mut seen = None;
    backend.look(&mut |state| {
        if let Some(see) = see.take() {
            seen = Some(see(state));
        }
    });
    seen.expect("`look` shows the state once before it returns")
}
