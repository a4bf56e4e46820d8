//! The record of a recovery or a role-changing operation: why it was allowed, what was decided, what was done,
//! how it ended.
//!
//! ```text
//!   Started ──► Decided ──► Intent ──► Published ──► ended: succeeded | failed
//!      │           │
//!      └───────────┴──► being undone ──► ended: cancelled   (undone as far as it can be; says what could not)
//! ```
//! *Being undone* is no phase: it is recorded beside it (`Undo`), so that a successor undoes on and never promotes, and
//! so that a start of the primary class may supersede it. It ends when no fence of the old primary may land any more.
//!
//! *Decided* may be entered again for the next candidate, where policy says so (`passed_over`).
//!
//! These are the committed phases. Everything between two of them is re-derived from the servers when another leader
//! resumes it: a step record helps the reader, and is never trusted by a resumption.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    core::{
        analysis::{Class, Code, Verdict},
        plan::step::Target,
    },
    model::{
        gtid::GtidSet,
        server::{ClusterId, ServerId},
    },
};

/// What kind of role change this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Automatic recovery of a dead primary.
    Failover,
    /// The same, asked for by an operator.
    Forced,
    /// Planned change of a healthy primary.
    Switchover,
}

/// Committed phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Side effects on receivers and on the old primary are allowed.
    Started,
    /// The candidate and the loss are fixed.
    Decided,
    /// Point of no return: the candidate may be made writable.
    Intent,
    /// The new primary is the cluster's primary.
    Published,
    /// Over.
    Ended,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Decided => "decided",
            Self::Intent => "intent",
            Self::Published => "published",
            Self::Ended => "ended",
        })
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A new primary serves writes.
    Succeeded,
    /// It could not be finished; says what stands how.
    Failed,
    /// Stopped before the point of no return and undone.
    Cancelled,
}

/// A rule an operator waived, by name, in the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiver {
    /// Start although a block stands.
    Block,
    /// Start although recoveries are disabled, the server is in downtime or the cluster in maintenance.
    Disabled,
    /// Start without a majority's verdict (the primary may be alive: it is fenced first, or the operation stops).
    Verdict,
    /// Accept the loss of transactions that are known or possible to be lost.
    Loss,
}

/// A verdict as the leader held it when it proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// The verdict.
    pub verdict: Verdict,
    /// Its age at the leader, milliseconds of CLOCK_BOOTTIME.
    pub age_ms: u64,
}

/// A recovery that was given up before its point of no return, while what it did is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Why it was given up.
    pub why: String,
    /// A fence of the old primary was done, ended unknown, or was still under way: until the old sessions were seen gone
    /// and the value was read again, nobody knows whether that server is read-only.
    pub fence_unknown: bool,
    /// Log time at which it was given up.
    pub since_ms: u64,
}

/// Someone whose receiver is stopped, so that it acknowledges nothing more to the old primary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revoked {
    /// The replica.
    pub target: Target,
    /// Channel from the old primary.
    pub channel: String,
}

/// One candidate, and why it was chosen or passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// Who.
    pub server: ServerId,
    /// Its address, for the reader.
    pub address: String,
    /// Chosen.
    pub chosen: bool,
    /// Why, in one sentence with numbers.
    pub why: String,
}

/// A candidate that was chosen, and passed over since: it did not apply in time what it had received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Who.
    pub server: ServerId,
    /// Why, in a sentence with numbers.
    pub why: String,
}

/// The second decision: the candidate, what it must hold, what is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The candidate.
    pub candidate: Target,
    /// Its channel from the old primary.
    pub channel: String,
    /// What it must have applied before it is made writable.
    pub must_hold: GtidSet,
    /// Transactions known to be lost (held by nobody who was reached, or by a server that was passed over).
    pub lost: GtidSet,
    /// Semi-sync acknowledgements the new primary waits for; `None` in asynchronous mode.
    pub semi_sync_acks: Option<u32>,
    /// The cluster was protected by semi-sync and its new primary is not: why, in a sentence.
    #[serde(default)]
    pub unprotected: Option<String>,
    /// Who is pointed at the candidate before it is writable (k or more in semi-sync mode).
    pub ackers: Vec<Revoked>,
    /// Who is re-pointed afterwards.
    pub siblings: Vec<Revoked>,
    /// Every member with the reason it was chosen or not.
    pub considered: Vec<Considered>,
}

