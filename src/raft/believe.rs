//! What a peer's consensus message may say. The gate has let a member in; it still speaks for itself only, and the
//! library takes what it says at its word: some of it would stop this node (assertions), make it lead, or leave no term
//! for anybody else. An error says what is not believed.

use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::{EntryPayload, Membership};

use super::types::{COMMAND_BYTES_MAX, Entry, LogId, NodeInfo, SnapshotMeta, Types, Vote};

/// How far a peer's term may lie above one's own: elections for a century. Each lie moves a group by no more than this,
/// of 2^64.
const TERMS_AHEAD_MAX: u64 = 1 << 32;
/// Largest log index that is spoken of.
const INDEX_MAX: u64 = 1 << 62;

type Believed = Result<(), String>;

/// Log entries, or a heartbeat, from the leader `from`.
pub fn append(rpc: &AppendEntriesRequest<Types>, from: u64, own_term: u64) -> Believed {
    let term = leading(&rpc.vote, from, own_term)?;
    for (what, id) in [("an entry before", rpc.prev_log_id), ("a committed entry", rpc.leader_commit)] {
        id.map_or(Ok(()), |id| log_id(what, id, term))?;
    }
    let mut before = rpc.prev_log_id;
    for entry in &rpc.entries {
        let id = entry.log_id();
        log_id("an entry", id, term)?;
        let follows =
            before.map_or(id.index() == 0, |b| b.index() + 1 == id.index() && term_of(b) <= term_of(id));
        if !follows {
            let before = before.map_or("the beginning".to_owned(), said);
            return Err(format!("the entry {} does not follow {before}", said(id)));
        }
        payload(entry).map_err(|what| format!("log entry {} {what}", id.index()))?;
        before = Some(id);
    }
    Ok(())
}

/// A candidate's request, and its question whether it would be granted.
pub fn candidate(rpc: &VoteRequest<Types>, from: u64, own_term: u64) -> Believed {
    let term = own_word(&rpc.vote, from, own_term)?;
    if rpc.vote.is_committed() {
        return Err("a candidate that leads already".to_owned());
    }
    rpc.last_log_id.map_or(Ok(()), |id| log_id("a last entry", id, term))
}

/// The leader hands its office over.
pub fn transfer(rpc: &TransferLeaderRequest<Types>, from: u64, own_term: u64) -> Believed {
    let term = leading(rpc.from_leader(), from, own_term)?;
    rpc.last_log_id().map_or(Ok(()), |id| log_id("a last entry", *id, term))
}

/// The head of a snapshot, with what is committed here.
pub fn snapshot(
    vote: &Vote,
    meta: &SnapshotMeta,
    from: u64,
    own_term: u64,
    committed: Option<LogId>,
) -> Believed {
    let term = leading(vote, from, own_term)?;
    let last = meta.last_log_id.ok_or("a snapshot of nothing")?;
    log_id("a last entry", last, term)?;
    // Newer, and yet no further: it would contradict what is committed here.
    if let Some(committed) =
        committed.filter(|committed| *committed < last && committed.index() >= last.index())
    {
        return Err(format!("a snapshot up to {}, though {} is committed here", said(last), said(committed)));
    }
    match meta.last_membership.log_id() {
        Some(id) if *id > last => {
            Err(format!("a membership of {}, after its end at {}", said(*id), said(last)))
        }
        Some(_) => membership(meta.last_membership.membership()),
        None => Err("a snapshot without a membership".to_owned()),
    }
}

/// What a follower says to `rpc`.
pub fn append_answer(rpc: &AppendEntriesRequest<Types>, answer: &AppendEntriesResponse<Types>) -> Believed {
    let sent = rpc.entries.last().map(RaftEntry::log_id).or(rpc.prev_log_id);
    match answer {
        AppendEntriesResponse::Success => Ok(()),
        AppendEntriesResponse::PartialSuccess(upto) if *upto <= sent && *upto >= rpc.prev_log_id => Ok(()),
        AppendEntriesResponse::PartialSuccess(upto) => {
            let upto = upto.map_or("nothing".to_owned(), said);
            Err(format!("it has {upto}, which it was not sent"))
        }
        AppendEntriesResponse::Conflict if rpc.prev_log_id.is_some() => Ok(()),
        AppendEntriesResponse::Conflict => Err("a conflict with the beginning of the log".to_owned()),
        AppendEntriesResponse::HigherVote(vote) => higher(vote, &rpc.vote),
    }
}

