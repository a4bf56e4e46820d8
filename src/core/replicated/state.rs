//! The state itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    audit::AuditEntry,
    cluster::Cluster,
    command::{Outcome, Switch},
    orders::StandingOrder,
    recovery::Recovery,
};
use crate::{
    core::analysis::{Class, Verdict},
    model::{
        policy::{Policy, PromotionRule},
        server::{ClusterId, ServerId},
    },
};

/// Commands this build understands.
pub const FEATURE_LEVEL: u32 = 1;

/// Where every group begins, whatever build its nodes run: the same log must make the same state on all of them.
pub const FIRST_FEATURE_LEVEL: u32 = 1;

/// Request ids remembered, newest last.
pub const REQUESTS_KEPT: usize = 4_096;

/// A block: no automatic recovery of this class on this cluster until it is over or acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The completed recovery it came from.
    pub recovery: u64,
    /// Whose.
    pub cluster: ClusterId,
    /// Of which class.
    pub class: Class,
    /// Log time of its end.
    pub until_ms: u64,
    /// Lifted before its end: by whom, why, when (log time).
    pub lifted: Option<(String, String, u64)>,
}

/// Something with an owner and an end: downtime, maintenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Owner.
    pub by: String,
    /// Why.
    pub why: String,
    /// Log time of its end.
    pub until_ms: u64,
}

/// A promotion rule with its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule.
    pub rule: PromotionRule,
    /// Who set it.
    pub by: String,
    /// Log time of its end; `None`: none.
    pub until_ms: Option<u64>,
}

/// The state every node holds after applying the same entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Commands up to this level may be proposed.
    pub feature_level: u32,
    /// Log time in milliseconds; never goes back.
    pub log_time_ms: u64,
    /// Voters of the group with the incarnation each is bound to, as the membership entries of the same log say.
    pub voters: BTreeMap<u64, String>,
    /// Automatic recoveries of all clusters.
    pub recoveries_switch: Switch,
    /// Policy.
    pub policy: Policy,
    /// Counts its changes.
    pub policy_version: u64,
    /// Clusters.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Recoveries and operations, by id.
    pub recoveries: BTreeMap<u64, Recovery>,
    /// Standing orders, by id.
    pub orders: BTreeMap<u64, StandingOrder>,
    /// Blocks, by the recovery they came from.
    pub blocks: BTreeMap<u64, Block>,
    /// Downtimes, by server.
    pub downtimes: BTreeMap<ServerId, Pause>,
    /// Maintenance, by cluster.
    pub maintenance: BTreeMap<ClusterId, Pause>,
    /// Promotion rules, by server.
    pub rules: BTreeMap<ServerId, Rule>,
    /// Newest verdict of each node on each cluster.
    pub verdicts: BTreeMap<ClusterId, BTreeMap<u64, Verdict>>,
    /// Outcomes by request id, for deduplication.
    pub requests: BTreeMap<String, Outcome>,
    /// Request ids in order of arrival.
    pub request_order: VecDeque<String>,
    /// The audit trail, oldest first.
    pub audit: VecDeque<AuditEntry>,
    /// Log times of automatic starts within the breaker's window.
    pub starts: VecDeque<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            feature_level: FIRST_FEATURE_LEVEL,
            log_time_ms: 0,
            voters: BTreeMap::new(),
            recoveries_switch: Switch::default(),
            policy: Policy::default(),
            policy_version: 1,
            clusters: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            orders: BTreeMap::new(),
            blocks: BTreeMap::new(),
            downtimes: BTreeMap::new(),
            maintenance: BTreeMap::new(),
            rules: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            requests: BTreeMap::new(),
            request_order: VecDeque::new(),
            audit: VecDeque::new(),
            starts: VecDeque::new(),
        }
    }
}

impl State {
    /// A hash of all of it: equal on all nodes that applied the same entries.
    pub fn hash(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("the state holds only values that serialise");
        Sha256::digest(bytes).iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    /// Tells the state who votes, from a membership entry of the log.
    pub fn set_voters(&mut self, voters: BTreeMap<u64, String>) {
        let ids: BTreeSet<u64> = voters.keys().copied().collect();
        for verdicts in self.verdicts.values_mut() {
            verdicts.retain(|node, _| ids.contains(node));
        }
        self.voters = voters;
    }
}
