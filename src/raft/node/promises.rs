//! No vote and no append is answered before it would survive a power cut.
//!
//! The disk is replaced by one that can be held, and that copies the database at each completed sync: the copy is what
//! a power cut right after that sync would leave. A candidate and a leader are played by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status};

use super::Raft;
use crate::proto::raft::v1::Frame;
use crate::proto::raft::v1::raft_server::Raft as _;
use crate::raft::gate::{Me, Stamp};
use crate::raft::options::Options;
use crate::raft::service::Service;
use crate::raft::store::Store;
use crate::raft::store::sync::{DurableSync, Fdatasync};
use crate::raft::types::{Entry, LogId, NodeInfo, Proposal, Types, Vote};

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct HeldDisk {
    held: Mutex<bool>,
    released: Condvar,
    trace: Mutex<Vec<&'static str>>,
    survives: PathBuf,
}

impl HeldDisk {
    fn hold(&self, held: bool) {
        *self.held.lock().expect("held") = held;
        self.released.notify_all();
    }

    /// The database as it would be found after a power cut.
    fn after_power_cut(&self) -> Arc<Store> {
        let opened = Store::open(&self.survives, Arc::new(Fdatasync), Box::new(()));
        opened.expect("opens after a power cut").0
    }
}

impl DurableSync for HeldDisk {
    fn sync(&self, folder: &Path, file: &File) -> io::Result<()> {
        let held = self.held.lock().expect("held");
        drop(self.released.wait_while(held, |held| *held).expect("held"));
        file.sync_data()?;
        let _ = fs::remove_dir_all(&self.survives);
        fs::create_dir_all(&self.survives)?;
        for from in fs::read_dir(folder)?.map(|file| file.map(|file| file.path())) {
            let from = from?;
            if from.is_file() {
                fs::copy(&from, self.survives.join(from.file_name().unwrap_or_default()))?;
            }
        }
        self.trace.lock().expect("trace").push("sync");
        Ok(())
    }

    fn promised(&self, what: &'static str) {
        self.trace.lock().expect("trace").push(what);
    }
}

/// Node 1, and a hand-played node 2.
struct Stage {
    disk: Arc<HeldDisk>,
    raft: Raft,
    service: Arc<Service>,
    stamp: Stamp,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Stage {
        let folder = tempfile::tempdir().expect("tempdir");
        let disk = Arc::new(HeldDisk { survives: folder.path().join("survives"), ..HeldDisk::default() });
        let mut options = Options::new(1, "test", folder.path().join("node1"));
        options.sync = disk.clone();
        options.free_bytes_min = 0;
        let raft = Raft::open(options).await.expect("open");
        let other = Me {
            node_id: 2,
            group: "test".to_owned(),
            incarnation: "two".to_owned(),
            generation: 1.into(),
            tls: false,
        };
        let stamp = Stamp::new(Arc::new(other), 1, raft.incarnation()).expect("plain");
        let service = Arc::new(Service::new(raft.inner.shared.clone()));
        Stage { disk, raft, service, stamp, _folder: folder }
    }

    fn request<T: Serialize>(&self, message: &T) -> Request<Frame> {
        let body = rmp_serde::to_vec_named(message).expect("encode");
        let stamped = self.stamp.clone().call(Request::new(())).expect("stamp");
        stamped.map(|()| Frame { body })
    }

    /// Makes the call with the disk held; checks that nothing is answered until it is let go; returns the answer.
    async fn answered_only_when_durable<A: DeserializeOwned, F>(&self, call: F) -> A
    where
        F: Future<Output = Result<Response<Frame>, Status>> + Send + 'static,
    {
        let before = self.disk.trace.lock().expect("trace").len();
        self.disk.hold(true);
        let mut call = tokio::spawn(call);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut call).await;
        assert!(early.is_err(), "answered although nothing was synced: {early:?}");
        self.disk.hold(false);
        let answer =
            tokio::time::timeout(DEADLINE, call).await.expect("in time").expect("joined").expect("answered");

        let trace = self.disk.trace.lock().expect("trace")[before..].to_vec();
        let reply = trace.iter().position(|what| what.ends_with("reply")).expect("a reply was noted");
        assert!(trace[..reply].contains(&"sync"), "reply before sync: {trace:?}");
        rmp_serde::from_slice(&answer.into_inner().body).expect("decode")
    }

    async fn append(
        &self,
        vote: Vote,
        previous: Option<LogId>,
        entry: Entry,
    ) -> AppendEntriesResponse<Types> {
        let (prev_log_id, entries) = (previous, vec![entry]);
        let rpc = AppendEntriesRequest::<Types> { vote, prev_log_id, entries, leader_commit: None };
        let (service, request) = (self.service.clone(), self.request(&rpc));
        self.answered_only_when_durable(async move { service.append(request).await }).await
    }

    async fn vote(&self, vote: Vote, last: LogId) -> VoteResponse<Types> {
        let mut rpc = VoteRequest::<Types>::new(vote, Some(last));
        // With the leader's blessing: otherwise node 1 waits until its lease has ended.
        rpc.leadership_transfer = true;
        let (service, request) = (self.service.clone(), self.request(&rpc));
        self.answered_only_when_durable(async move { service.vote(request).await }).await
    }
}

fn first_entry(stage: &Stage) -> Entry {
    let two = NodeInfo {
        incarnation: "two".to_owned(),
        node_addr: "127.0.0.1:1".to_owned(),
        ..NodeInfo::default()
    };
    let nodes = BTreeMap::from([(1, stage.raft.own_info()), (2, two)]);
    let membership = openraft::Membership::new(vec![BTreeSet::from([1, 2])], nodes).expect("membership");
    Entry::new(LogId::new_term_index(1, 0), EntryPayload::Membership(membership))
}

fn next_entry(id: LogId) -> Entry {
    Entry::new(id, EntryPayload::Normal(Proposal::raw("0", b"never applied: nothing here is committed")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_append_and_vote_survives_a_power_cut() {
    let stage = Stage::set().await;
    let mut previous = LogId::new_term_index(1, 0);
    let answer = stage.append(Vote::new_committed(1, 2), None, first_entry(&stage)).await;
    assert_eq!(answer, AppendEntriesResponse::Success);

    for round in 1..=12 {
        let term = 1 + round;
        let answer = stage.vote(Vote::new(term, 2), LogId::new_term_index(term, 1_000)).await;
        assert!(answer.vote_granted, "{answer}");
        let vote = stage.disk.after_power_cut().vote().expect("vote");
        assert_eq!(vote, Some(Vote::new(term, 2)), "a granted vote is lost by a power cut");

        for _ in 0..3 {
            let id = LogId::new_term_index(term, previous.index() + 1);
            let answer = stage.append(Vote::new_committed(term, 2), Some(previous), next_entry(id)).await;
            assert_eq!(answer, AppendEntriesResponse::Success);
            let last = stage.disk.after_power_cut().last_log_id().expect("last");
            assert_eq!(last, Some(id), "an acknowledged entry is lost by a power cut");
            previous = id;
        }
    }
    stage.raft.shutdown().await;
}
