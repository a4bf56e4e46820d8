//! What the log carries. Every variant's meaning is fixed once released: a changed meaning is a new variant, gated
//! by the feature level (design §6).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    audit::EventKind,
    cluster::{Durability, Member},
    orders::OrderStage,
    recovery::{Decision, Ending, Kind, Revoked, StepRecord, Testimony, Waiver},
    refusal::Refusal,
    state::FIRST_FEATURE_LEVEL,
};
use crate::{
    core::analysis::{Class, Code, Verdict},
    model::{
        policy::{Policy, PromotionRule},
        server::{ClusterId, Flavor, ServerId},
    },
};

/// One change, as proposed by a leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Log time in milliseconds, stamped by the leader that proposes (P10).
    pub at_ms: u64,
    /// Wall time at the proposer, Unix milliseconds; for display only, decides nothing.
    pub wall_ms: u64,
    /// Proposing node.
    pub node: u64,
    /// Its term.
    pub term: u64,
    /// Who wants it: an operator's name, or `quorate`.
    pub by: String,
    /// A client's request id; the same id never takes effect twice.
    pub request_id: Option<String>,
    /// What changes.
    pub change: Change,
}

/// An on/off switch with its story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// On or off.
    pub enabled: bool,
    /// Who set it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Log time.
    pub at_ms: u64,
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true, by: "default".into(), why: String::new(), at_ms: 0 }
    }
}

/// The start of a recovery or role-changing operation: everything that allows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRecovery {
    /// What kind.
    pub kind: Kind,
    /// Whose.
    pub cluster: ClusterId,
    /// Class and code of the agreed problem (`None` code for a switchover).
    pub class: Class,
    /// See `class`.
    pub code: Option<Code>,
    /// Primary epoch it was judged at.
    pub epoch: u64,
    /// Structure generation it was planned on.
    pub generation: u64,
    /// The primary that is to be replaced.
    pub subject: ServerId,
    /// The verdicts it relies on.
    pub evidence: Vec<Testimony>,
    /// Whose receivers are stopped.
    pub revoked: Vec<Revoked>,
    /// Semi-sync in force: k and the ackers.
    pub semi_sync: Option<(u32, Vec<ServerId>)>,
    /// Rules waived by an operator.
    pub waived: Vec<Waiver>,
    /// Candidate wished for.
    pub to: Option<ServerId>,
    /// Whether writers may be killed.
    pub kill_writers: bool,
}

