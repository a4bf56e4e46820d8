//! An entry that is too large for one value: a head where the entry would stand, and its parts right behind.
//!
//! The key of an entry is its index (8 bytes); those of its parts have 4 bytes more. So they lie between their head and
//! the next entry, and one batch writes all of them. A part without a head that counts it was left by an interrupted
//! removal: it means nothing, and is removed when the database is opened.

use std::io;

use serde::{Deserialize, Serialize};

use super::base::{Batch, Tree, damaged};
use super::{Store, record};

/// Bytes of one part, and of the largest entry that is stored whole.
const PART_BYTES: usize = record::CONTENT_BYTES_MAX;
/// First byte of a head's content. MessagePack never begins with it, so that it is no entry.
const HEAD: u8 = 0xc1;

/// What a head says.
#[derive(Serialize, Deserialize)]
struct Head {
    parts: u32,
    bytes: u64,
    crc: u32,
}

/// Adds what stands for the entry `content` at `index` to a batch.
pub fn insert(batch: &mut Batch, index: u64, content: &[u8]) -> io::Result<()> {
    let key = index.to_be_bytes();
    if content.len() <= PART_BYTES {
        batch.insert(&key, record::seal(&key, content)?);
        return Ok(());
    }
    let mut parts = 0;
    for part in content.chunks(PART_BYTES) {
        let key = part_key(index, parts);
        batch.insert(&key, record::seal(&key, part)?);
        parts += 1;
    }
    let head = Head { parts, bytes: content.len() as u64, crc: crc32fast::hash(content) };
    let mut said = vec![HEAD];
    said.extend(rmp_serde::to_vec_named(&head).map_err(io::Error::other)?);
    batch.insert(&key, record::seal(&key, &said)?);
    Ok(())
}

/// Whether this is the key of an entry, and not that of a part.
pub fn is_entry(key: &[u8]) -> bool {
    key.len() == size_of::<u64>()
}

/// The index that an entry or a part belongs to.
pub fn index_of(key: &[u8]) -> io::Result<u64> {
    let index =
        key.first_chunk().ok_or_else(|| damaged(format!("a key of {} bytes in the log", key.len())))?;
    Ok(u64::from_be_bytes(*index))
}

impl Store {
    /// The content of the entry under `key`, put together from its parts where it has some.
    pub(super) fn entry_content(&self, key: &[u8], value: &[u8]) -> io::Result<Vec<u8>> {
        let content = record::unseal(key, value)?;
        let Some(head) = head_of(key, content)? else { return Ok(content.to_vec()) };
        let index = index_of(key)?;
        let mut whole = Vec::new();
        for place in 0..head.parts {
            let key = part_key(index, place);
            let part = self.base.get(Tree::Log, &key)?;
            let part =
                part.ok_or_else(|| damaged(format!("part {place} of log index {index} is missing")))?;
            whole.extend_from_slice(record::unseal(&key, &part)?);
        }
        if whole.len() as u64 != head.bytes || crc32fast::hash(&whole) != head.crc {
            return Err(damaged(format!("the parts of log index {index} do not belong together")));
        }
        Ok(whole)
    }

    /// Removes parts that no head counts.
    pub(super) fn drop_stray_parts(&self) -> io::Result<()> {
        let mut counted = None;
        for pair in self.base.all(Tree::Log) {
            let (key, value) = pair?;
            let index = index_of(&key)?;
            if is_entry(&key) {
                counted = head_of(&key, record::unseal(&key, &value)?)?.map(|head| (index, head.parts));
                continue;
            }
            let ours = |(of, parts): (u64, u32)| of == index && *key < part_key(index, parts)[..];
            if !counted.is_some_and(ours) {
                self.base.remove(Tree::Log, &key)?;
            }
        }
        Ok(())
    }
}

fn head_of(key: &[u8], content: &[u8]) -> io::Result<Option<Head>> {
    let Some((&HEAD, said)) = content.split_first() else { return Ok(None) };
    let head = rmp_serde::from_slice(said);
    head.map(Some)
        .map_err(|error| damaged(format!("the head of log key {key:02x?} cannot be decoded ({error})")))
}

fn part_key(index: u64, place: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&place.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

    use super::*;
    use crate::raft::store::log::LogStore;
    use crate::raft::store::sync::Fdatasync;
    use crate::raft::types::{Entry, LogId, Proposal};

    fn open(folder: &std::path::Path) -> Arc<Store> {
        Store::open(folder, Arc::new(Fdatasync), Box::new(())).expect("open").0
    }

    fn entry(index: u64, bytes: usize) -> Entry {
        let content: Vec<u8> = (0..bytes).map(|at| (at as u64 * 31 + index) as u8).collect();
        Entry::new(LogId::new_term_index(1, index), EntryPayload::Normal(Proposal::raw("0", &content)))
    }

    const SIZES: [usize; 6] = [10, PART_BYTES - 100, PART_BYTES, 200_000, 1_000_000, 10];

    async fn filled(folder: &std::path::Path) -> (Arc<Store>, LogStore) {
        Store::create(folder).expect("create");
        let store = open(folder);
        let mut log = LogStore::new(store.clone()).expect("log");
        let entries = SIZES.iter().zip(0..).map(|(bytes, index)| entry(index, *bytes));
        log.blocking_append(entries).await.expect("append");
        (store, log)
    }

    fn indexes(store: &Store) -> Vec<u64> {
        store.entries(.., usize::MAX).expect("entries").iter().map(Entry::index).collect()
    }

    #[tokio::test]
    async fn entries_of_any_size_are_read_cut_and_purged() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (store, mut log) = filled(folder.path()).await;
        for (bytes, index) in SIZES.iter().zip(0..) {
            let read = store.entries(index..=index, usize::MAX).expect("read");
            assert!(read == [entry(index, *bytes)], "index {index} is what was written");
        }
        log.truncate_after(Some(LogId::new_term_index(1, 3))).await.expect("truncate");
        assert_eq!(store.last_log_id().expect("last").map(|id| id.index()), Some(3));
        log.blocking_append([entry(4, 100)]).await.expect("append where a large one was");
        log.purge(LogId::new_term_index(1, 2)).await.expect("purge");
        assert_eq!(indexes(&store), [3, 4]);
        let keys = store.base.all(Tree::Log).map(|pair| pair.expect("pair").0);
        let parts = keys.filter(|key| !is_entry(key)).count();
        // The entry is a little larger than its command.
        assert_eq!(parts, 200_100_usize.div_ceil(PART_BYTES), "only those of index 3 are left");
    }

    #[tokio::test]
    async fn stray_parts_are_removed_and_missing_ones_are_damage() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (store, log) = filled(folder.path()).await;
        // As an interrupted cut leaves it: the heads went first.
        for index in [4_u64, 5] {
            store.base.remove(Tree::Log, &index.to_be_bytes()).expect("remove");
        }
        store.flusher().lower_mark(Some((1, 3))).await.expect("mark");
        assert_eq!(store.last_log_id().expect("last").map(|id| id.index()), Some(3));
        drop((store, log));
        let store = open(folder.path());
        assert_eq!(indexes(&store), [0, 1, 2, 3]);
        assert!(store.base.get(Tree::Log, &part_key(4, 0)).expect("get").is_none(), "removed");

        store.base.remove(Tree::Log, &part_key(3, 1)).expect("remove");
        store.flusher().all().await.expect("flush");
        drop(store);
        let error = Store::open(folder.path(), Arc::new(Fdatasync), Box::new(())).err().expect("damaged");
        assert!(format!("{error:?}").contains("part 1 of log index 3 is missing"), "{error:?}");
    }
}
