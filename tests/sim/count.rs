//! Interesting states: how often a run came by each. A batch that never reached one of them has not tried what it
//! claims.

use std::{borrow::Cow, collections::BTreeMap};

use quorate::core::replicated::{Change, Ending, Kind, Outcome, Refusal};
use serde::{Deserialize, Serialize};

use super::{
    check::account::{changed, done},
    fault::Point,
    raft::Load,
    trace::Event,
    world::World,
};

/// Every counted state, in the order they are shown.
pub const STATES: &[&str] = &[
    "failover succeeded",
    "failover cancelled",
    "forced failover",
    "switchover succeeded",
    "switchover cancelled",
    "recovery superseded",
    "recovery taken over",
    "taken over after start",
    "taken over after decision",
    "taken over after intent",
    "taken over after publication",
    "leader lost while a recovery ran",
    "start refused",
    "start committed late",
    "two candidates tied",
    "next candidate",
    "promotion with known loss",
    "promotion under semi-sync",
    "promotion on MariaDB",
    "snapshot installed",
    "snapshot installed mid-recovery",
    "membership changed",
    "membership changed mid-recovery",
    "a predecessor's session still alive",
    "step ended unknown",
    "old primary fenced",
    "old primary rejoined",
    "old primary quarantined",
    "witness called",
    "proposal of unknown fate",
    "operator's request sent twice",
    "recovery while an observer was blind",
    "old primary lost its own tail",
];

/// Those that only tier A comes by: there other proposals of a leader may overtake a start, as they may in a daemon, whose
/// tasks run on several threads; and only there identities change.
pub const MODEL_STATES: &[&str] =
    &["verdict withdrawn while a start was proposed", "identity changed", "identity changed mid-recovery"];

/// Those that only tier B comes by, or where a run of tier A means something else.
pub const RAFT_STATES: &[&str] = &[
    "unsynced entries lost",
    "unsynced vote lost",
    "mark torn",
    "node stopped by a failing disk",
    "node stopped by a full disk",
    "node refused to open: no room",
    "learner added",
    "voter added",
    "node removed",
    "node replaced",
    "leader's office handed over",
    "hand-over that did not come about",
    "read barrier not passed in time",
];

/// How often each was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(BTreeMap<Cow<'static, str>, u64>);

impl Counts {
    /// Reached once more.
    pub fn reach(&mut self, state: &'static str) {
        let mut all = STATES.iter().chain(MODEL_STATES).chain(RAFT_STATES);
        debug_assert!(all.any(|known| *known == state), "{state} is no counted state");
        *self.0.entry(state.into()).or_default() += 1;
    }

    /// How often.
    pub fn of(&self, state: &str) -> u64 {
        self.0.get(state).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.0 {
            *self.0.entry(state.clone()).or_default() += count;
        }
    }
}

impl World {
    /// Counts what an event means, and lets faults come that wait for it.
    pub fn count(&mut self, event: &Event) {
        if let Some(point) = point(event) {
            self.point_reached(point);
        }
        let running = self.recovery_runs();
        if let Some((change, _)) = changed(event) {
            self.count_change(event, change);
        }
        let reached = match event {
            Event::Committed { entry, outcome: Some(Outcome::Refused(refusal)), .. } => match &entry.load {
                Load::Command(command) if matches!(command.change, Change::StartRecovery(_)) => {
                    self.counts.reach("start refused");
                    // The leader held a majority's verdicts when it proposed; the log knows a newer one.
                    if !matches!(refusal, Refusal::NoMajority { .. } | Refusal::StillAnswers { .. }) {
                        return;
                    }
                    "verdict withdrawn while a start was proposed"
                }
                _ => return,
            },
            Event::SnapshotInstalled { .. } => {
                self.counts.reach("snapshot installed");
                if !running {
                    return;
                }
                "snapshot installed mid-recovery"
            }
            Event::Committed { entry, index, .. } if *index > 1 && matches!(entry.load, Load::Config(_)) => {
                self.counts.reach("membership changed");
                if !running {
                    return;
                }
                "membership changed mid-recovery"
            }
            Event::NodeKilled(node) | Event::NodePaused(node) if running && self.owner() == Some(*node) => {
                "leader lost while a recovery ran"
            }
            Event::Committed { .. } if self.start_is_late(event) => "start committed late",
            Event::Sent { statements, .. }
                if statements.iter().any(|s| matches!(s, crate::fleet::Statement::KillConnection(_)))
                    && matches!(event, Event::Sent { action: "kill_predecessors", .. }) =>
            {
                "a predecessor's session still alive"
            }
            Event::OperatorTold { request, .. } if !self.answered.insert(request.clone()) => {
                "operator's request sent twice"
            }
            Event::StepEnded { end: quorate::core::plan::step::StepEnd::Unknown { .. }, .. } => {
                "step ended unknown"
            }
            _ => return,
        };
        self.counts.reach(reached);
    }

