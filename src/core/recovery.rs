//! The life of a recovery or switchover: state and event to state and effects. Sans-IO: the driver runs steps,
//! proposes commands and reports back; time comes in as monotonic milliseconds.
//!
//! ```text
//! failover    Revoke ─► Decide ─► Drain ─► [Ackers] ─► Commit ─► Promote ─► Publish ─► Repoint ─► Finish
//! switchover  Fence ──► Decide ─► Drain ─► [Ackers] ─► Commit ─► ...                              │
//!     └──────────┴────────┴──────────┴─────────┴──► Undo ─► Finish (cancelled)                    └─► over
//! ```
//! A candidate that does not drain in time may be passed over for the next one, by a decision anew, within `Drain`.
//! `Commit` proposes the intent and, in parallel, detaches the candidate; both must be done before `Promote` makes it
//! writable. Up to there everything is undone when it cannot go on; after it, it only goes forward. `Undo` lasts as long
//! as a fence of the old primary may still land there (`undo`).
//!
//! Order of barriers (P5): revoke (and in parallel the fence from every node, done or unknown by a short deadline),
//! decide on sets read after it, drain, ackers, writable, verify, publish, re-point. No stage starts before the one
//! above it ended; the tests try.

mod ackers;
mod advance;
mod drain;
mod fences;
mod stages;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use self::fences::Fences;
use crate::{
    core::{
        plan::{
            choose::Sets,
            step::{Action, Step, StepEnd, Target},
        },
        replicated::{
            Change, Outcome,
            recovery::{Decision, Ending, Kind, Phase, Recovery, StepRecord},
            state::State,
        },
    },
    model::{policy::Policy, server::ServerId},
};

/// Where a recovery stands in the process that executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not begun.
    New,
    /// A successor makes sure that its predecessors' sessions are gone.
    Clear,
    /// Receivers are being stopped; every node attempts the fence.
    Revoke,
    /// Switchover: the old primary is made read-only while the ackers still acknowledge.
    Fence,
    /// The decision is being committed.
    Decide,
    /// The candidate applies what it received.
    Drain,
    /// Ackers are pointed at the candidate, its semi-sync source is switched on.
    Ackers,
    /// Intent and detachment.
    Commit,
    /// The candidate is made writable.
    Writable,
    /// A write proves it.
    Verify,
    /// The cluster's record changes hands.
    Publish,
    /// The others are re-pointed.
    Repoint,
    /// What was done is undone.
    Undo,
    /// The end is being committed.
    Finish,
    /// Over.
    Over,
}

/// Names a running step among the machine's own.
pub type StepId = u32;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The driver begins, or resumes a predecessor's recovery.
    Begin {
        /// Resumed: predecessors may have left sessions and half-done steps.
        resumed: bool,
    },
    /// A step ended.
    StepEnded {
        /// Which.
        id: StepId,
        /// How.
        end: StepEnd,
        /// When it began, monotonic milliseconds.
        began_ms: u64,
    },
    /// A node's attempt to fence the old primary ended (`None`: the node gave no answer).
    FenceEnded {
        /// Which node.
        node: u64,
        /// How.
        end: StepEnd,
    },
    /// The command proposed last ended: committed with this outcome.
    Committed {
        /// Its outcome.
        outcome: Outcome,
    },
    /// The old primary answers: before anything was promoted the group has lost faith in the failure; in an undo it can
    /// be opened now.
    PrimaryAnswers {
        /// What was seen.
        how: String,
    },
    /// It may not go on: a successor found no fresh evidence, or an operator withdrew it. Past the point of no return
    /// this changes nothing.
    Cancel {
        /// Why.
        why: String,
    },
    /// Nothing but time passed.
    Tick,
}

/// What the driver is to do. Effects of one event may run in parallel.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Run a step on this node.
    Run {
        /// Its name.
        id: StepId,
        /// The step.
        step: Step,
        /// Client-side bound, milliseconds.
        deadline_ms: u64,
    },
    /// Every node, this one included, attempts this step; each end comes back as `FenceEnded`.
    FenceEverywhere {
        /// The step.
        step: Step,
        /// Bound, milliseconds.
        deadline_ms: u64,
    },
    /// Commit a command in this node's term.
    Propose(Change),
    /// Record steps, off the critical path.
    Record(Vec<StepRecord>),
    /// Nothing is left to do.
    Over,
}

/// What the machine may look at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The replicated state as applied here.
    pub state: &'a State,
    /// Sets known from observation: the old primary's last, as of the beginning, and what all voters remember of the others,
    /// as of the decision.
    pub known: &'a Sets,
    /// This node.
    pub node: u64,
    /// Voters that were asked to fence.
    pub fencers: &'a BTreeSet<u64>,
    /// Monotonic milliseconds.
    pub now_ms: u64,
}