/// One step as it ended, for the reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Action name.
    pub step: String,
    /// Address of the server.
    pub server: String,
    /// Executing node.
    pub node: u64,
    /// `done`, `refused` or `unknown`, with its sentence.
    pub outcome: String,
    /// Milliseconds since the recovery's start at the executing node.
    pub at_ms: u64,
    /// Duration, milliseconds.
    pub took_ms: u64,
}

/// Acknowledgement by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// Why.
    pub comment: String,
    /// Log time.
    pub at_ms: u64,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Log index of its start: strictly increasing, unique.
    pub id: u64,
    /// Whose.
    pub cluster: ClusterId,
    /// What kind.
    pub kind: Kind,
    /// Class of the problem; blocks are by cluster and class.
    pub class: Class,
    /// Code of the problem, `None` for a switchover.
    pub code: Option<Code>,
    /// Primary epoch it started from.
    pub epoch: u64,
    /// The old primary.
    pub old_primary: Target,
    /// Who asked, for operators' ones.
    pub requested_by: Option<String>,
    /// Rules waived by name.
    pub waived: Vec<Waiver>,
    /// Candidate wished for by the operator.
    pub to: Option<ServerId>,
    /// Whether writers may be killed (switchover).
    pub kill_writers: bool,
    /// The majority's verdicts.
    pub evidence: Vec<Testimony>,
    /// Whose receivers are stopped.
    pub revoked: Vec<Revoked>,
    /// Semi-sync in force at the start: k and the ackers.
    pub semi_sync: Option<(u32, Vec<ServerId>)>,
    /// Node and term that proposed or took it over last.
    pub owner: (u64, u64),
    /// Whether a side effect is recorded; without it only its proposer executes it, within `start_within`.
    pub side_effects: bool,
    /// Committed phase.
    pub phase: Phase,
    /// The second decision.
    pub decision: Option<Decision>,
    /// Steps, in the order they were recorded.
    pub steps: Vec<StepRecord>,
    /// Log time of the start.
    pub started_ms: u64,
    /// Wall time of the start, Unix milliseconds, for display.
    pub started_wall_ms: u64,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Why it ended so.
    pub reason: String,
    /// Log time of the end.
    pub ended_ms: Option<u64>,
    /// Wall time of the end, Unix milliseconds, for display.
    pub ended_wall_ms: Option<u64>,
    /// Servers left behind at the end, with why.
    pub left_behind: Vec<(ServerId, String)>,
    /// Acknowledged by a person.
    pub acknowledged: Option<Acknowledgement>,
    /// Given up and being undone, or undone.
    #[serde(default)]
    pub undo: Option<Undo>,
    /// The recovery whose unfinished undoing this one took over: a fence of that one may still land.
    #[serde(default)]
    pub supersedes: Option<u64>,
    /// Candidates that were passed over for the one that is decided on now; none of them is chosen again.
    #[serde(default)]
    pub passed_over: Vec<PassedOver>,
    /// The voters of whom its evidence had to have a majority: those of that moment, whoever votes now.
    #[serde(default)]
    pub voters: Vec<u64>,
}

impl Decision {
    /// Whether nothing is given up by going from `before` to this one. Under semi-sync the new candidate holds all that
    /// the first had to hold (P6); otherwise nothing more is lost.
    pub fn keeps(&self, before: &Self, semi_sync: bool) -> Result<(), String> {
        let missing = match semi_sync {
            true => before.must_hold.subtract(&self.must_hold),
            false => self.lost.subtract(&before.lost),
        };
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} does not hold {missing}, which {} had to hold",
                self.candidate.address, before.candidate.address
            )),
        }
    }
}

impl Recovery {
    /// Still running.
    pub fn running(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// Whether `node` drives it in `term`: it runs, and nobody has taken it over since.
    pub fn driven_by(&self, node: u64, term: u64) -> bool {
        self.running() && self.owner == (node, term)
    }

    /// Given up, and not yet undone.
    pub fn undoing(&self) -> bool {
        self.running() && self.undo.is_some()
    }

    /// Whether the old primary is shown as *fence unknown*.
    pub fn fence_unknown(&self) -> bool {
        self.running() && self.undo.as_ref().is_some_and(|undo| undo.fence_unknown)
    }

    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub fn state_name(&self) -> &'static str {
        match self.ending {
            None => "running",
            Some(Ending::Succeeded) => "succeeded",
            Some(Ending::Failed) => "failed",
            Some(Ending::Cancelled) => "cancelled",
        }
    }
}
