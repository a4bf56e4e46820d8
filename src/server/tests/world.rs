//! Ports of node 1 of three, for tests of what the actors do with them: the state is the real one, a command is applied as soon
//! as it is proposed, no other node answers, and a step ends when the test is over. What rests on a recovery that the log
//! does not give to this node is noted.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{self, BoxFuture, FutureExt as _};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    core::{
        analysis::Verdict,
        plan::{
            marks::Marks,
            step::{Step, StepEnd, Target},
        },
        replicated::{Change, Command, EventKind, Kind, Outcome, Recovery, State, command::StartRecovery},
        samples,
    },
    executor::Permit,
    model::{
        address::Address,
        facts::ServerFacts,
        server::{ClusterId, Flavor, ServerId},
    },
    probe::{ProbeEvent, ProbeSettings, ProbeTarget},
    raft::{Committed, Leadership, Membership, NodeInfo, ProposeError, ReadError},
    server::{
        leader,
        ports::{Delegation, Host, Judged, Log, Peers, Ports, Probe, Servers, Stamp},
    },
    session,
};

/// This node.
pub const ME: u64 = 1;
/// How long a test waits for what must come; time is virtual.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the ports share, and what a test looks at.
pub struct World {
    state: Mutex<State>,
    leadership: watch::Sender<Leadership>,
    applied: watch::Sender<u64>,
    /// Commands of this name wait until they are let go.
    held: Mutex<Option<&'static str>>,
    let_go: Notify,
    /// Of commands of this name nobody knows whether they are committed.
    lost: Mutex<Option<&'static str>>,
    /// What another node commits right behind the first command of that name, or at the first read barrier.
    behind: Mutex<Option<(&'static str, Command)>>,
    /// Whatever began for a recovery, and whether the log gave that to this node then: `drain of 11 in term 1`.
    begun: Mutex<Vec<(String, bool)>>,
    /// The same of steps that this node ran.
    ran: Mutex<Vec<String>>,
    news: Notify,
    opens_anew: Mutex<bool>,
    named: AtomicU64,
    began: Instant,
    suspended_ms: AtomicU64,
}

impl World {
    /// Node 1 leads in term 1. One healthy cluster of four servers is known.
    pub fn new() -> Arc<Self> {
        let voters = (1..=3).map(|n| (n, format!("i{n}"))).collect();
        let mut state = State { voters, ..State::default() };
        let cluster = samples::cluster(Flavor::MySql, 4);
        state.clusters.insert(cluster.id.clone(), cluster);
        let world = Self {
            state: Mutex::new(state),
            leadership: watch::channel(Leadership::default()).0,
            applied: watch::channel(10).0,
            held: Mutex::new(None),
            let_go: Notify::new(),
            lost: Mutex::new(None),
            behind: Mutex::new(None),
            begun: Mutex::new(Vec::new()),
            ran: Mutex::new(Vec::new()),
            news: Notify::new(),
            opens_anew: Mutex::new(false),
            named: AtomicU64::new(0),
            began: Instant::now(),
            suspended_ms: AtomicU64::new(0),
        };
        world.leads_in(1);
        Arc::new(world)
    }

    /// As one node has it.
    pub fn ports(self: &Arc<Self>) -> Ports {
        Ports { log: self.clone(), peers: self.clone(), servers: self.clone(), host: self.clone() }
    }

    /// This node is elected again.
    pub fn leads_in(&self, term: u64) {
        self.led_by(ME, term);
    }

    /// That node is elected.
    pub fn led_by(&self, node: u64, term: u64) {
        self.leadership.send_replace(Leadership { term, leader: Some(node), is_leader: node == ME });
    }

    /// The machine was suspended for so long.
    pub fn was_suspended(&self, for_ms: u64) {
        self.suspended_ms.fetch_add(for_ms, Ordering::Relaxed);
    }

    /// No session is there: each is opened when it is wanted, and that takes a moment.
    pub fn opens_anew(&self) {
        *lock(&self.opens_anew) = true;
    }

    /// From now on commands of this name wait; they are not applied meanwhile.
    pub fn hold(&self, name: &'static str) {
        *lock(&self.held) = Some(name);
    }

    /// From now on nobody knows of commands of this name whether they are committed.
    pub fn lose(&self, name: &'static str) {
        *lock(&self.lost) = Some(name);
    }

    /// No command waits or is lost any more.
    pub fn let_go(&self) {
        *lock(&self.held) = None;
        *lock(&self.lost) = None;
        self.let_go.notify_waiters();
    }

    /// Node 2, elected in term 2, commits `change` right behind the next command of that name, before this one's proposer
    /// hears of it; or before the next `read_barrier` returns.
    pub fn commit_behind(&self, name: &'static str, change: Change) {
        *lock(&self.behind) = Some((name, command(2, 2, change)));
    }