/// A step under way.
#[derive(Debug, Clone, PartialEq)]
struct Running {
    step: Step,
    purpose: Purpose,
}

/// Why a step runs: what its end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Clear,
    Revoke,
    Fence,
    Read,
    KillWriters,
    Drain,
    Acker,
    SemiSyncSource,
    Detach,
    Writable,
    Verify,
    Repoint,
    Undo,
    Reopen,
}

/// One recovery in the hands of one process.
#[derive(Debug, Clone)]
pub struct Machine {
    recovery: Recovery,
    policy: Policy,
    stage: Stage,
    /// Stage begun, monotonic milliseconds.
    since_ms: u64,
    /// When the first receiver's stop ended beyond the deadline of revocation.
    late_stop_ms: Option<u64>,
    began_ms: u64,
    resumed: bool,
    next_id: StepId,
    running: BTreeMap<StepId, Running>,
    /// Steps of the present stage that must end before it does.
    sets: Sets,
    fence_ends: BTreeMap<u64, StepEnd>,
    /// What may still happen to the old primary.
    fences: Fences,
    decision: Option<Decision>,
    /// The next candidate, while the decision on it is being committed.
    next: Option<Decision>,
    /// When a drain that was refused is tried again.
    drain_again_ms: Option<u64>,
    /// When the receivers had been stopped and the sets were judged, monotonic milliseconds.
    decided_ms: u64,
    intent_committed: bool,
    detached: bool,
    ackers_done: u32,
    semi_sync_source_on: bool,
    writable_tries: u32,
    kill_tried: bool,
    /// Members whose receiver was or may have been stopped, or who were or may have been pointed elsewhere.
    touched: BTreeSet<ServerId>,
    repointed: BTreeSet<ServerId>,
    left_behind: BTreeMap<ServerId, String>,
    /// Cancelled while predecessors' sessions were still being cleared: undone once they are.
    cancel_pending: Option<String>,
    /// Why it is being undone, and what could not be.
    cancel: Option<String>,
    undo_committed: bool,
    unfinished: BTreeMap<ServerId, undo::Unfinished>,
    ending: Option<(Ending, String)>,
    undone: Vec<String>,
}

impl Machine {
    /// A machine for a committed recovery.
    pub fn new(recovery: Recovery, policy: Policy, now_ms: u64) -> Self {
        let decision = recovery.decision.clone();
        let intent_committed = matches!(recovery.phase, Phase::Intent | Phase::Published);
        Self {
            recovery,
            policy,
            stage: Stage::New,
            since_ms: now_ms,
            late_stop_ms: None,
            began_ms: now_ms,
            resumed: false,
            next_id: 0,
            running: BTreeMap::new(),
            sets: Sets::default(),
            fence_ends: BTreeMap::new(),
            fences: Fences::default(),
            decision,
            next: None,
            drain_again_ms: None,
            decided_ms: now_ms,
            intent_committed,
            detached: false,
            ackers_done: 0,
            semi_sync_source_on: false,
            writable_tries: 0,
            kill_tried: false,
            touched: BTreeSet::new(),
            repointed: BTreeSet::new(),
            left_behind: BTreeMap::new(),
            cancel_pending: None,
            cancel: None,
            undo_committed: false,
            unfinished: BTreeMap::new(),
            ending: None,
            undone: Vec::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.recovery.id
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The recovery it works on, as it was when this process took it.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    fn is_switchover(&self) -> bool {
        self.recovery.kind == Kind::Switchover
    }

    fn run(&mut self, purpose: Purpose, target: Target, action: Action, deadline_ms: u64) -> Effect {
        let id = self.next_id;
        self.next_id += 1;
        let step = Step { target, action };
        self.running.insert(id, Running { step: step.clone(), purpose });
        Effect::Run { id, step, deadline_ms }
    }

    fn waiting_for(&self, purpose: Purpose) -> bool {
        self.running.values().any(|r| r.purpose == purpose)
    }

    fn enter(&mut self, stage: Stage, now_ms: u64) {
        assert!(
            stage > self.stage || stage == Stage::Undo,
            "a recovery goes forward: {:?} to {stage:?}",
            self.stage
        );
        self.stage = stage;
        self.since_ms = now_ms;
    }

    fn record(&self, context: &Context<'_>, step: &Step, end: &StepEnd, began_ms: u64) -> StepRecord {
        StepRecord {
            step: step.action.name().into(),
            server: step.target.address.to_string(),
            node: context.node,
            outcome: end.to_string().chars().take(300).collect(),
            at_ms: began_ms.saturating_sub(self.began_ms),
            took_ms: context.now_ms.saturating_sub(began_ms),
        }
    }
}

#[cfg(test)]
mod tests;
