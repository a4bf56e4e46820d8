//! No vote and no append is answered before it would survive a power cut.
//!
//! The disk is replaced by one that can be held, and that copies the database at each completed sync: the copy is what
//! a power cut right after that sync would leave. A candidate and a leader are played by hand.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use openraft::raft::{AppendEntriesResponse, VoteResponse};
use serde::de::DeserializeOwned;
use tonic::{Response, Status};

use super::stage::{self, DEADLINE, Stage};
use crate::proto::raft::v1::Frame;
use crate::raft::store::Store;
use crate::raft::store::sync::{DurableSync, Fdatasync};
use crate::raft::types::{LogId, Types, Vote};

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

/// Makes the call with the disk held; checks that nothing is answered until it is let go; returns the answer.
async fn answered_only_when_durable<A: DeserializeOwned, F>(disk: &HeldDisk, call: F) -> A
where
    F: Future<Output = Result<Response<Frame>, Status>> + Send + 'static,
{
    let before = disk.trace.lock().expect("trace").len();
    disk.hold(true);
    let mut call = tokio::spawn(call);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut call).await;
    assert!(early.is_err(), "answered although nothing was synced: {early:?}");
    disk.hold(false);
    let answer =
        tokio::time::timeout(DEADLINE, call).await.expect("in time").expect("joined").expect("answered");

    let trace = disk.trace.lock().expect("trace")[before..].to_vec();
    let reply = trace.iter().position(|what| what.ends_with("reply")).expect("a reply was noted");
    assert!(trace[..reply].contains(&"sync"), "reply before sync: {trace:?}");
    rmp_serde::from_slice(&answer.into_inner().body).expect("decode")
}

/// A killed process leaves entries and votes that the kernel has and the disk has not. Whoever opens them relies on them
/// without writing them again. Found by the simulation (tier B, seed 51).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_on_opening_is_durable_before_anybody_relies_on_it() {
    let folder = tempfile::tempdir().expect("tempdir");
    let disk = Arc::new(HeldDisk { survives: folder.path().join("survives"), ..HeldDisk::default() });
    let held = disk.clone();
    let stage = Stage::set(move |options| options.sync = held).await;
    assert_eq!(disk.trace.lock().expect("trace").first(), Some(&"sync"));
    assert_eq!(disk.after_power_cut().last_log_id().expect("last"), None);
    stage.raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_append_and_vote_survives_a_power_cut() {
    let folder = tempfile::tempdir().expect("tempdir");
    let disk = Arc::new(HeldDisk { survives: folder.path().join("survives"), ..HeldDisk::default() });
    let held = disk.clone();
    let stage = Stage::set(move |options| options.sync = held).await;
    let append = |vote, previous, entry| {
        answered_only_when_durable::<AppendEntriesResponse<Types>, _>(
            &disk,
            stage.append(vote, previous, entry, None),
        )
    };
    let mut previous = LogId::new_term_index(1, 0);
    let answer =
        append(Vote::new_committed(1, 2), None, stage.first_entry(vec![BTreeSet::from([1, 2])])).await;
    assert_eq!(answer, AppendEntriesResponse::Success);

    for round in 1..=12 {
        let term = 1 + round;
        let asked = stage.vote(Vote::new(term, 2), LogId::new_term_index(term, 1_000));
        let answer: VoteResponse<Types> = answered_only_when_durable(&disk, asked).await;
        assert!(answer.vote_granted, "{answer}");
        let vote = disk.after_power_cut().vote().expect("vote");
        assert_eq!(vote, Some(Vote::new(term, 2)), "a granted vote is lost by a power cut");

        for _ in 0..3 {
            let id = LogId::new_term_index(term, previous.index() + 1);
            let answer = append(Vote::new_committed(term, 2), Some(previous), stage::unknown_entry(id)).await;
            assert_eq!(answer, AppendEntriesResponse::Success);
            let last = disk.after_power_cut().last_log_id().expect("last");
            assert_eq!(last, Some(id), "an acknowledged entry is lost by a power cut");
            previous = id;
        }
    }
    stage.raft.shutdown().await;
}