    /// What the state would say to a change of the leader's, and says.
    pub fn commit(&self, change: Change) -> Outcome {
        let Leadership { leader, term, .. } = *self.leadership.borrow();
        self.apply(&command(leader.expect("somebody leads"), term, change))
    }

    /// What was begun for recoveries until now: all of it, and what of it the log did not give to this node.
    pub fn begun(&self) -> (Vec<String>, Vec<String>) {
        let begun = lock(&self.begun);
        let foreign = begun.iter().filter(|(_, ours)| !ours);
        (
            begun.iter().map(|(what, _)| what.clone()).collect(),
            foreign.map(|(what, _)| what.clone()).collect(),
        )
    }

    /// Steps that were run here until now.
    pub fn ran(&self) -> Vec<String> {
        lock(&self.ran).clone()
    }

    /// Returns once something was begun whose name starts so.
    pub async fn sees(&self, what: &str) {
        let seen = async {
            loop {
                let news = self.news.notified();
                if self.begun().0.iter().any(|begun| begun.starts_with(what)) {
                    return;
                }
                news.await;
            }
        };
        let in_time = timeout(DEADLINE, seen).await;
        assert!(in_time.is_ok(), "no {what} in {:?}", self.begun().0);
    }

    /// Of the audit trail, what was refused and why.
    pub fn refusals(&self) -> Vec<String> {
        let state = lock(&self.state);
        let refused = state.audit.iter().filter(|entry| entry.kind == EventKind::RecoveryRefused);
        refused.map(|entry| entry.text.clone()).collect()
    }

    /// The recovery that holds the cluster's slot.
    pub fn running(&self) -> Option<u64> {
        lock(&self.state).clusters.values().find_map(|cluster| cluster.slot)
    }

    /// Of the state.
    pub fn recovery(&self, id: u64) -> Recovery {
        lock(&self.state).recoveries[&id].clone()
    }

    fn apply(&self, command: &Command) -> Outcome {
        let mut state = lock(&self.state);
        let index = *self.applied.borrow() + 1;
        let outcome = state.apply(index, command);
        drop(state);
        self.applied.send_replace(index);
        outcome
    }

    fn overtaken(&self, at: &'static str) {
        let behind = lock(&self.behind).take_if(|(of, _)| *of == at);
        if let Some((_, command)) = behind {
            self.apply(&command);
        }
    }

    fn note(&self, what: &str, recovery: u64, term: u64) {
        let ours = lock(&self.state).recoveries.get(&recovery).is_some_and(|r| r.driven_by(ME, term));
        lock(&self.begun).push((format!("{what} of {recovery} in term {term}"), ours));
        self.news.notify_waiters();
    }
}

/// A start of the one cluster's.
pub fn start(kind: Kind) -> StartRecovery {
    let cluster = samples::cluster(Flavor::MySql, 4);
    let evidence = if kind == Kind::Failover { vec![samples::dead(1), samples::dead(2)] } else { vec![] };
    StartRecovery {
        kind,
        cluster: cluster.id.clone(),
        class: crate::core::analysis::Class::Primary,
        code: None,
        epoch: cluster.epoch,
        generation: cluster.generation,
        subject: samples::id(1),
        evidence,
        revoked: leader::start::revoked(&cluster),
        semi_sync: None,
        waived: vec![],
        to: None,
        kill_writers: false,
    }
}

fn command(node: u64, term: u64, change: Change) -> Command {
    Command { at_ms: 1_000, wall_ms: 0, node, term, by: "t".into(), request_id: None, change }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no test panics while it holds one")
}

impl Log for World {
    fn node_id(&self) -> u64 {
        ME
    }

    fn incarnation(&self) -> &str {
        "i1"
    }

    fn look(&self, reader: &mut dyn FnMut(&State)) {
        reader(&lock(&self.state));
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn membership(&self) -> Membership {
        let voters = BTreeSet::from([1, 2, 3]);
        let nodes = voters.iter().map(|node| (*node, NodeInfo::default())).collect();
        Membership { voters, nodes, ..Membership::default() }
    }

    fn propose(&self, term: u64, command: Command) -> BoxFuture<'_, Result<Committed, ProposeError>> {
        async move {
            let name = command.change.name();
            loop {
                let let_go = self.let_go.notified();
                if *lock(&self.held) != Some(name) {
                    break;
                }
                let_go.await;
            }
            if self.leadership.borrow().term != term {
                return Err(ProposeError::NotLeader { leader: None });
            }
            if *lock(&self.lost) == Some(name) {
                return Err(ProposeError::Unknown { what: "the majority is gone".into() });
            }
            let outcome = self.apply(&command);
            let index = *self.applied.borrow();
            self.overtaken(name);
            Ok(Committed { index, term, outcome })
        }
        .boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.overtaken("read_barrier");
        future::ready(Ok(*self.applied.borrow())).boxed()
    }
}

/// Nobody answers.
impl Peers for World {
    fn report(
        &self,
        _node: u64,
        _verdict: Verdict,
        _judged: Option<Judged>,
    ) -> BoxFuture<'static, Result<Option<Stamp>, String>> {
        silence()
    }

