//! What the product writes on its disk and says to other nodes, as far as the checks look at it: decoded here by hand,
//! as an onlooker would, from the formats of docs/adr/0004.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use quorate::{core::replicated::Command, proto::raft::v1::Frame};
use serde::{Deserialize, de::IgnoredAny};

use crate::raft::{Config, Entry, Load};

/// Bytes of the checksum before each value.
const CHECKSUM: usize = 4;
/// First byte of an entry that is stored in parts.
const IN_PARTS: u8 = 0xc1;
/// What stands before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The leader of a term, as in a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct LeaderId {
    term: u64,
    voted_for: Option<u64>,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Vote {
    leader_id: LeaderId,
    committed: bool,
}

/// The answer to a request for one.
#[derive(Debug, Deserialize)]
struct VoteAnswer {
    vote: Vote,
    vote_granted: bool,
}

/// What a leader asks a follower to have.
#[derive(Debug, Deserialize)]
struct Append {
    prev_log_id: Option<LogId>,
    entries: Vec<Head>,
}

#[derive(Debug, Deserialize)]
struct Head {
    log_id: LogId,
}

/// The answer to it; only one kind matters here.
#[derive(Debug, Deserialize)]
enum AppendAnswer {
    Success,
    PartialSuccess(IgnoredAny),
    Conflict,
    HigherVote(IgnoredAny),
}

/// What a snapshot's head says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct SnapshotHead {
    meta: SnapshotMeta,
}

#[derive(Debug, Deserialize)]
struct SnapshotMeta {
    last_log_id: Option<LogId>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct LogId {
    leader_id: u64,
    index: u64,
}

#[derive(Debug, Deserialize)]
struct Stored {
    log_id: LogId,
    payload: Payload,
}

#[derive(Debug, Deserialize)]
enum Payload {
    Blank,
    Normal(Proposal),
    Membership(Membership),
}

#[derive(Debug, Deserialize)]
struct Proposal {
    #[serde(rename = "c")]
    command: bytes::Bytes,
}

#[derive(Debug, Deserialize)]
struct Membership {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    incarnation: String,
}

/// A vote that was given: the term, and for whom.
pub fn granted(message: &[u8]) -> Option<(u64, u64)> {
    let frame = Frame::decode(message.get(PREFIX..)?).expect("a node speaks its own protocol");
    let answer: VoteAnswer = rmp_serde::from_slice(&frame.body).expect("an answer to a request for a vote");
    let VoteAnswer { vote: Vote { leader_id, .. }, vote_granted } = answer;
    vote_granted.then_some((leader_id.term, leader_id.voted_for?))
}

/// The entry up to which a follower has said that it holds a leader's log: its term and index.
pub fn acknowledged(message: &[u8], answer: &[u8]) -> Option<(u64, u64)> {
    let answer = Frame::decode(answer.get(PREFIX..)?).expect("a node speaks its own protocol");
    match rmp_serde::from_slice(&answer.body).expect("an answer to an append") {
        AppendAnswer::Success => {}
        AppendAnswer::PartialSuccess(_) | AppendAnswer::Conflict | AppendAnswer::HigherVote(_) => {
            return None;
        }
    }
    let message = Frame::decode(message.get(PREFIX..)?).expect("a node speaks its own protocol");
    let append: Append = rmp_serde::from_slice(&message.body).expect("an append");
    let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id)?;
    Some((last.leader_id, last.index))
}

/// The last index that is in the snapshot of this head.
pub fn last_in_snapshot(value: &[u8]) -> Option<u64> {
    let head: SnapshotHead = rmp_serde::from_slice(&value[CHECKSUM..]).expect("the head of a snapshot");
    head.meta.last_log_id.map(|last| last.index)
}

/// The vote on record: its term, for whom, and whether that one is known to lead.
pub fn vote(value: &[u8]) -> (u64, Option<u64>, bool) {
    let Vote { leader_id, committed } = rmp_serde::from_slice(&value[CHECKSUM..]).expect("a vote");
    (leader_id.term, leader_id.voted_for, committed)
}

/// The entry stored at `index`, from its value and, where it has some, its parts' values.
pub fn entry(index: u64, value: &[u8], parts: &[Vec<u8>]) -> Entry {
    let content = match value.get(CHECKSUM) {
        Some(&IN_PARTS) => parts.iter().flat_map(|part| &part[CHECKSUM..]).copied().collect(),
        _ => value[CHECKSUM..].to_vec(),
    };
    let stored: Stored = rmp_serde::from_slice(&content).expect("an entry");
    assert_eq!(stored.log_id.index, index, "an entry under the key of another: a fault of the rig or worse");
    let load = match stored.payload {
        Payload::Blank => Load::Blank,
        Payload::Normal(proposal) => {
            let command: Command = rmp_serde::from_slice(&proposal.command).expect("a command");
            Load::Command(command)
        }
        Payload::Membership(membership) => Load::Config(config(&membership)),
    };
    Entry { term: stored.log_id.leader_id, load }
}

/// The voters, of both sets while a change is half done.
fn config(membership: &Membership) -> Config {
    let voters = membership.configs.iter().flatten();
    let bound = |id: &u64| (*id, membership.nodes[id].incarnation.as_str().into());
    Config { voters: voters.map(bound).collect() }
}
