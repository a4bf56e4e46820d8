//! Handing the leader's office over, and giving it up where nobody takes it.
//!
//! The library's leader that was asked to hand over proposes nothing more, sends no heartbeat and waits for a newer term,
//! without end. Where nobody else can win an election (the others are down, or lack entries) the group would have no
//! leader until that node is started again. So after a while it votes for the one it named, as if that had asked: it
//! leads no more, and an ordinary election follows, which it may win.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::raft::VoteRequest;

use super::duty::Openraft;
use crate::raft::types::{LogId, Types, Vote};

/// Asks voter `to` to lead. The second part is to be run to its end, in a task of its own.
pub async fn hand_over(
    raft: &Openraft,
    to: u64,
    patience: Duration,
) -> Result<impl Future<Output = ()> + Send + use<>, Fatal<Types>> {
    let term = leads_in(raft);
    raft.trigger().transfer_leader(to).await?;
    let raft = raft.clone();
    Ok(async move {
        tokio::time::sleep(patience).await;
        if let Some(term) = term.filter(|term| leads_in(&raft) == Some(*term)) {
            give_up(&raft, term, to).await;
        }
    })
}

/// The term in which this node leads.
fn leads_in(raft: &Openraft) -> Option<u64> {
    let metrics = raft.server_metrics();
    let seen = metrics.borrow_watched();
    seen.state.is_leader().then_some(seen.vote.leader_id.term)
}

async fn give_up(raft: &Openraft, term: u64, to: u64) {
    tracing::warn!(term, to, "nobody took the leader's office over; this node gives it up");
    let last = raft.metrics().borrow_watched().last_log_index;
    // A leader's last entry is of its own term.
    let last = last.map(|index| LogId::new_term_index(term, index));
    let vote = VoteRequest { vote: Vote::new(term + 1, to), last_log_id: last, leadership_transfer: true };
    if let Err(fatal) = raft.vote(vote).await {
        tracing::warn!(%fatal, "the leader's office could not be given up");
    }
}
