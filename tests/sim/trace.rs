//! What happened in a run, in order: what the checks are fed with, what two runs of a seed are compared by, and what a
//! reader of a violation sees.

use std::{fmt, sync::Arc};

use quorate::{
    core::{
        plan::step::{Step, StepEnd},
        replicated::{Change, Command, Outcome, recovery::Decision},
    },
    model::server::ServerId,
};

use super::{
    fleet::{ServerNo, SessionNo, Statement},
    raft::{Entry, Load},
    real::Lost,
};

/// What a step or statement rests on, as its node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// Recovery, operation, standing order, witness.
    pub recovery: String,
    /// Log index of what allows it.
    pub log_index: u64,
    /// Term.
    pub term: u64,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node's process began.
    NodeStarted(u64),
    /// Its Raft is open (tier B).
    NodeOpened(u64),
    /// It was killed.
    NodeKilled(u64),
    /// It was stopped.
    NodePaused(u64),
    /// It goes on.
    NodeResumed(u64),
    /// A node gave its vote.
    Voted {
        /// Who.
        node: u64,
        /// In which term.
        term: u64,
        /// For whom.
        for_node: u64,
    },
    /// A proposal was answered: it is in the log for good (tier B).
    Proposed {
        /// By which node.
        node: u64,
        /// At which index, as it was told.
        index: u64,
        /// Of which term.
        term: u64,
        /// What was proposed.
        command: Arc<Command>,
    },
    /// A read barrier was passed (tier B).
    Barrier {
        /// By which node.
        node: u64,
        /// Newest index that anybody had been told of when it began.
        acknowledged: u64,
        /// The index it was given.
        index: u64,
        /// What the node has applied.
        applied: u64,
    },
    /// A node's disk lost what was not durable (tier B).
    LostWrites {
        /// Whose.
        node: u64,
        /// What.
        lost: Lost,
    },
    /// A node leads.
    Leads {
        /// Who.
        node: u64,
        /// In which term.
        term: u64,
    },
    /// A leader that hears nobody gives up.
    StepsDown {
        /// Who.
        node: u64,
        /// Of which term.
        term: u64,
    },
    /// An entry is committed.
    Committed {
        /// Its index.
        index: u64,
        /// The entry.
        entry: Arc<Entry>,
        /// What `apply` said.
        outcome: Option<Outcome>,
    },
    /// A node's state was compared with the log's.
    Compared {
        /// Whose.
        node: u64,
        /// As of which index.
        index: u64,
        /// Whether it is the same.
        equal: bool,
    },
    /// A node made a snapshot.
    SnapshotMade {
        /// Who.
        node: u64,
        /// As of which index.
        index: u64,
    },
    /// A node's state was replaced by a snapshot.
    SnapshotInstalled {
        /// Whose.
        node: u64,
        /// As of which index.
        index: u64,
    },
    /// A change of the voters was proposed.
    Membership {
        /// By which leader.
        by: u64,
        /// The voters.
        voters: Vec<u64>,
    },
    /// A step is to begin, and wants a session.
    Opening {
        /// By which node.
        node: u64,
        /// To which server.
        server: ServerId,
    },
    /// A step begins.
    StepBegan {
        /// Executing node.
        node: u64,
        /// The step.
        step: Step,
        /// What allows it.
        permit: Permitted,
    },
    /// A step ended.
    StepEnded {
        /// Executing node.
        node: u64,
        /// The step.
        step: Step,
        /// What allowed it.
        permit: Permitted,
        /// How.
        end: StepEnd,
    },
    /// Statements of a step were sent.
    Sent {
        /// By which node.
        node: u64,
        /// To which server.
        server: ServerNo,
        /// Over which session, as that server has it.
        session: Option<SessionNo>,
        /// What allows them.
        permit: Permitted,
        /// Whether the permit held at that moment.
        in_time: bool,
        /// Whom the step is for.
        target: ServerId,
        /// The step's action.
        action: &'static str,
        /// The statements.
        statements: Vec<Statement>,
    },
    /// A client's write was acknowledged.
    Acknowledged {
        /// Which client.
        client: u32,
        /// By which server.
        server: ServerNo,
        /// Its row.
        row: u64,
    },
    /// An operator's request was answered.
    OperatorTold {
        /// Its request id.
        request: String,
        /// Log index, where it took effect.
        index: Option<u64>,
        /// Whether the state refused it.
        refused: bool,
        /// How long after it was asked, milliseconds.
        after_ms: u64,
        /// In words.
        what: String,
    },
    /// A fault was installed.
    Fault {
        /// Which of the run.
        number: usize,
        /// In words.
        what: String,
    },
    /// It is over.
    FaultOver {
        /// Which of the run.
        number: usize,
        /// Whether it took effect.
        took: bool,
    },
    /// Anything that is only told.
    Told(String),
}

/// All of it.
#[derive(Default)]
pub struct Trace {
    events: Vec<(u64, Event)>,
}

impl Trace {
    /// Adds one.
    pub fn push(&mut self, at: u64, event: Event) {
        self.events.push((at, event));
    }

