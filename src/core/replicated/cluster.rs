//! Clusters and their members as the group knows them. Membership is committed; nothing is concluded from absence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::command::Switch;
use crate::{
    core::plan::step::Target,
    model::{
        address::Address,
        facts::{Channel, ServerFacts},
        server::{ClusterId, Flavor, Identity, ServerId},
    },
};

/// How safe an acknowledged write of this cluster is (P6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Durability {
    /// No semi-sync: what the promoted replica had not received is lost, and recorded.
    #[default]
    Async,
    /// Semi-sync as P6 wants it: a commit waits for `acks` of `ackers`, for ever.
    SemiSync {
        /// Acknowledgements a commit waits for (k).
        acks: u32,
        /// Who may acknowledge.
        ackers: Vec<ServerId>,
    },
    /// Semi-sync is there but does not hold (finite time-out, fell back, too few ackers): asynchronous rules.
    Unprotected {
        /// What is missing.
        why: String,
    },
}

impl Durability {
    /// The same, with these among those who may acknowledge; without semi-sync nobody does.
    pub fn with(self, more: impl IntoIterator<Item = ServerId>) -> Self {
        match self {
            Self::SemiSync { acks, ackers } => {
                let all: BTreeSet<ServerId> = ackers.into_iter().chain(more).collect();
                Self::SemiSync { acks, ackers: all.into_iter().collect() }
            }
            other => other,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async => f.write_str("asynchronous"),
            Self::SemiSync { acks, ackers } => {
                write!(f, "semi-sync: a commit waits for {acks} of {} ackers", ackers.len())
            }
            Self::Unprotected { why } => write!(f, "unprotected: {why}"),
        }
    }
}

/// Whether a member can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum MemberState {
    /// In service.
    #[default]
    Normal,
    /// A part of its identity changed: no candidate until a person confirms.
    Changed {
        /// Bound and seen identity.
        what: String,
    },
    /// A former primary that holds transactions the cluster does not have; read-only, replicates from nobody.
    Quarantined {
        /// The errant set; empty where it lacks some of its own.
        errant: String,
        /// What is known about it.
        why: String,
    },
    /// Replaced as primary; not seen since.
    Replaced,
}

/// A server of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Quorate's name for it.
    pub server: ServerId,
    /// What it must say of itself.
    pub identity: Identity,
    /// Where it is dialled.
    pub address: Address,
    /// Version text as last committed.
    pub version: String,
    /// Whom it replicates from, as last committed: by the channel that [`Cluster::channel_of`] names; `None` for a
    /// primary.
    pub source: Option<ServerId>,
    /// Name of that channel.
    pub channel: String,
    /// Number of channels; more than one is shown and never promoted.
    pub channels: u32,
    /// Datacenter by policy, if any.
    pub datacenter: Option<String>,
    /// Whether it can be used.
    pub state: MemberState,
}

impl Member {
    /// The member as a step's target.
    pub fn target(&self) -> Target {
        Target { server: self.server.clone(), identity: self.identity.clone(), address: self.address.clone() }
    }
}

/// A replication topology under Quorate's care.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Own id; outlives its primary.
    pub id: ClusterId,
    /// Name given by people; unique.
    pub alias: Option<String>,
    /// Dialect of its members.
    pub flavor: Flavor,
    /// The primary; `None` while two or none are seen.
    pub primary: Option<ServerId>,
    /// Counts the changes of the primary.
    pub epoch: u64,
    /// Members by name.
    pub members: BTreeMap<ServerId, Member>,
    /// Structure generation: changes with members, identities, edges, primary epoch and policy; never with samples.
    pub generation: u64,
    /// Automatic recoveries of this cluster.
    pub recoveries: Switch,
    /// Durability as last committed.
    pub durability: Durability,
    /// The recovery or operation that holds the slot.
    pub slot: Option<u64>,
    /// Attempts since the last completed recovery that did not complete.
    pub failed_attempts: u32,
    /// Log time before which no further automatic attempt starts.
    pub retry_not_before_ms: u64,
    /// Position the last known primary was promoted with (GTID set as text), for R26: a server that lacks it is no
    /// candidate without explicit acceptance.
    pub primary_since: Option<String>,
    /// The last receiver that was restarted as a witness under the present primary.
    #[serde(default)]
    pub witness: Option<Witness>,
}

/// The one receiver that is restarted to find out whether a silent primary lives (design §3, ADR 0005).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// Log index of the call: what permits its steps.
    pub id: u64,
    /// The replica.
    pub target: Target,
    /// Channel from the primary.
    pub channel: String,
    /// Node and term that called it, the only ones to restart it.
    pub owner: (u64, u64),
    /// Log time of the call.
    pub at_ms: u64,
    /// Its receiver was seen started again, or a recovery took it over.
    pub settled: bool,
    /// A node has heard the primary since: the episode is over, and the next may have a witness of its own.
    pub answered: bool,
}

impl Cluster {
    /// One that is taken under care: no members yet, nothing known of its primary, nothing has happened.
    pub fn new(id: ClusterId, flavor: Flavor) -> Self {
        Self {
            id,
            alias: None,
            flavor,
            primary: None,
            epoch: 1,
            members: BTreeMap::new(),
            generation: 1,
            recoveries: Switch::default(),
            durability: Durability::default(),
            slot: None,
            failed_attempts: 0,
            retry_not_before_ms: 0,
            primary_since: None,
            witness: None,
        }
    }

    /// What people call it: the alias, else the id.
    pub fn name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.id.0)
    }

    /// The primary's member entry.
    pub fn primary_member(&self) -> Option<&Member> {
        self.primary.as_ref().and_then(|id| self.members.get(id))
    }

    /// Direct replicas of `source`, as committed.
    pub fn replicas_of<'a>(&'a self, source: &'a ServerId) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |m| m.source.as_ref() == Some(source))
    }

    /// The channel by which a member with several sources is judged and shown: the one from the primary, else from the
    /// source on record, else its first.
    pub fn channel_of<'a>(&self, member: &Member, facts: &'a ServerFacts) -> Option<&'a Channel> {
        let on_record = member.source.as_ref().and_then(|source| self.members.get(source));
        let mut sources = self.primary_member().into_iter().chain(on_record);
        sources
            .find_map(|source| facts.channel_from(&source.identity, &source.address, &member.channel))
            .or_else(|| facts.channels.first())
    }

    /// The member that a channel receives from: by its address, else by what it said of itself.
    pub fn source_of(&self, channel: &Channel) -> Option<&Member> {
        let by_uuid = || {
            let uuid = channel.source_uuid.as_ref()?;
            self.members.values().find(|m| m.identity.server_uuid.as_ref() == Some(uuid))
        };
        let by_server_id = || {
            let id = channel.source_server_id.filter(|id| *id != 0)?;
            self.members.values().find(|m| m.identity.server_id == id)
        };
        self.member_at(&channel.source).or_else(by_uuid).or_else(by_server_id)
    }

    /// A member by address.
    pub fn member_at(&self, address: &Address) -> Option<&Member> {
        self.members.values().find(|m| &m.address == address)
    }
}
