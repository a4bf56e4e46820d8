//! Test scenery: one real node, and a second one played by hand, call by call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::Serialize;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status};

use super::Raft;
use crate::proto::raft::v1::Frame;
use crate::proto::raft::v1::raft_server::Raft as _;
use crate::raft::gate::{Me, Stamp};
use crate::raft::options::Options;
use crate::raft::service::Service;
use crate::raft::types::{Entry, LogId, NodeInfo, Proposal, Types, Vote};

/// Every wait for a fact ends here, and fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Node 1, and a hand-played node 2.
pub struct Stage {
    /// Node 1.
    pub raft: Raft,
    /// What it was opened with.
    pub options: Options,
    /// The listening end of its calls.
    pub service: Arc<Service>,
    stamp: Stamp,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Node 1, open and a member of nothing.
    pub async fn set(tune: impl FnOnce(&mut Options)) -> Stage {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut options = Options::new(1, "test", folder.path().join("node1"));
        options.free_bytes_min = 0;
        tune(&mut options);
        let raft = Raft::open(options.clone()).await.expect("open");
        let stamp = Stamp::new(Arc::new(two()), 1, raft.incarnation()).expect("plain");
        let service = Arc::new(Service::new(raft.inner.shared.clone()));
        Stage { raft, options, service, stamp, _folder: folder }
    }

    /// From now on calls are stamped so.
    pub fn claim(&mut self, caller: Me, callee: u64, incarnation: &str) {
        self.stamp = Stamp::new(Arc::new(caller), callee, incarnation).expect("plain");
    }

    /// Any message, stamped as a call of node 2.
    pub fn request<T: Serialize>(&self, message: &T) -> Request<Frame> {
        self.frame(rmp_serde::to_vec_named(message).expect("encode"))
    }

    /// Any bytes.
    pub fn frame(&self, body: Vec<u8>) -> Request<Frame> {
        self.stamped(Frame { body })
    }

    /// Anything at all.
    pub fn stamped<T>(&self, message: T) -> Request<T> {
        let stamped = self.stamp.clone().call(Request::new(())).expect("stamp");
        stamped.map(|()| message)
    }

    /// Node 2, as leader, sends one entry and says what is committed.
    pub fn append(
        &self,
        vote: Vote,
        prev_log_id: Option<LogId>,
        entry: Entry,
        leader_commit: Option<LogId>,
    ) -> impl Future<Output = Result<Response<Frame>, Status>> + Send + use<> {
        let rpc = AppendEntriesRequest::<Types> { vote, prev_log_id, entries: vec![entry], leader_commit };
        let (service, request) = (self.service.clone(), self.request(&rpc));
        async move { service.append(request).await }
    }

    /// Node 2 stands for election, with the leader's blessing: otherwise node 1 waits until its lease has ended.
    pub fn vote(
        &self,
        vote: Vote,
        last: LogId,
    ) -> impl Future<Output = Result<Response<Frame>, Status>> + Send + use<> {
        let mut rpc = VoteRequest::<Types>::new(vote, Some(last));
        rpc.leadership_transfer = true;
        let (service, request) = (self.service.clone(), self.request(&rpc));
        async move { service.vote(request).await }
    }

    /// Log entry 0 of term 1: a membership of nodes 1 and 2 with these sets of voters.
    pub fn first_entry(&self, voters: Vec<BTreeSet<u64>>) -> Entry {
        let mut two = NodeInfo { incarnation: "two".to_owned(), ..NodeInfo::default() };
        two.node_addr = "127.0.0.1:1".to_owned();
        let nodes = BTreeMap::from([(1, self.raft.own_info()), (2, two)]);
        let membership = openraft::Membership::new(voters, nodes).expect("membership");
        Entry::new(LogId::new_term_index(1, 0), EntryPayload::Membership(membership))
    }
}

/// Node 2, as node 1 knows it.
pub fn two() -> Me {
    Me {
        node_id: 2,
        group: "test".to_owned(),
        incarnation: "two".to_owned(),
        generation: 1.into(),
        tls: false,
    }
}

/// A command that only a much newer program understands.
pub fn unknown_entry(id: LogId) -> Entry {
    Entry::new(id, EntryPayload::Normal(Proposal::raw("77.7.7", b"from the future")))
}

/// Waits until `fact` holds; says `what` was waited for when it never does.
pub async fn eventually<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