    /// The last of them.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let all: Vec<String> = self.lines().collect();
        all[all.len().saturating_sub(count)..].to_vec()
    }

    /// One line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.events.iter().map(|(at, event)| format!("{:>9.3} s  {event}", *at as f64 / 1_000.0))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeStarted(node) => write!(f, "node {node} starts"),
            Self::NodeOpened(node) => write!(f, "node {node} is open"),
            Self::Proposed { node, index, command, .. } => {
                write!(f, "node {node} is told that {} is in the log at {index}", command.change.name())
            }
            Self::Barrier { node, acknowledged, index, .. } => {
                write!(f, "node {node} passes a read barrier at {index} ({acknowledged} were acknowledged)")
            }
            Self::LostWrites { node, lost } => write!(f, "node {node}'s disk lost {lost:?}"),
            Self::NodeKilled(node) => write!(f, "node {node} is killed"),
            Self::NodePaused(node) => write!(f, "node {node} is stopped"),
            Self::NodeResumed(node) => write!(f, "node {node} goes on"),
            Self::Voted { node, term, for_node } => {
                write!(f, "node {node} votes for {for_node} in term {term}")
            }
            Self::Leads { node, term } => write!(f, "node {node} LEADS in term {term}"),
            Self::StepsDown { node, term } => {
                write!(f, "node {node} hears nobody and leads term {term} no more")
            }
            Self::Committed { index, entry, outcome } => {
                write!(f, "log {index} (term {}): {}", entry.term, say_load(&entry.load))?;
                match outcome {
                    Some(Outcome::Refused(refusal)) => write!(f, " REFUSED: {refusal}"),
                    _ => Ok(()),
                }
            }
            Self::Compared { node, index, equal } => {
                let says = if *equal { "equals" } else { "DIFFERS FROM" };
                write!(f, "node {node}'s state {says} the log's at {index}")
            }
            Self::SnapshotMade { node, index } => write!(f, "node {node} makes a snapshot at {index}"),
            Self::SnapshotInstalled { node, index } => {
                write!(f, "node {node} is given a snapshot at {index}")
            }
            Self::Membership { by, voters } => write!(f, "node {by} proposes the voters {voters:?}"),
            Self::Opening { node, server } => write!(f, "node {node} wants a session to {server}"),
            Self::StepBegan { node, step, permit } => {
                write!(f, "node {node} begins {step} (recovery {}, term {})", permit.recovery, permit.term)
            }
            Self::StepEnded { node, step, end, .. } => write!(f, "node {node} ends {step}: {end}"),
            Self::Sent { node, server, statements, .. } => {
                write!(f, "node {node} to server {}: {}", server.0, say_statements(statements))
            }
            Self::Acknowledged { client, server, row } => {
                write!(f, "server {} acknowledges row {row} to client {client}", server.0)
            }
            Self::OperatorTold { request, index, what, .. } => match index {
                Some(index) => write!(f, "operator ({request}): done at {index}: {what}"),
                None => write!(f, "operator ({request}): {what}"),
            },
            Self::Fault { number, what } => write!(f, "FAULT {number}: {what}"),
            Self::FaultOver { number, took } => {
                write!(f, "fault {number} is over{}", if *took { "" } else { " (it met nothing)" })
            }
            Self::Told(what) => f.write_str(what),
        }
    }
}

fn say_load(load: &Load) -> String {
    let command = match load {
        Load::Blank => return "a new leader's blank".into(),
        Load::Config(config) => return format!("voters {:?}", config.voters.keys().collect::<Vec<_>>()),
        Load::Command(command) => command,
    };
    let more = match &command.change {
        Change::StartRecovery(start) => {
            let verdicts: Vec<String> = start
                .evidence
                .iter()
                .map(|t| format!("node {} {} ({} ms)", t.verdict.node, t.verdict.label(), t.age_ms))
                .collect();
            format!(" {:?} of {} epoch {}: {}", start.kind, start.subject.0, start.epoch, verdicts.join(", "))
        }
        Change::DecidePromotion { recovery, decision } => {
            format!(" recovery {recovery}: {}", decided(decision))
        }
        Change::NextCandidate { recovery, decision, .. } => {
            format!(" recovery {recovery}: {}", decided(decision))
        }
        Change::BeginUndo { recovery, why, .. } => format!(" recovery {recovery}: {why}"),
        Change::RecordIntent { recovery }
        | Change::Publish { recovery }
        | Change::TakeOver { recovery, .. } => {
            format!(" recovery {recovery}")
        }
        Change::FinishRecovery { recovery, ending, reason, .. } => {
            format!(" recovery {recovery}: {ending:?}: {reason}")
        }
        Change::AdvanceOrder { order, stage } => format!(" order {order}: {stage:?}"),
        Change::ReportVerdict { verdict } => format!(" node {} says {}", verdict.node, verdict.label()),
        Change::SetDurability { durability, .. } => format!(" {durability:?}"),
        Change::UpdateMembers { why, .. } => format!(" {why}"),
        Change::Note { text, .. } => format!(" {text}"),
        _ => String::new(),
    };
    format!("{} by {} (log time {}){more}", command.change.name(), command.by, command.at_ms)
}

fn say_statements(statements: &[Statement]) -> String {
    let own = |s: &&Statement| {
        !matches!(
            s,
            Statement::CheckIdentity(_)
                | Statement::ReadFacts(_)
                | Statement::MaxStatementTime(_)
                | Statement::LockWaitTimeout(_)
        )
    };
    let said: Vec<String> = statements.iter().filter(own).map(|s| format!("{s:?}")).collect();
    if said.is_empty() { "looks".into() } else { said.join("; ") }
}

/// Who is promoted, what is lost, and why the others are not promoted.
fn decided(decision: &Decision) -> String {
    let passed = decision.considered.iter().filter(|considered| !considered.chosen);
    let passed: Vec<String> = passed.map(|other| format!("; {}: {}", other.address, other.why)).collect();
    format!("{}, lost {}{}", decision.candidate.address, decision.lost, passed.concat())
}
