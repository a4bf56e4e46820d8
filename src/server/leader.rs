//! What only the leader does: collect the nodes' verdicts, call urgent rounds, propose recoveries, drive them, carry
//! standing orders out, and keep the record of clusters current.
//!
//! One task; its mailbox is bounded. It acts only while this node leads, and whatever it wants done is either in the
//! log first or is refused there.

pub mod gather;
mod level;
mod newcomers;
mod orders;
mod recoveries;
mod refusals;
pub mod start;
mod upkeep;
mod witness;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use self::{
    gather::{Gathered, Remembered},
    refusals::Refusals,
};
use crate::{
    core::{
        analysis::Verdict,
        replicated::{Change, Outcome, Refusal, command::StartRecovery, recovery::Testimony},
    },
    model::server::ClusterId,
    raft::{Committed, Leadership, ProposeError},
    server::{discovery::Discovery, driver::Driven, group::SELF, observer::ObserverHandle, tools::Tools},
};

/// Messages under way to the leader's task.
const INBOX: usize = 1_024;
/// How often a leader lets time alone pass while it has a recovery in hand.
const TICK: Duration = Duration::from_millis(50);
/// The same while it has none: whatever begins one is a message or a log entry.
const CALM_TICK: Duration = Duration::from_millis(250);

/// When something was proposed, by the clocks that tell how late its commit is.
#[derive(Debug, Clone, Copy)]
pub struct Proposed {
    /// For permits: what is confirmed since then is current.
    at: Instant,
    /// CLOCK_BOOTTIME's milliseconds: a suspended machine's commit is late.
    boottime_ms: u64,
    /// [`Tools::suspended_ms`] of then.
    suspended_ms: u64,
}

impl Proposed {
    /// It is about to be proposed, and the verdicts that it rests on are read from here on.
    pub fn now(tools: &Tools) -> Self {
        let (boottime_ms, suspended_ms) = (tools.boottime_ms(), tools.suspended_ms());
        Self { at: Instant::now(), boottime_ms, suspended_ms }
    }

    /// How long ago, suspensions included.
    fn elapsed_ms(&self, tools: &Tools) -> u64 {
        tools.boottime_ms().saturating_sub(self.boottime_ms)
    }
}

/// What the leader's task is told.
pub enum Message {
    /// A node's verdict.
    Verdict {
        /// The verdict.
        verdict: Verdict,
        /// No later than it was reached, milliseconds of this node's CLOCK_BOOTTIME; `None`: not known.
        judged_ms: Option<u64>,
    },
    /// An urgent round ended for one node.
    RoundEnded {
        /// Which cluster.
        cluster: ClusterId,
        /// When it was called, milliseconds of this node's CLOCK_BOOTTIME: no answer is older.
        called_ms: u64,
        /// What a node said.
        verdict: Option<Verdict>,
    },
    /// A proposed start ended.
    Started {
        /// Which cluster.
        cluster: ClusterId,
        /// When it was proposed.
        proposed: Proposed,
        /// What became of it.
        result: Result<Committed, ProposeError>,
        /// Told to an operator who waits.
        reply: Option<Asked>,
    },
    /// An operator's start, already checked.
    Operator {
        /// The command.
        start: Box<StartRecovery>,
        /// Who.
        by: String,
        /// Request id.
        request_id: Option<String>,
        /// The recovery's id, or why not.
        reply: Asked,
    },
    /// A refusal's note was not committed, or nobody knows.
    RefusalUntold {
        /// Which cluster.
        cluster: ClusterId,
        /// Under which request id.
        request: String,
    },
    /// The proposal to take a recovery over ended.
    TakenOver {
        /// Which.
        id: u64,
        /// When it was proposed.
        proposed: Proposed,
        /// What became of it.
        result: Result<Committed, ProposeError>,
    },
    /// What the nodes say of a cluster's primary now, after an urgent round.
    Evidence {
        /// Which cluster.
        cluster: ClusterId,
        /// The verdicts at hand.
        reply: oneshot::Sender<Vec<Testimony>>,
    },
    /// A worker of ours is done with a standing order, for now.
    OrderDone(u64),
    /// A worker of ours is done with a cluster's witness, for now.
    WitnessDone(ClusterId),
    /// An upkeep pass ended.
    UpkeepDone,
}

/// Where whoever asked for a start is told what became of it.
pub type Asked = oneshot::Sender<Result<u64, StartError>>;

/// Why a start that was asked for has no recovery to show.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The state refused it: nothing was started.
    #[error("{0}")]
    Refused(Refusal),
    /// It was not committed, or nobody knows whether it is.
    #[error("{0}")]
    NotCommitted(ProposeError),
}

/// The leader's mailbox.
#[derive(Clone)]
pub struct LeaderHandle {
    inbox: mpsc::Sender<Message>,
}

impl LeaderHandle {
    /// Tells it something; waits when it is behind.
    pub async fn tell(&self, message: Message) {
        let _ = self.inbox.send(message).await;
    }

    /// The verdicts at hand on a cluster.
    pub async fn evidence(&self, cluster: &ClusterId) -> Vec<Testimony> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Evidence { cluster: cluster.clone(), reply }).await;
        answer.await.unwrap_or_default()
    }

    /// A verdict from a peer or from this node, reached no earlier than `judged_ms` of this node's
    /// CLOCK_BOOTTIME.
    pub async fn verdict(&self, verdict: Verdict, judged_ms: Option<u64>) {
        self.tell(Message::Verdict { verdict, judged_ms }).await;
    }
}

