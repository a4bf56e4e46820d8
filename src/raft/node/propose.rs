//! Proposing a command, and knowing what became of it.

use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;

use super::Raft;
use crate::core::replicated::{Command, Outcome};
use crate::raft::error::ProposeError;
use crate::raft::types::{COMMAND_BYTES_MAX, EncodeError, Proposal, Types};

/// A command that is in the log for good and was applied here.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its log index.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What `apply` answered.
    pub outcome: Outcome,
}

impl Raft {
    /// Puts a command into the log and returns when it is committed and applied here. Only a leader can.
    ///
    /// Cancelling it, and [`ProposeError::Unknown`], leave the command's fate open.
    pub async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.write(command, None).await
    }

    /// As [`Raft::propose`], but only if this node still leads in `term` when it would be appended.
    pub async fn propose_as_leader_of(&self, term: u64, command: Command) -> Result<Committed, ProposeError> {
        self.write(command, Some(term)).await
    }

    async fn write(&self, command: Command, term: Option<u64>) -> Result<Committed, ProposeError> {
        let proposal = Proposal::encode(&command).map_err(|error| match error {
            EncodeError::TooLarge(bytes) => ProposeError::TooLarge { bytes, limit: COMMAND_BYTES_MAX },
            EncodeError::Failed(what) => ProposeError::Encode { what },
        })?;
        let (responder, answer) = ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let mut request = self.openraft().write(proposal).responder(responder);
        if let Some(term) = term {
            request = request.with_leader(term);
        }
        let unknown = |what: String| ProposeError::Unknown { what };
        let limit = self.inner.options.profile.answer_timeout();
        let written = async {
            request.await.map_err(|fatal| unknown(fatal.to_string()))?;
            answer.await.map_err(|_| unknown("raft has stopped".to_owned()))?.map_err(explain)
        };
        let written = tokio::time::timeout(limit, written)
            .await
            .map_err(|_| unknown(format!("no answer within {} ms", limit.as_millis())))??;
        let outcome =
            written.data.0.ok_or_else(|| unknown("it was committed without an outcome".to_owned()))?;
        let id = written.log_id;
        Ok(Committed { index: id.index(), term: id.committed_leader_id().term, outcome })
    }
}

fn explain(error: ClientWriteError<Types>) -> ProposeError {
    match error {
        // The library's promise: this one means "rejected before it was appended".
        ClientWriteError::ForwardToLeader(forward) => refused(&forward),
        other => ProposeError::Unknown { what: other.to_string() },
    }
}

fn refused(forward: &ForwardToLeader<Types>) -> ProposeError {
    match forward.reason {
        ForwardReason::LeaseExpired => ProposeError::NoQuorum,
        ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
            ProposeError::NotLeader { leader: forward.leader_id }
        }
    }
}
