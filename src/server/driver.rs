//! Drives one recovery: hands the machine's effects to executor and group, and their ends back to it. Decides nothing.
//!
//! A step runs only after a commit or a read barrier of this term (its permit). When this node stops leading, the task
//! is dropped with all that it runs: what was under way ends unknown, and the successor clears it away.

use std::{collections::BTreeSet, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    core::{
        plan::{
            choose::Sets,
            step::{Action, Step, StepEnd},
        },
        recovery::{Context, Effect, Event, Machine, Stage},
        replicated::{Change, Recovery, StepRecord},
    },
    executor::Permit,
    mistake::{Mistake, planted},
    server::{group::SELF, marks, pause, ports::Delegation, tools::Tools},
};

/// Events under way to a machine; a recovery has a few dozen steps at most.
const EVENTS: usize = 256;
/// How often time alone may move it.
const TICK: Duration = Duration::from_millis(10);
/// What an undo meets is written down after so long: it may stay open for hours, and whoever looks at it meanwhile sees
/// what stands in its way.
const UNDO_TOLD_AFTER: Duration = Duration::from_secs(1);
/// A commit of this term is as good as a read barrier for this long.
const CONFIRMED_FOR: Duration = Duration::from_millis(100);
/// What a delegated step may take besides, on its way there and back.
const ON_THE_WAY: Duration = Duration::from_millis(200);

/// A driven recovery, as its owner sees it.
pub struct Driven {
    /// Sends it events from outside (the primary answers, cancel). Once it is dropped, the task stops at once.
    pub events: mpsc::Sender<Event>,
    /// Ends when nothing of it runs any more; what was under way ended unknown, its session cut.
    pub task: tokio::task::JoinHandle<()>,
}

/// Starts driving. `confirmed`: when the entry was proposed that lets this node drive it in `term`.
pub fn drive(
    tools: Tools,
    recovery: Recovery,
    (term, confirmed): (u64, Instant),
    known: Sets,
    resumed: bool,
) -> Driven {
    let (events, inbox) = mpsc::channel(EVENTS);
    let membership = tools.ports.log.membership();
    tools.ports.servers.set_nodes(membership.nodes.keys().copied().collect());
    let spawner = tools.clone();
    let driver = Driver {
        fencers: membership.voters,
        tools,
        term,
        known,
        id: recovery.id,
        start_index: recovery.id,
        confirmed,
        events: events.clone(),
        work: JoinSet::new(),
        records: Vec::new(),
        recorded: None,
    };
    let task = spawner.start(driver.run(recovery, resumed, inbox));
    Driven { events, task }
}

struct Driver {
    tools: Tools,
    term: u64,
    known: Sets,
    fencers: BTreeSet<u64>,
    id: u64,
    start_index: u64,
    /// When leadership of this term was last confirmed.
    confirmed: Instant,
    events: mpsc::Sender<Event>,
    work: JoinSet<()>,
    records: Vec<StepRecord>,
    /// When the first of them came.
    recorded: Option<Instant>,
}

impl Driver {
    async fn run(mut self, recovery: Recovery, resumed: bool, mut inbox: mpsc::Receiver<Event>) {
        let policy = self.tools.read(|state| state.policy.clone());
        let mut machine = Machine::new(recovery, policy, self.tools.now_ms());
        let mut event = Event::Begin { resumed };
        let node = self.tools.node_id();
        let mut marks = Some(marks::of_others(&self.tools, &machine.recovery().cluster));
        pause::point(node, "start", "after").await;
        loop {
            let stage = machine.stage();
            let effects = self.advance(&mut machine, event);
            if machine.stage() != stage {
                tracing::info!(recovery = self.id, from = ?stage, to = ?machine.stage(), "recovery");
            }
            if !self.carry_out(effects, machine.stage()).await {
                break;
            }
            if let Some(marks) = marks.take() {
                // The first steps are under way meanwhile; their ends are not judged before.
                marks.await.into_iter().for_each(|of_node| self.known.raise(of_node));
            }
            event = tokio::select! {
                biased;
                Some(event) = inbox.recv() => event,
                () = self.tools.sleep(TICK) => Event::Tick,
            };
            let waits = self.recorded.is_some_and(|since| since.elapsed() >= UNDO_TOLD_AFTER);
            if waits && event == Event::Tick && machine.stage() == Stage::Undo {
                self.flush_records().await;
            }
        }
        self.flush_records().await;
        // Fences and undo steps that are still under way are not waited for: they end unknown.
        self.work.shutdown().await;
    }

