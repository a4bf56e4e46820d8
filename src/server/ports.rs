//! What the actors need of the world, and nothing of how it is made: the log, the other nodes, the servers, the process
//! they live in. The daemon gives them Raft, gRPC, MySQL sessions and the machine's clocks; the simulation gives them
//! its own, and runs the same actors.
//!
//! With equal ports an actor does the same again, bit for bit: it reads no other clock, starts no other task, takes
//! names from [`Host::unique`], and waits in a fixed order.

pub mod host;
pub mod log;
pub mod peers;
pub mod servers;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    core::{
        analysis::Verdict,
        plan::{
            marks::Marks,
            step::{Step, StepEnd, Target},
        },
        replicated::{Change, Command, Outcome, State},
    },
    executor::Permit,
    model::{
        address::Address,
        facts::ServerFacts,
        server::{ClusterId, ServerId},
    },
    probe::{ProbeEvent, ProbeSettings, ProbeTarget},
    raft::{Committed, Leadership, Membership, ProposeError, ReadError},
    session,
};

/// The replicated log and the state it makes, as one node has them.
pub trait Log: Send + Sync + 'static {
    /// This node's id.
    fn node_id(&self) -> u64;
    /// Random name of this node's data directory (P9).
    fn incarnation(&self) -> &str;
    /// Calls `reader` once with the state as applied here; nothing is applied meanwhile, and `reader` calls no port.
    fn look(&self, reader: &mut dyn FnMut(&State));
    /// Index of the last applied entry, as it rises. One task waits on each receiver: several that wait on one `watch`
    /// channel are woken in no particular order, so that the simulation gives each call a channel of its own.
    fn applied(&self) -> watch::Receiver<u64>;
    /// Who leads, as it changes. As with `applied`, each receiver has one task that waits.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// Who belongs to the group.
    fn membership(&self) -> Membership;
    /// Proposes, if this node leads in `term`, and returns when the command is committed and applied here.
    fn propose(&self, term: u64, command: Command) -> BoxFuture<'_, Result<Committed, ProposeError>>;
    /// Returns when everything acknowledged before the call is applied here; a majority confirms it each time.
    fn read_barrier(&self) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Who leads now, as far as this node knows.
    fn leads(&self) -> Leadership {
        *self.leadership().borrow()
    }

    /// Index of the last entry applied here.
    fn applied_now(&self) -> u64 {
        *self.applied().borrow()
    }
}

impl dyn Log {
    /// What `look` finds in the state as applied here.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let (mut look, mut found) = (Some(look), None);
        self.look(&mut |state| found = look.take().map(|look| look(state)));
        found.expect("`Log::look` calls its reader")
    }
}

/// A step of a committed recovery that another node is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegation {
    /// Recovery it belongs to; also the log index of its start.
    pub recovery: u64,
    /// The node that asks leads in this term.
    pub term: u64,
    /// What is to be done.
    pub step: Step,
    /// Nothing begins later than this after the receipt; nor ends later.
    pub within: Duration,
}

/// A moment of a leader, by its own clock. It stamps its answers to reports with it, so that it can tell how old what
/// comes later is, however long that lay in a cut connection or in a frozen process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The leader's term: a stamp of another leadership says nothing.
    pub term: u64,
    /// Milliseconds of the leader's CLOCK_BOOTTIME: its monotonic clock stands still while its machine is suspended, and what
    /// was said before would seem fresh.
    pub at_ms: u64,
}

/// When a verdict was reached, by the leader's clock: no earlier than `since_ms` after `stamp`, or before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The newest stamp its node had heard of.
    pub stamp: Stamp,
    /// From the hearing of the stamp to the verdict, milliseconds of the node's CLOCK_BOOTTIME; negative where the verdict came
    /// first.
    pub since_ms: i64,
}

impl Judged {
    /// The moment by the clock of the leader of `now`, no later than that; `None` where it was another leadership.
    pub fn at_ms(&self, now: Stamp) -> Option<u64> {
        let at_ms = self.stamp.at_ms.saturating_add_signed(self.since_ms);
        (self.stamp.term == now.term).then_some(at_ms.min(now.at_ms))
    }
}