/// The call of a witness: everything that allows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallWitness {
    /// Whose primary is silent.
    pub cluster: ClusterId,
    /// Primary epoch it was judged at.
    pub epoch: u64,
    /// Structure generation it was planned on.
    pub generation: u64,
    /// The silent primary.
    pub subject: ServerId,
    /// The verdicts it relies on.
    pub evidence: Vec<Testimony>,
    /// Whose receiver is restarted.
    pub replica: ServerId,
    /// Who would be promoted: never the witness.
    pub candidate: ServerId,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Take a cluster under care.
    AdoptCluster {
        /// Its id, chosen by the proposer.
        cluster: ClusterId,
        /// Name given by people.
        alias: Option<String>,
        /// Dialect.
        flavor: Flavor,
        /// Its primary, if exactly one was found.
        primary: Option<ServerId>,
        /// Its members.
        members: Vec<Member>,
        /// Durability as the discovery read it: a semi-sync primary is held to P6 from its first moment on.
        durability: Durability,
    },
    /// What committed discoveries changed: new or changed members. Refused when `generation` has moved on.
    UpdateMembers {
        /// Whose.
        cluster: ClusterId,
        /// Generation it was built on.
        generation: u64,
        /// Members as they are now; replaces entries of the same name.
        members: Vec<Member>,
        /// What happened, for the audit.
        why: String,
    },
    /// Adopt a primary where the cluster had none (it was unclear at adoption).
    SetPrimary {
        /// Whose.
        cluster: ClusterId,
        /// Generation it was built on.
        generation: u64,
        /// The primary.
        primary: ServerId,
        /// Durability as it was read with it.
        durability: Durability,
    },
    /// The primary was changed by hand, outside Quorate, and all that answer agree on it: the record follows.
    FollowPrimary {
        /// Whose.
        cluster: ClusterId,
        /// Generation it was built on.
        generation: u64,
        /// The primary.
        primary: ServerId,
        /// What was seen, in a sentence.
        why: String,
    },
    /// Remove a member.
    ForgetServer {
        /// Whose.
        cluster: ClusterId,
        /// Who.
        server: ServerId,
    },
    /// Remove a cluster with all that belongs to it.
    ForgetCluster {
        /// Which.
        cluster: ClusterId,
    },
    /// Name a cluster; `None` removes the name.
    SetAlias {
        /// Which.
        cluster: ClusterId,
        /// Its name.
        alias: Option<String>,
    },
    /// Durability as observed by the leader.
    SetDurability {
        /// Whose.
        cluster: ClusterId,
        /// What.
        durability: Durability,
    },
    /// A node's verdict changed.
    ReportVerdict {
        /// The verdict.
        verdict: Verdict,
    },
    /// First decision.
    StartRecovery(Box<StartRecovery>),
    /// Restart the receiver of one replica, to find out whether the silent primary lives: only where nothing else can tell.
    CallWitness(Box<CallWitness>),
    /// Its receiver was seen started again.
    SettleWitness {
        /// Whose.
        cluster: ClusterId,
        /// Which call.
        witness: u64,
        /// What it said, in a sentence.
        said: String,
    },
    /// Another leader takes a running recovery over.
    TakeOver {
        /// Which.
        recovery: u64,
        /// Fresh verdicts, where its first side effect is not recorded.
        evidence: Vec<Testimony>,
    },
    /// Second decision.
    DecidePromotion {
        /// Which.
        recovery: u64,
        /// The decision.
        decision: Box<Decision>,
    },
    /// The second decision anew: the candidate did not apply in time what it received, and another holds as much.
    NextCandidate {
        /// Which.
        recovery: u64,
        /// Why the candidate is passed over, in a sentence.
        why: String,
        /// The decision that takes the place of the first.
        decision: Box<Decision>,
    },
    /// Given up before the point of no return: from here on it is only undone, whoever leads.
    BeginUndo {
        /// Which.
        recovery: u64,
        /// Why, in a sentence.
        why: String,
        /// Whether a fence of the old primary may have landed, or may still land.
        fence_unknown: bool,
    },
    /// Point of no return.
    RecordIntent {
        /// Which.
        recovery: u64,
    },
    /// The new primary serves: the cluster's record changes.
    Publish {
        /// Which.
        recovery: u64,
    },
    /// Steps as they ended, batched; for the reader.
    RecordSteps {
        /// Which.
        recovery: u64,
        /// The steps.
        steps: Vec<StepRecord>,
    },
    /// The end.
    FinishRecovery {
        /// Which.
        recovery: u64,
        /// How.
        ending: Ending,
        /// Why, in a sentence.
        reason: String,
        /// Members left behind, with why.
        left_behind: Vec<(ServerId, String)>,
        /// Members that now replicate from the (new) primary.
        repointed: Vec<ServerId>,
        /// It failed after its candidate may have been told to take writes, which may still come to pass.
        #[serde(default)]
        candidate_open: bool,
    },
    /// A standing order moves on.
    AdvanceOrder {
        /// Which.
        order: u64,
        /// The stage it enters.
        stage: OrderStage,
    },
    /// Acknowledge recoveries, lifting their blocks.
    Acknowledge {
        /// Which.
        scope: AckScope,
        /// Why.
        comment: String,
    },
    /// Allow or forbid automatic recoveries, of one cluster or of all.
    SetRecoveries {
        /// `None`: globally.
        cluster: Option<ClusterId>,
        /// On or off.
        enabled: bool,
        /// Why.
        why: String,
    },
    /// No automatic recovery on account of this server for a while.
    SetDowntime {
        /// Who.
        server: ServerId,
        /// For how long, log milliseconds; `None` ends it.
        for_ms: Option<u64>,
        /// Why.
        why: String,
    },
    /// No automatic recovery of this cluster for a while.
    SetMaintenance {
        /// Whose.
        cluster: ClusterId,
        /// For how long, log milliseconds; `None` ends it.
        for_ms: Option<u64>,
        /// Why.
        why: String,
    },
    /// Preference of a server as candidate.
    SetPromotionRule {
        /// Who.
        server: ServerId,
        /// The rule.
        rule: PromotionRule,
        /// For how long, log milliseconds; `None`: until changed.
        for_ms: Option<u64>,
    },
    /// New policy; refused when `version` is not the current one.
    SetPolicy {
        /// Version it was edited from.
        version: u64,
        /// All of it.
        policy: Box<Policy>,
    },
    /// Confirm a member whose identity changed, or release a quarantined one.
    ConfirmMember {
        /// Whose.
        cluster: ClusterId,
        /// Who.
        server: ServerId,
    },
    /// Something worth keeping happened that changes nothing else.
    Note {
        /// What kind.
        kind: EventKind,
        /// Whose, if a cluster's.
        cluster: Option<ClusterId>,
        /// On which server.
        server: Option<String>,
        /// In words.
        text: String,
    },
    /// Nothing but the passing of log time: expiries take effect.
    Tick,
    /// All voters understand commands up to this level.
    RaiseFeatureLevel {
        /// The level.
        level: u32,
    },
}