    fn advance(&self, machine: &mut Machine, event: Event) -> Vec<Effect> {
        let (node, now_ms) = (self.tools.node_id(), self.tools.now_ms());
        self.tools.read(|state| {
            let context = Context { state, known: &self.known, node, fencers: &self.fencers, now_ms };
            machine.advance(event, &context)
        })
    }

    /// Whether to go on. `stage`: where the machine stands now.
    async fn carry_out(&mut self, effects: Vec<Effect>, stage: Stage) -> bool {
        let acts = effects.iter().any(|e| matches!(e, Effect::Run { .. } | Effect::FenceEverywhere { .. }));
        if acts && !(self.confirm().await && (self.ours() || planted(Mistake::ForeignDriverGoesOn))) {
            return false;
        }
        // Steps first: a proposal of the same event goes beside them, not before.
        let (proposals, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Propose(_)));
        for effect in others {
            match effect {
                Effect::Run { id, step, deadline_ms } => self.run_step(id, step, deadline_ms, stage),
                Effect::FenceEverywhere { step, deadline_ms } => self.fence_everywhere(step, deadline_ms),
                Effect::Record(records) => {
                    self.records.extend(records);
                    self.recorded.get_or_insert_with(Instant::now);
                }
                Effect::Over => return false,
                Effect::Propose(_) => unreachable!("proposals were set apart"),
            }
        }
        for effect in proposals {
            if let Effect::Propose(change) = effect
                && !self.propose(change).await
            {
                return false;
            }
        }
        true
    }

    /// A read barrier, unless this term was confirmed a moment ago.
    async fn confirm(&mut self) -> bool {
        if self.confirmed.elapsed() <= CONFIRMED_FOR {
            return true;
        }
        match confirmed(&self.tools, self.term).await {
            Ok(began) => {
                self.confirmed = began;
                true
            }
            Err(why) => {
                tracing::warn!(
                    recovery = self.id,
                    why,
                    "this node stops here; whoever leads goes on with it"
                );
                false
            }
        }
    }

    /// Whether the log still says that this node drives it. It does not once another recovery has superseded this one, which
    /// this task learns of a moment later.
    fn ours(&self) -> bool {
        let (node, term) = (self.tools.node_id(), self.term);
        let ours =
            self.tools.read(|state| state.recoveries.get(&self.id).is_some_and(|r| r.driven_by(node, term)));
        if !ours {
            tracing::warn!(
                recovery = self.id,
                "the log gives it to this node no more; nothing more is done for it here"
            );
        }
        ours
    }

    fn permit(&self, deadline: Duration) -> Permit {
        Permit::new(self.id.to_string(), self.start_index, self.term, self.confirmed, deadline)
    }

    fn run_step(&mut self, id: u32, step: Step, deadline_ms: u64, stage: Stage) {
        let deadline = Duration::from_millis(deadline_ms);
        let permit = self.permit(deadline);
        let (tools, events) = (self.tools.clone(), self.events.clone());
        let node = self.tools.node_id();
        self.work.spawn(self.tools.task(async move {
            let began_ms = tools.now_ms();
            let point = pause_name(&step.action, stage);
            pause::point(node, point, "before").await;
            let end = run(&tools, permit, step.clone(), deadline).await;
            pause::point(node, point, "after").await;
            tracing::info!(step = %step, end = %end, took_ms = tools.now_ms() - began_ms, "step");
            // The receiver is gone only when the recovery is over in this process.
            let _ = events.send(Event::StepEnded { id, end, began_ms }).await;
        }));
    }

    fn fence_everywhere(&mut self, step: Step, deadline_ms: u64) {
        let me = self.tools.node_id();
        for node in self.fencers.clone() {
            let (tools, events, step) = (self.tools.clone(), self.events.clone(), step.clone());
            let deadline = Duration::from_millis(deadline_ms);
            let (permit, id, term) = (self.permit(deadline), self.id, self.term);
            self.work.spawn(self.tools.task(async move {
                pause::point(me, "fence", "before").await;
                let end = match node == me {
                    true => run(&tools, permit, step.clone(), deadline).await,
                    false => {
                        let step = step.clone();
                        let delegation = Delegation { recovery: id, term, step, within: deadline };
                        delegate(&tools, node, delegation).await
                    }
                };
                pause::point(me, "fence", "after").await;
                tracing::info!(node, step = %step, end = %end, "fence");
                let _ = events.send(Event::FenceEnded { node, end }).await;
            }));
        }
    }

    async fn propose(&mut self, change: Change) -> bool {
        let node = self.tools.node_id();
        let point = proposal_name(&change);
        pause::point(node, point, "before").await;
        if matches!(change, Change::FinishRecovery { .. }) {
            self.flush_records().await;
        }
        let began = Instant::now();
        let result = self.tools.group.propose(self.term, change, SELF, None).await;
        pause::point(node, point, "after").await;
        match result {
            Ok(committed) => {
                self.confirmed = began;
                // Room is always left: the loop that empties the channel is this one.
                let sent = self.events.try_send(Event::Committed { outcome: committed.outcome });
                sent.is_ok()
            }
            Err(error) => {
                // Not the leader any more, or the fate is open: whoever leads next reads the log and goes on.
                tracing::warn!(recovery = self.id, %error, "a decision was not committed by this node");
                false
            }
        }
    }

    /// Step records are for the reader; they never hold a recovery up.
    async fn flush_records(&mut self) {
        self.recorded = None;
        if self.records.is_empty() {
            return;
        }
        let change = Change::RecordSteps { recovery: self.id, steps: self.records.clone() };
        let write = self.tools.group.propose(self.term, change, SELF, None);
        match self.tools.within(Duration::from_secs(2), write).await {
            Some(Ok(_)) => self.records.clear(),
            // Written twice, where the fate of this is open, is better than not at all.
            _ => tracing::warn!(recovery = self.id, "its step records were not written"),
        }
    }
}

