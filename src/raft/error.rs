//! The errors of this module's interface: each says what was attempted, on what, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot work.
    #[error("{what}")]
    BadOption {
        /// The setting and the rule it breaks.
        what: String,
    },
    /// The file system does not let this process write there.
    #[error(
        "data directory {path}: cannot {attempt}; give this user the right to write there, or choose another data_dir"
    )]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        attempt: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("data directory {path} is in use by another process (pid {holder}); one node, one directory")]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process id the holder wrote, or `?`.
        holder: String,
    },
    /// It holds something that is not a node's state.
    #[error(
        "data directory {path} is not a Quorate directory: it holds {found}; choose an empty directory or the right one"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Name of the first thing found.
        found: String,
    },
    /// It belongs to another node.
    #[error(
        "data directory {path} belongs to node {found}, but node_id is {configured}; correct one of them, and never copy a directory between nodes"
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Id in the directory.
        found: u64,
        /// Id in the configuration.
        configured: u64,
    },
    /// It belongs to another group.
    #[error(
        "data directory {path} belongs to group {found:?}, but group is {configured:?}; correct one of them"
    )]
    OtherGroup {
        /// The directory.
        path: PathBuf,
        /// Group in the directory.
        found: String,
        /// Group in the configuration.
        configured: String,
    },
    /// A newer program wrote it.
    #[error(
        "data directory {path} has format {found}, written by quorate {version}; this program reads up to {supported}: run quorate {version} or newer"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Format in the directory.
        found: u32,
        /// Newest format this program reads.
        supported: u32,
        /// Version that wrote it.
        version: String,
    },
    /// What was written is not what is read.
    #[error(
        "data directory {path} is damaged: {what}. Nothing was repaired. This node must not vote with it: keep a copy, then replace this node under a new id (quorate nodes replace)"
    )]
    Corrupt {
        /// The directory or file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// No room to write.
    #[error("data directory {path}: {free} bytes free, at least {needed} are needed; free some space")]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// Free bytes now.
        free: u64,
        /// Free bytes needed.
        needed: u64,
    },
    /// Certificates of the node port.
    #[error("node certificate: {what}")]
    Tls {
        /// File and reason.
        what: String,
    },
    /// The consensus library did not start.
    #[error("raft did not start: {what}")]
    Start {
        /// Its words.
        what: String,
    },
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this node is not the leader (of the expected term).
    #[error("this node is not the leader{}", said(.leader))]
    NotLeader {
        /// Who is, as far as this node knows.
        leader: Option<u64>,
    },
    /// Not proposed: this leader has not heard from a majority lately.
    #[error("no majority of the nodes answers")]
    NoQuorum,
    /// Not proposed: too large for one log entry.
    #[error("the command has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not proposed: it cannot be encoded.
    #[error("the command cannot be encoded: {what}")]
    Encode {
        /// The encoder's words.
        what: String,
    },
    /// Proposed, and it may be committed now, later or never.
    #[error("the command's fate is unknown: {what}")]
    Unknown {
        /// What happened instead of an answer.
        what: String,
    },
}

impl ProposeError {
    /// Whether the command is certainly not in the log.
    pub fn is_definite(&self) -> bool {
        !matches!(self, ProposeError::Unknown { .. })
    }
}

/// Why a read barrier was not passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody leads, as far as this node knows.
    #[error("no leader is known")]
    NoLeader,
    /// The leader could not be asked, or is none any more.
    #[error("leader {leader} did not answer: {what}")]
    LeaderUnreachable {
        /// The node asked.
        leader: u64,
        /// Its answer or the transport's.
        what: String,
    },
    /// This leader could not confirm its leadership in time.
    #[error("no majority of the nodes answers")]
    NoQuorum,
    /// This node has not applied up to that index in time.
    #[error("log index {index} is not applied here yet (at {applied})")]
    Behind {
        /// Index to be applied.
        index: u64,
        /// Newest applied index.
        applied: u64,
    },
    /// This node's raft has stopped.
    #[error("raft has stopped: {what}")]
    Stopped {
        /// Why.
        what: String,
    },
}

/// Why a group was not initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a group already; a second `init` would make two.
    #[error(
        "node {node} already belongs to an initialised group; nothing was changed. `quorate nodes add` adds nodes to it"
    )]
    AlreadyInitialised {
        /// The node that says so.
        node: u64,
    },
    /// The list lacks this node or names it wrongly.
    #[error("this is node {node} of incarnation {incarnation}: the list of members must name it so")]
    NotThisNode {
        /// This node.
        node: u64,
        /// Its incarnation.
        incarnation: String,
    },
    /// A named node does not answer.
    #[error("node {node} at {address} does not answer: {what}; start it, or correct its address")]
    Unreachable {
        /// The node.
        node: u64,
        /// Where it was dialled.
        address: String,
        /// The transport's words.
        what: String,
    },
    /// Someone else listens at that address.
    #[error("at {address}, meant to be node {node}, answers {found}")]
    OtherNode {
        /// The node meant.
        node: u64,
        /// Where it was dialled.
        address: String,
        /// Who answers.
        found: String,
    },
    /// The library or the disk refused.
    #[error("the group could not be made: {what}")]
    Failed {
        /// Why.
        what: String,
    },
}

/// Why a change of the membership was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes the membership.
    #[error("this node is not the leader{}", said(.leader))]
    NotLeader {
        /// Who is, as far as this node knows.
        leader: Option<u64>,
    },
    /// This leader has not heard from a majority lately.
    #[error("no majority of the nodes answers")]
    NoQuorum,
    /// Refused, with the reason; nothing changed.
    #[error("{what}")]
    Refused {
        /// The reason.
        what: String,
    },
    /// Another change is on its way.
    #[error("another change of the membership is under way; try again when it is done")]
    Busy,
    /// A part was done, and the rest can be asked for again.
    #[error("{what}")]
    Unfinished {
        /// What is missing.
        what: String,
    },
    /// It may be committed now, later or never: look at the membership.
    #[error("the change's fate is unknown: {what}; look at the membership before trying again")]
    Unknown {
        /// What happened instead of an answer.
        what: String,
    },
}

/// Why a peer has no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The membership does not name it.
    #[error("node {node} is not a member of this group")]
    Unknown {
        /// The node.
        node: u64,
    },
    /// What the membership says about it cannot be dialled.
    #[error("node {node}: address {address:?} cannot be dialled: {what}")]
    Address {
        /// The node.
        node: u64,
        /// Its address.
        address: String,
        /// What is wrong with it.
        what: String,
    },
}

fn said(leader: &Option<u64>) -> String {
    leader.map_or_else(|| "; no leader is known".to_owned(), |id| format!("; node {id} is"))
}