/// The other nodes, as one asks them. An error says in words why there is no answer; bounds are the caller's.
pub trait Peers: Send + Sync + 'static {
    /// A verdict to the leader, and when it was reached, if this node has a stamp to tell it by. Answered with a new
    /// stamp; `None` by a node that does not lead.
    fn report(
        &self,
        node: u64,
        verdict: Verdict,
        judged: Option<Judged>,
    ) -> BoxFuture<'static, Result<Option<Stamp>, String>>;
    /// A node's part of an urgent round.
    fn urgent(
        &self,
        node: u64,
        cluster: ClusterId,
        bound_ms: u64,
    ) -> BoxFuture<'static, Result<Verdict, String>>;
    /// A delegated step.
    fn delegate(&self, node: u64, delegation: Delegation) -> BoxFuture<'static, Result<StepEnd, String>>;
    /// What a node remembers of a cluster's members (P6).
    fn marks(&self, node: u64, cluster: ClusterId) -> BoxFuture<'static, Result<Marks, String>>;
    /// The feature level a node understands.
    fn level(&self, node: u64) -> BoxFuture<'static, Result<u32, String>>;
    /// A change that the leader is asked to propose.
    fn submit(
        &self,
        node: u64,
        change: Change,
        by: String,
        request_id: Option<String>,
    ) -> BoxFuture<'static, Result<(u64, Outcome), String>>;
}

/// The owner's end of a prober. Dropping it ends the prober.
pub trait Probe: Send + Sync + 'static {
    /// A fresh attempt at once; resolves with the first answer or refusal, or at `bound` with what was seen.
    fn urgent(&self, bound: Duration) -> oneshot::Receiver<ProbeEvent>;
    /// Probes now instead of when it is due.
    fn reprobe(&self);
    /// Reads a full inventory with the next probe, now.
    fn inventory_now(&self);
    /// Changes intervals and mode.
    fn set(&self, settings: ProbeSettings);
    /// Throws away attempts that are under way.
    fn discard(&self);
}

/// The database servers, as probed and as changed.
pub trait Servers: Send + Sync + 'static {
    /// Starts watching one; events go to `events`.
    fn watch(
        &self,
        target: ProbeTarget,
        settings: ProbeSettings,
        events: mpsc::Sender<ProbeEvent>,
    ) -> Box<dyn Probe>;
    /// Reads one server in full over a connection of its own.
    fn read(&self, address: &Address) -> BoxFuture<'_, Result<ServerFacts, session::ReadError>>;
    /// Keeps an executor session to it from now on.
    fn prepare(&self, target: &Target);
    /// Keeps none any more.
    fn forget(&self, server: &ServerId);
    /// Cuts every executor session: this node was paused.
    fn drop_all(&self);
    /// Cuts those on which a step runs: this node begins to lead.
    fn drop_busy(&self);
    /// Which nodes may have sessions on servers.
    fn set_nodes(&self, nodes: Vec<u64>);
    /// Opens the session for steps on one server, where there is none; since when it is there, or a sentence.
    fn open(&self, target: &Target, deadline: Duration) -> BoxFuture<'static, Result<Instant, String>>;
    /// Carries out one step, ending at `deadline` at the latest, over a session that its permit covers.
    fn run(&self, permit: Permit, step: Step, deadline: Duration) -> BoxFuture<'static, StepEnd>;
}

/// The process that the actors live in: its clocks, its waits, and its tasks.
///
/// [`Instant`] is read from tokio, whose clock is monotonic and may be virtual.
pub trait Host: Send + Sync + 'static {
    /// Monotonic milliseconds of this process, from 1,000 on, so that "1 s ago" exists from the start.
    fn now_ms(&self) -> u64;
    /// CLOCK_BOOTTIME in milliseconds: it goes on while the machine is suspended (P10).
    fn boottime_ms(&self) -> u64;
    /// Unix milliseconds, for display only.
    fn wall_ms(&self) -> u64;
    /// A name that nobody else has: a random UUID.
    fn unique(&self) -> String;
    /// Counts this process' own pauses. Whoever observes discards what it held open across one.
    fn pauses(&self) -> watch::Receiver<u64>;
    /// Ends after `pause`, at once where that is nothing. It begins with this call.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
    /// What is to be spawned in place of `task`: the simulation stops and kills a node's tasks by it.
    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
}

/// All of it, for one node.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The other nodes.
    pub peers: Arc<dyn Peers>,
    /// The database servers.
    pub servers: Arc<dyn Servers>,
    /// The process.
    pub host: Arc<dyn Host>,
}

impl Ports {
    /// What is to be spawned in place of `work`; see [`Host::task`].
    pub fn task(&self, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        self.host.task(Box::pin(work))
    }

    /// What `work` ends with, where that is within `limit` from this call.
    pub fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Option<T>> {
        let over = self.host.sleep(limit);
        async move {
            tokio::select! {
                biased;
                end = work => Some(end),
                () = over => None,
            }
        }
    }

    /// Starts a task of this node.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.task(work))
    }
}