/// Since when leadership of this term is confirmed anew, or a sentence.
async fn confirmed(tools: &Tools, term: u64) -> Result<Instant, String> {
    let began = Instant::now();
    tools.ports.log.read_barrier().await.map_err(|error| error.to_string())?;
    let leadership = tools.leads();
    match leadership.is_leader && leadership.term == term {
        true => Ok(began),
        false => Err(format!("this node leads no more in term {term}")),
    }
}

/// Runs a step over a session that its permit covers. Where one had to be opened first, leadership is confirmed behind that:
/// else a node that was held up here would come back to a server from which its successor has seen it gone.
async fn run(tools: &Tools, mut permit: Permit, step: Step, deadline: Duration) -> StepEnd {
    let until = Instant::now() + deadline;
    let since = match tools.ports.servers.open(&step.target, deadline).await {
        Ok(since) => since,
        Err(why) => return StepEnd::Refused { why },
    };
    if since > permit.confirmed && planted(Mistake::SessionNotConfirmed) {
        permit.confirmed = since;
    }
    if since > permit.confirmed {
        match confirmed(tools, permit.term).await {
            Ok(began) => permit.confirmed = began,
            Err(why) => return StepEnd::Refused { why },
        }
    }
    let left = until.saturating_duration_since(Instant::now());
    tools.ports.servers.run(permit, step, left).await
}

/// Asks another node to do a step of a committed recovery.
async fn delegate(tools: &Tools, node: u64, delegation: Delegation) -> StepEnd {
    let limit = delegation.within + ON_THE_WAY;
    match tools.within(limit, tools.ports.peers.delegate(node, delegation)).await {
        Some(Ok(end)) => end,
        Some(Err(why)) => StepEnd::Unknown { why: format!("node {node}: {why}") },
        None => StepEnd::Unknown { why: format!("node {node} did not answer in time") },
    }
}

/// The rig's name for a step.
fn pause_name(action: &Action, stage: Stage) -> &'static str {
    match action {
        Action::StopReceiver { .. } => "revoke",
        Action::Fence | Action::MakeReadOnly { .. } => "fence",
        Action::Drain { .. } => "drain",
        Action::EnableSemiSyncSource { .. } => "ackers",
        Action::Detach { .. } => "detach",
        Action::MakeWritable { .. } => "writable",
        Action::VerifyWrite { .. } => "verify",
        Action::Point { .. } if stage == Stage::Ackers => "acker",
        Action::Point { .. } if stage == Stage::Repoint => "repoint",
        _ => "other",
    }
}

fn proposal_name(change: &Change) -> &'static str {
    match change {
        Change::DecidePromotion { .. } | Change::NextCandidate { .. } => "decide",
        Change::RecordIntent { .. } => "intent",
        Change::Publish { .. } => "publish",
        Change::FinishRecovery { .. } => "finish",
        _ => "other",
    }
}