    fn urgent(
        &self,
        _node: u64,
        _cluster: ClusterId,
        _bound_ms: u64,
    ) -> BoxFuture<'static, Result<Verdict, String>> {
        silence()
    }

    fn delegate(&self, _node: u64, delegation: Delegation) -> BoxFuture<'static, Result<StepEnd, String>> {
        self.note(delegation.step.action.name(), delegation.recovery, delegation.term);
        silence()
    }

    fn marks(&self, _node: u64, _cluster: ClusterId) -> BoxFuture<'static, Result<Marks, String>> {
        silence()
    }

    fn level(&self, _node: u64) -> BoxFuture<'static, Result<u32, String>> {
        silence()
    }

    fn submit(
        &self,
        _node: u64,
        _change: Change,
        _by: String,
        _request_id: Option<String>,
    ) -> BoxFuture<'static, Result<(u64, Outcome), String>> {
        silence()
    }
}

fn silence<T: Send + 'static>() -> BoxFuture<'static, Result<T, String>> {
    future::ready(Err("no answer".to_owned())).boxed()
}

/// Probes see nothing. The receivers stop at once, the fence finds nobody; no other step ends.
impl Servers for World {
    fn watch(
        &self,
        _target: ProbeTarget,
        _settings: ProbeSettings,
        _events: mpsc::Sender<ProbeEvent>,
    ) -> Box<dyn Probe> {
        Box::new(NoProbe)
    }

    fn read(&self, _address: &Address) -> BoxFuture<'_, Result<ServerFacts, session::ReadError>> {
        future::pending().boxed()
    }

    fn prepare(&self, _target: &Target) {}

    fn forget(&self, _server: &ServerId) {}

    fn drop_all(&self) {}

    fn drop_busy(&self) {}

    /// A driver begins with this.
    fn set_nodes(&self, _nodes: Vec<u64>) {
        self.note("driver", self.running().expect("something is driven"), self.leadership.borrow().term);
    }

    fn open(&self, _target: &Target, _deadline: Duration) -> BoxFuture<'static, Result<Instant, String>> {
        match *lock(&self.opens_anew) {
            // Long ago: every permit covers it.
            false => future::ready(Ok(Instant::now() - Duration::from_secs(1))).boxed(),
            true => async {
                sleep(Duration::from_millis(1)).await;
                Ok(Instant::now())
            }
            .boxed(),
        }
    }

    fn run(&self, permit: Permit, step: Step, _deadline: Duration) -> BoxFuture<'static, StepEnd> {
        let name = step.action.name();
        lock(&self.ran).push(name.to_owned());
        self.note(name, permit.recovery.parse().expect("a recovery's permit"), permit.term);
        match name {
            "stop_receiver" => future::ready(revoked(&step)).boxed(),
            "fence" => future::ready(StepEnd::Refused { why: "nothing listens there".into() }).boxed(),
            _ => future::pending().boxed(),
        }
    }
}

fn revoked(step: &Step) -> StepEnd {
    use crate::{core::plan::step::StepReport, model::facts::Receiver};
    let replica = (2..=4).find(|n| samples::id(*n) == step.target.server).expect("a replica");
    let mut facts = samples::facts(Flavor::MySql, replica);
    facts.channels.iter_mut().for_each(|channel| channel.receiver = Receiver::Stopped);
    StepEnd::Done(StepReport { facts: Some(Box::new(facts)), ..StepReport::default() })
}

struct NoProbe;

impl Probe for NoProbe {
    fn urgent(&self, _bound: Duration) -> oneshot::Receiver<ProbeEvent> {
        oneshot::channel().1
    }

    fn reprobe(&self) {}

    fn inventory_now(&self) {}

    fn set(&self, _settings: ProbeSettings) {}

    fn discard(&self) {}
}

impl Host for World {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1_000
    }

    fn boottime_ms(&self) -> u64 {
        self.now_ms() + self.suspended_ms.load(Ordering::Relaxed)
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn unique(&self) -> String {
        format!("unique {}", self.named.fetch_add(1, Ordering::Relaxed))
    }

    fn pauses(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }

    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        task
    }
}
