//! sled writes a page that is too large for its segments into a file of its own, which it never syncs
//! (docs/adr/0002). No value and no row of values stored here may bring it to do so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use super::Store;
use super::log::LogStore;
use super::sync::Fdatasync;
use crate::raft::types::{Entry, LogId, NodeInfo, Proposal, SnapshotMeta, StoredMembership};

fn open(folder: &Path) -> Arc<Store> {
    Store::open(folder, Arc::new(Fdatasync), Box::new(())).expect("open").0
}

fn blobs(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("blobs")).map_or(0, Iterator::count)
}

fn entry(index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Proposal::raw("0", &vec![index as u8; bytes]));
    Entry::new(LogId::new_term_index(1, index), payload)
}

/// Rows of entries of one size, from tiny to the largest, one by one and in batches, with cuts between.
#[tokio::test]
async fn no_log_goes_there() {
    for bytes in [100, 2_000, 3_900, 4_100, 8_000, 30_000, 60_000, 300_000, 1_000_000] {
        let folder = tempfile::tempdir().expect("tempdir");
        Store::create(folder.path()).expect("create");
        let store = open(folder.path());
        let mut log = LogStore::new(store.clone()).expect("log");
        let rows = if bytes > 100_000 { 4 } else { 60 };
        for index in 0..rows {
            log.blocking_append([entry(index, bytes)]).await.expect("append");
        }
        log.blocking_append((rows..rows * 2).map(|index| entry(index, bytes))).await.expect("append");
        log.truncate_after(Some(LogId::new_term_index(1, rows))).await.expect("truncate");
        log.blocking_append((rows + 1..rows * 2).map(|index| entry(index, bytes))).await.expect("append");
        assert_eq!(blobs(folder.path()), 0, "entries of {bytes} bytes");
        drop((store, log));
        drop(open(folder.path()));
        assert_eq!(blobs(folder.path()), 0, "entries of {bytes} bytes, opened again");
    }
}

#[tokio::test]
async fn no_snapshot_goes_there() {
    let folder = tempfile::tempdir().expect("tempdir");
    Store::create(folder.path()).expect("create");
    let store = open(folder.path());
    for index in 1..5 {
        let last_log_id = Some(LogId::new_term_index(1, index));
        // As large as a membership may make its head.
        let info = NodeInfo { node_addr: "x".repeat(1_000), ..NodeInfo::default() };
        let voters = vec![(1..=20).collect()];
        let nodes = (1..=20).map(|id| (id, info.clone())).collect::<BTreeMap<u64, NodeInfo>>();
        let membership = openraft::Membership::new(voters, nodes).expect("membership");
        let last_membership = StoredMembership::new(last_log_id, membership);
        let meta = SnapshotMeta { last_log_id, last_membership };
        store.save_snapshot(&meta, &Bytes::from(vec![index as u8; 2_000_000])).await.expect("snapshot");
        assert_eq!(blobs(folder.path()), 0, "snapshot {index}");
    }
    drop(store);
    drop(open(folder.path()));
    assert_eq!(blobs(folder.path()), 0, "opened again");
}
