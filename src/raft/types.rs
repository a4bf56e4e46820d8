//! The types openraft is instantiated with, and how a command travels in the log.
//!
//! A command is carried as encoded bytes together with the version of the program that proposed it: a node can
//! so store and forward entries it does not understand, and stops only when it would have to apply one.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::replicated::{Command, Outcome};

mod declared {
    use super::{NodeInfo, Proposal, Reply};
    use crate::raft::runtime::Runtime;

    openraft::declare_raft_types!(
        /// Standard Raft: one leader a term (`leader_id_std`), so that a term alone names a leader.
        pub Types:
            D = Proposal,
            R = Reply,
            Node = NodeInfo,
            LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
            AsyncRuntime = Runtime,
    );
}

pub use declared::Types;

pub type LogId = openraft::alias::LogIdOf<Types>;
pub type Vote = openraft::alias::VoteOf<Types>;
pub type Entry = openraft::alias::EntryOf<Types>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub type Snapshot = openraft::alias::SnapshotOf<Types, Bytes>;

/// Largest encoded command, in bytes: the adoption of some 3,000 servers. What does not fit into one value of sled is
/// stored in parts (`store::parts`); one message to a follower has room for several such commands.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// What the membership says about a node. It is part of the log: changing it is a membership change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `HOST:PORT` (`[V6]:PORT`) that other nodes dial; the name is resolved anew on each dial.
    pub node_addr: String,
    /// `HOST:PORT` that clients dial.
    pub client_addr: String,
    /// Random name of the node's data directory. Another one under the same id is refused (P9).
    pub incarnation: String,
    /// Where the node stands, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
}

/// One command as the log carries it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Version of the program that proposed it: the one that surely understands it.
    #[serde(rename = "v")]
    version: String,
    /// The command as MessagePack with named fields.
    #[serde(rename = "c")]
    command: Bytes,
}

impl Proposal {
    /// Encodes `command`; the error is its size in bytes when that is over [`COMMAND_BYTES_MAX`].
    pub fn encode(command: &Command) -> Result<Self, EncodeError> {
        let bytes =
            rmp_serde::to_vec_named(command).map_err(|error| EncodeError::Failed(error.to_string()))?;
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(EncodeError::TooLarge(bytes.len()));
        }
        Ok(Proposal { version: env!("CARGO_PKG_VERSION").to_owned(), command: Bytes::from(bytes) })
    }

    /// The command; the error says which version understands it.
    pub fn decode(&self) -> Result<Command, String> {
        rmp_serde::from_slice(&self.command).map_err(|error| {
            let by = version(&self.version);
            format!(
                "a command proposed by quorate {by} is not understood by quorate {} ({error}); run {by} or newer here",
                env!("CARGO_PKG_VERSION"),
            )
        })
    }

    /// Whether this very version proposed it, and so must understand it.
    pub fn is_of_this_version(&self) -> bool {
        self.version == env!("CARGO_PKG_VERSION")
    }

    /// Size of the encoded command in bytes.
    pub fn len(&self) -> usize {
        self.command.len()
    }

    /// A proposal of arbitrary bytes, for tests of what a newer version might have written.
    #[cfg(test)]
    pub fn raw(version: &str, command: &[u8]) -> Self {
        Proposal { version: version.to_owned(), command: Bytes::copy_from_slice(command) }
    }
}

/// A program's version as somebody else wrote it, made fit to be shown.
pub fn version(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

/// Why a command could not be encoded.
#[derive(Debug)]
pub enum EncodeError {
    /// Its size in bytes, over the limit.
    TooLarge(usize),
    /// The encoder's words.
    Failed(String),
}

// Never the content: logs and errors of the library print proposals.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes by {}", self.command.len(), version(&self.version))
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `apply` answered; `None` for entries that carry no command. Never leaves the node.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Reply(#[serde(skip)] pub Option<Outcome>);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", if self.0.is_some() { "outcome" } else { "none" })
    }
}
