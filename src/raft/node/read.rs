//! Reading what is surely current.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tonic::Request;

use super::Raft;
use crate::proto::raft::v1::ReadIndexRequest;
use crate::proto::raft::v1::raft_client::RaftClient;
use crate::raft::error::ReadError;
use crate::raft::network;

impl Raft {
    /// Returns when this node has applied every write that was acknowledged, by any node, before this call; the value
    /// is the log index reached. A majority confirms the leader each time: no lease and no clock is trusted. On a
    /// follower the leader is asked.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let limit = self.inner.options.profile.answer_timeout();
        let deadline = tokio::time::Instant::now() + limit;
        let index = match tokio::time::timeout_at(deadline, self.read_index()).await {
            Ok(index) => index?,
            Err(_) => return Err(ReadError::NoQuorum),
        };
        let mut applied = self.applied();
        match tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(_)) => Ok(index),
            _ => Err(ReadError::Behind { index, applied: *self.applied().borrow() }),
        }
    }

    async fn read_index(&self) -> Result<u64, ReadError> {
        let leadership = *self.leadership().borrow();
        if !leadership.is_leader {
            let leader = leadership.leader.filter(|leader| *leader != self.node_id());
            return self.ask(leader.ok_or(ReadError::NoLeader)?).await;
        }
        match self.openraft().get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                match forward.leader_id {
                    Some(leader) if leader != self.node_id() => self.ask(leader).await,
                    _ => Err(ReadError::NoLeader),
                }
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(ReadError::Stopped { what: fatal.to_string() }),
        }
    }

    async fn ask(&self, leader: u64) -> Result<u64, ReadError> {
        let failed = |what: String| ReadError::LeaderUnreachable { leader, what };
        let channel = self.peer_channel(leader).map_err(|error| failed(error.to_string()))?;
        let mut request = Request::new(ReadIndexRequest {});
        request.set_timeout(self.inner.options.profile.answer_timeout());
        let answer = RaftClient::new(channel).read_index(request).await;
        answer.map(|answer| answer.into_inner().index).map_err(|status| failed(network::say(&status)))
    }
}