/// Starts the task and returns its mailbox.
pub fn lead(tools: Tools, observer: ObserverHandle, discovery: Arc<Discovery>) -> LeaderHandle {
    let (inbox, messages) = mpsc::channel(INBOX);
    let spawner = tools.clone();
    let leader = Leader {
        tools,
        observer,
        discovery,
        inbox: inbox.clone(),
        leadership: Leadership::default(),
        gathered: Gathered::default(),
        driven: BTreeMap::new(),
        gathering: BTreeMap::new(),
        takeovers: BTreeMap::new(),
        orders: BTreeSet::new(),
        witnesses: BTreeSet::new(),
        refusals: Refusals::default(),
        logged: BTreeMap::new(),
        remembered: Remembered::default(),
        upkeep: upkeep::Upkeep::default(),
        level_asked_ms: None,
        work: JoinSet::new(),
    };
    spawner.start(leader.run(messages));
    LeaderHandle { inbox }
}

struct Leader {
    tools: Tools,
    observer: ObserverHandle,
    discovery: Arc<Discovery>,
    inbox: mpsc::Sender<Message>,
    leadership: Leadership,
    gathered: Gathered,
    /// Recoveries driven here.
    driven: BTreeMap<u64, Driven>,
    /// Recoveries for which fresh verdicts are gathered before they are taken over, and until when.
    gathering: BTreeMap<u64, u64>,
    /// Recoveries whose take-over is being committed, with why they are then cancelled, if so.
    takeovers: BTreeMap<u64, Option<String>>,
    /// Standing orders a worker is busy with.
    orders: BTreeSet<u64>,
    /// Clusters whose witness a worker is busy with.
    witnesses: BTreeSet<ClusterId>,
    refusals: Refusals,
    /// Verdicts already in the log, by label.
    logged: BTreeMap<(ClusterId, u64), (String, u64)>,
    remembered: Remembered,
    upkeep: upkeep::Upkeep,
    /// When the voters were last asked what they understand.
    level_asked_ms: Option<u64>,
    work: JoinSet<()>,
}

impl Leader {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut leadership = self.tools.ports.log.leadership();
        let mut applied = self.tools.ports.log.applied();
        loop {
            let tick = self.tick();
            let message = tokio::select! {
                biased;
                Ok(()) = leadership.changed() => None,
                Some(message) = messages.recv() => Some(message),
                Ok(()) = applied.changed() => None,
                () = self.tools.sleep(tick), if self.leadership.is_leader => None,
                else => return,
            };
            self.follow_leadership(*leadership.borrow_and_update());
            if let Some(message) = message {
                self.hear(message);
            }
            if self.leadership.is_leader {
                self.tend();
            }
        }
    }

    fn tick(&self) -> Duration {
        let calm = self.driven.is_empty() && self.gathering.is_empty() && self.takeovers.is_empty();
        if calm { CALM_TICK } else { TICK }
    }

    fn follow_leadership(&mut self, now: Leadership) {
        if (now.is_leader, now.term) == (self.leadership.is_leader, self.leadership.term) {
            return;
        }
        tracing::info!(term = now.term, leader = ?now.leader, is_leader = now.is_leader, "leadership");
        // Everything of the old term ends here, its statements included: a new term starts with no fresh verdicts.
        for (_, driven) in std::mem::take(&mut self.driven) {
            driven.task.abort();
        }
        self.work.abort_all();
        self.gathered = Gathered::default();
        self.gathering.clear();
        self.takeovers.clear();
        self.orders.clear();
        self.witnesses.clear();
        self.refusals = Refusals::default();
        self.logged.clear();
        self.remembered = Remembered::default();
        self.upkeep = upkeep::Upkeep::default();
        self.level_asked_ms = None;
        self.leadership = now;
        if now.is_leader {
            self.tools.ports.servers.drop_busy();
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Verdict { verdict, judged_ms } => self.hear_verdict(verdict, judged_ms),
            Message::RoundEnded { cluster, called_ms, verdict } => {
                self.round_ended(&cluster, called_ms, verdict);
            }
            Message::Started { cluster, proposed, result, reply } => {
                self.started(&cluster, proposed, result, reply);
            }
            Message::Operator { start, by, request_id, reply } => {
                let proposed = Proposed::now(&self.tools);
                self.propose_start((*start, proposed), by, request_id, Some(reply))
            }
            Message::RefusalUntold { cluster, request } => self.refusal_untold(&cluster, &request),
            Message::TakenOver { id, proposed, result } => self.taken_over(id, proposed, result),
            Message::Evidence { cluster, reply } => {
                let _ = reply.send(self.gathered.testimonies(&cluster, self.tools.boottime_ms()));
            }
            Message::OrderDone(id) => {
                self.orders.remove(&id);
            }
            Message::WitnessDone(cluster) => {
                self.witnesses.remove(&cluster);
            }
            Message::UpkeepDone => self.upkeep.done(),
        }
    }

    /// What time and the log ask for.
    fn tend(&mut self) {
        while self.work.try_join_next().is_some() {}
        self.tend_recoveries();
        self.tend_orders();
        self.tend_witnesses();
        self.tend_upkeep();
        self.tend_level();
    }

    /// Commits something off the critical path; a failure is logged and forgotten: what matters is tried again.
    fn commit_aside(&mut self, change: Change) {
        let (group, term) = (self.tools.group.clone(), self.leadership.term);
        self.work.spawn(self.tools.task(async move {
            let name = change.name();
            match group.propose(term, change, SELF, None).await {
                Ok(Committed { outcome: Outcome::Refused(refusal), .. }) => {
                    tracing::info!(command = name, %refusal, "refused by the state");
                }
                Ok(_) => {}
                Err(error) => tracing::info!(command = name, %error, "not committed"),
            }
        }));
    }
}