    /// A start that took effect longer after its log time than a start may take to begin.
    fn start_is_late(&self, event: &Event) -> bool {
        let Some((index, command, id)) = done(event) else { return false };
        let proposed = self.proposed.get(&(command.node, command.term, command.at_ms));
        let within = self.group.state.policy.start_within_ms;
        matches!(command.change, Change::StartRecovery(_))
            && index == id
            && proposed.is_some_and(|at| self.now > at + within)
    }

    fn recovery_runs(&self) -> bool {
        self.group.state.clusters.values().any(|cluster| cluster.slot.is_some())
    }

    fn owner(&self) -> Option<u64> {
        let slot = self.group.state.clusters.values().find_map(|cluster| cluster.slot)?;
        self.group.state.recoveries.get(&slot).map(|recovery| recovery.owner.0)
    }

    fn count_change(&mut self, event: &Event, change: &Change) {
        use quorate::core::replicated::{OrderStage, Phase};
        let recovery = |id: &u64| self.group.state.recoveries.get(id);
        let reached: Vec<&'static str> = match change {
            Change::StartRecovery(start) => {
                let superseded = done(event)
                    .and_then(|(_, _, id)| recovery(&id))
                    .is_some_and(|recovery| recovery.supersedes.is_some());
                let mut reached = Vec::new();
                if superseded {
                    reached.push("recovery superseded");
                }
                if start.kind == Kind::Forced {
                    reached.push("forced failover");
                }
                let blind = |t: &quorate::core::replicated::recovery::Testimony| t.verdict.label() == "blind";
                if start.evidence.iter().any(blind) {
                    reached.push("recovery while an observer was blind");
                }
                reached
            }
            Change::TakeOver { recovery: id, .. } => match recovery(id).map(|r| r.phase) {
                Some(Phase::Started) => vec!["recovery taken over", "taken over after start"],
                Some(Phase::Decided) => vec!["recovery taken over", "taken over after decision"],
                Some(Phase::Intent) => vec!["recovery taken over", "taken over after intent"],
                Some(Phase::Published) => vec!["recovery taken over", "taken over after publication"],
                _ => vec![],
            },
            Change::DecidePromotion { recovery: id, decision } => {
                let mut reached = Vec::new();
                if !decision.lost.is_empty() {
                    reached.push("promotion with known loss");
                }
                if recovery(id).is_some_and(|r| r.semi_sync.is_some()) {
                    reached.push("promotion under semi-sync");
                }
                // The words of a member that only the last rules put behind the chosen one.
                if decision.considered.iter().any(|c| c.why.starts_with("as good as the chosen one")) {
                    reached.push("two candidates tied");
                }
                if decision.must_hold.flavor() == quorate::model::server::Flavor::MariaDb {
                    reached.push("promotion on MariaDB");
                }
                reached
            }
            Change::NextCandidate { .. } => vec!["next candidate"],
            Change::FinishRecovery { recovery: id, ending, .. } => {
                match (recovery(id).map(|r| r.kind), ending) {
                    (Some(Kind::Failover), Ending::Succeeded) => vec!["failover succeeded"],
                    (Some(Kind::Failover), Ending::Cancelled) => vec!["failover cancelled"],
                    (Some(Kind::Switchover), Ending::Succeeded) => vec!["switchover succeeded"],
                    (Some(Kind::Switchover), Ending::Cancelled) => vec!["switchover cancelled"],
                    _ => vec![],
                }
            }
            Change::AdvanceOrder { stage, .. } => match stage {
                OrderStage::Fenced => vec!["old primary fenced"],
                OrderStage::Rejoined => vec!["old primary rejoined"],
                OrderStage::Quarantined { errant, .. } if errant.is_empty() => {
                    vec!["old primary quarantined", "old primary lost its own tail"]
                }
                OrderStage::Quarantined { .. } => vec!["old primary quarantined"],
                _ => vec![],
            },
            Change::CallWitness(_) => vec!["witness called"],
            _ => vec![],
        };
        for state in reached {
            self.counts.reach(state);
        }
    }
}

/// The point of a recovery that an event is.
fn point(event: &Event) -> Option<Point> {
    if let Event::StepBegan { step, .. } = event {
        return Some(Point::Step(step.action.name()));
    }
    match changed(event)?.0 {
        Change::StartRecovery(_) => Some(Point::Started),
        Change::DecidePromotion { .. } => Some(Point::Decided),
        Change::RecordIntent { .. } => Some(Point::Intent),
        Change::Publish { .. } => Some(Point::Published),
        _ => None,
    }
}