/// What an acknowledgement covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckScope {
    /// One recovery.
    Recovery(u64),
    /// All of a cluster.
    Cluster(ClusterId),
    /// All.
    All,
}

/// What `apply` answers to whoever proposed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing to tell (blank and membership entries).
    #[default]
    None,
    /// It took effect.
    Done {
        /// Id of what it made (recovery, order), else the log index.
        id: u64,
        /// Recoveries acknowledged, where that was asked.
        acknowledged: Vec<u64>,
    },
    /// Nothing happened, and why.
    Refused(Refusal),
}

impl Change {
    /// The feature level that brought it: it may be proposed once every voter understands that (design: a node that
    /// meets a command it does not know stops).
    pub fn level(&self) -> u32 {
        // All that the first release knows. A later addition gets an arm of its own here.
        FIRST_FEATURE_LEVEL
    }

    /// Short name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdoptCluster { .. } => "adopt_cluster",
            Self::UpdateMembers { .. } => "update_members",
            Self::SetPrimary { .. } => "set_primary",
            Self::FollowPrimary { .. } => "follow_primary",
            Self::ForgetServer { .. } => "forget_server",
            Self::ForgetCluster { .. } => "forget_cluster",
            Self::SetAlias { .. } => "set_alias",
            Self::SetDurability { .. } => "set_durability",
            Self::ReportVerdict { .. } => "report_verdict",
            Self::StartRecovery(_) => "start_recovery",
            Self::CallWitness(_) => "call_witness",
            Self::SettleWitness { .. } => "settle_witness",
            Self::TakeOver { .. } => "take_over",
            Self::DecidePromotion { .. } => "decide_promotion",
            Self::NextCandidate { .. } => "next_candidate",
            Self::BeginUndo { .. } => "begin_undo",
            Self::RecordIntent { .. } => "record_intent",
            Self::Publish { .. } => "publish",
            Self::RecordSteps { .. } => "record_steps",
            Self::FinishRecovery { .. } => "finish_recovery",
            Self::AdvanceOrder { .. } => "advance_order",
            Self::Acknowledge { .. } => "acknowledge",
            Self::SetRecoveries { .. } => "set_recoveries",
            Self::SetDowntime { .. } => "set_downtime",
            Self::SetMaintenance { .. } => "set_maintenance",
            Self::SetPromotionRule { .. } => "set_promotion_rule",
            Self::SetPolicy { .. } => "set_policy",
            Self::ConfirmMember { .. } => "confirm_member",
            Self::Note { .. } => "note",
            Self::Tick => "tick",
            Self::RaiseFeatureLevel { .. } => "raise_feature_level",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} via node {}", self.change.name(), self.by, self.node)
    }
}