/// What a voter says to `rpc`.
pub fn vote_answer(rpc: &VoteRequest<Types>, answer: &VoteResponse<Types>) -> Believed {
    near(&answer.vote, rpc.vote.leader_id.term)?;
    answer.last_log_id.map_or(Ok(()), |id| log_id("a last entry", id, u64::MAX))
}

/// What a follower says to a snapshot that was sent under `sent`.
pub fn snapshot_answer(sent: &Vote, answer: &SnapshotResponse<Types>) -> Believed {
    if answer.vote == *sent { Ok(()) } else { higher(&answer.vote, sent) }
}

/// The vote of one who leads; its term.
fn leading(vote: &Vote, from: u64, own_term: u64) -> Result<u64, String> {
    match vote.is_committed() {
        true => own_word(vote, from, own_term),
        false => Err("a leader that was not elected".to_owned()),
    }
}

/// A vote for the one who sends it; its term.
fn own_word(vote: &Vote, from: u64, own_term: u64) -> Result<u64, String> {
    let named = vote.leader_id.voted_for;
    if named != from {
        return Err(format!("node {from} speaks for node {named}"));
    }
    near(vote, own_term)
}

/// A vote that a node answers in place of the one it was sent by somebody: somebody else's, and newer.
fn higher(vote: &Vote, sent: &Vote) -> Believed {
    let (term, sent_term) = (near(vote, sent.leader_id.term)?, sent.leader_id.term);
    let own = vote.leader_id.voted_for == sent.leader_id.voted_for;
    match term < sent_term || (own && vote.is_committed()) {
        true => Err(format!("term {term} in place of {sent_term}")),
        false => Ok(()),
    }
}

fn near(vote: &Vote, own_term: u64) -> Result<u64, String> {
    let term = vote.leader_id.term;
    match term > own_term.saturating_add(TERMS_AHEAD_MAX) {
        true => Err(format!("term {term}, while it is {own_term} here")),
        false => Ok(term),
    }
}

fn log_id(what: &str, id: LogId, term: u64) -> Believed {
    if id.index() > INDEX_MAX {
        return Err(format!("{what} at log index {}", id.index()));
    }
    match term_of(id) > term {
        true => Err(format!("{what} of term {}, in term {term}", term_of(id))),
        false => Ok(()),
    }
}

/// What is refused here never reaches the log. A command of another version is kept, understood or not: the group may
/// need this copy.
fn payload(entry: &Entry) -> Believed {
    match &entry.payload {
        EntryPayload::Blank => Ok(()),
        EntryPayload::Normal(proposal) if proposal.len() > COMMAND_BYTES_MAX => {
            Err("is too large".to_owned())
        }
        EntryPayload::Normal(proposal) if proposal.is_of_this_version() => proposal.decode().map(drop),
        EntryPayload::Normal(_) => Ok(()),
        EntryPayload::Membership(members) => membership(members),
    }
}

fn membership(members: &Membership<u64, NodeInfo>) -> Believed {
    let configs = members.get_joint_config().clone();
    if configs.is_empty() {
        return Err("names no voters".to_owned());
    }
    let nodes: std::collections::BTreeMap<u64, NodeInfo> =
        members.nodes().map(|(id, node)| (*id, node.clone())).collect();
    Membership::new(configs, nodes)
        .map(drop)
        .map_err(|error| format!("names voters that make no group: {error}"))
}

fn term_of(id: LogId) -> u64 {
    id.committed_leader_id().term
}

fn said(id: LogId) -> String {
    format!("{} of term {}", id.index(), term_of(id))
}
