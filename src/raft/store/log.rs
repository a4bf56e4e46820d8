//! The log: openraft's storage trait and its readers.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::base::{Batch, Tree};
use super::mark::Mark;
use super::{COMMITTED, PURGED, Store, parts, record};
use crate::raft::types::{Entry, LogId, Types, Vote};

/// One message to a follower carries at most about so many bytes of entries.
const REPLICATION_BYTES: usize = 1024 * 1024;

/// Entries removed in one write.
const REMOVE_BATCH: usize = 1000;

/// The writing end; openraft holds the only one.
pub struct LogStore {
    store: Arc<Store>,
    /// Index that the next entry must have, if any is stored or purged.
    next: Option<u64>,
}

/// A reading end; one for each replication, and one for `apply`.
#[derive(Clone)]
pub struct LogReader {
    store: Arc<Store>,
}

impl LogStore {
    /// The log of an open store.
    pub fn new(store: Arc<Store>) -> io::Result<Self> {
        let next = store.last_log_id()?.map(|id| id.index() + 1);
        Ok(LogStore { store, next })
    }
}

impl Store {
    /// Log id of the last entry, or what was purged when none is stored.
    pub fn last_log_id(&self) -> io::Result<Option<LogId>> {
        let purged = self.purged()?;
        let mut newest_first = self.base.all(Tree::Log).rev();
        let newest = newest_first.find(|pair| pair.as_ref().map_or(true, |(key, _)| parts::is_entry(key)));
        let last = newest.transpose()?.map(|(key, value)| self.decode_entry(&key, &value)).transpose()?;
        Ok(last.map(|entry| entry.log_id()).max(purged))
    }

    /// Entries of the range, in order, from the first stored one on. A hole or damage is an error.
    pub fn entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let key = |bound: Bound<&u64>| match bound {
            Bound::Included(index) => Bound::Included(index.to_be_bytes().to_vec()),
            Bound::Excluded(index) => Bound::Excluded(index.to_be_bytes().to_vec()),
            Bound::Unbounded => Bound::Unbounded,
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for pair in self.base.range(Tree::Log, key(range.start_bound()), key(range.end_bound())) {
            let (key, value) = pair?;
            if !parts::is_entry(&key) {
                continue;
            }
            let content = self.entry_content(&key, &value)?;
            let entry = decode(&key, &content)?;
            if let Some(before) = entries.last()
                && before.index() + 1 != entry.index()
            {
                return Err(hole(before.index() + 1, entry.index()));
            }
            bytes += content.len();
            entries.push(entry);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    /// The entry stored under `key`, whose index must be the one it was stored for.
    pub(super) fn decode_entry(&self, key: &[u8], value: &[u8]) -> io::Result<Entry> {
        decode(key, &self.entry_content(key, value)?)
    }

    /// Remembers that the log begins after `upto`; durable on return.
    pub async fn save_purged(&self, upto: LogId) -> io::Result<()> {
        self.base.insert(Tree::Meta, PURGED, record::encode(PURGED, &upto)?)?;
        self.flusher.all().await
    }

    async fn remove_log(&self, indexes: impl RangeBounds<u64>, backward: bool) -> io::Result<()> {
        let (Bound::Included(start) | Bound::Excluded(start)) = indexes.start_bound().cloned() else {
            return Err(io::Error::other("a removal has a beginning"));
        };
        // Up to the next entry's key, so that the parts of the last one are among them.
        let end = match indexes.end_bound() {
            Bound::Included(end) => end.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_be_bytes().to_vec()));
        let pairs = self.base.range(Tree::Log, Bound::Included(start.to_be_bytes().to_vec()), end);
        let mut keys = pairs.map(|pair| pair.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
        if backward {
            // From the end, but each entry before its parts: one without them would be damage.
            keys.sort_by(|a, b| b[..8].cmp(&a[..8]).then(a.len().cmp(&b.len())));
        }
        for chunk in keys.chunks(REMOVE_BATCH) {
            let mut batch = Batch::default();
            for key in chunk {
                batch.remove(key);
            }
            self.base.write(Tree::Log, batch)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState { last_purged_log_id: self.store.purged()?, last_log_id: self.store.last_log_id()? })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { store: self.store.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.store.save_vote(vote).await
    }

    /// Not synced: a lost value costs the re-application of some entries, nothing else.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.store.base.insert(Tree::Meta, COMMITTED, record::encode(COMMITTED, &committed)?)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed: Option<Option<LogId>> = self.store.read_meta(COMMITTED)?;
        Ok(committed.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut batch = Batch::default();
        let mut last = None;
        for entry in entries {
            let id = entry.log_id();
            if self.next.is_some_and(|next| next != id.index()) {
                return Err(hole(self.next.unwrap_or_default(), id.index()));
            }
            let content = rmp_serde::to_vec_named(&entry).map_err(io::Error::other)?;
            parts::insert(&mut batch, id.index(), &content)?;
            self.next = Some(id.index() + 1);
            last = Some(id);
        }
        self.store.base.write(Tree::Log, batch)?;
        self.store.flusher.append(last, callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index() + 1);
        if self.next.is_none_or(|next| from >= next) {
            return Ok(());
        }
        self.store.flusher.lower_mark(last.as_ref().map(Mark::of_log)).await?;
        self.store.remove_log(from.., true).await?;
        self.next = self.store.last_log_id()?.map(|id| id.index() + 1);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        // Marker and entries are in different trees: only the sync between keeps their order on the disk.
        self.store.save_purged(upto).await?;
        self.store.remove_log(0..=upto.index(), false).await?;
        self.next = self.next.max(Some(upto.index() + 1));
        Ok(())
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.store.entries(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.store.vote()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.store.entries(start..end, REPLICATION_BYTES)
    }
}

fn decode(key: &[u8], content: &[u8]) -> io::Result<Entry> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let index = parts::index_of(key)?;
    let entry: Entry = rmp_serde::from_slice(content)
        .map_err(|error| damaged(format!("the entry of log index {index} cannot be decoded ({error})")))?;
    if entry.index() != index {
        return Err(damaged(format!(
            "the entry under log index {index} says it has index {}",
            entry.index()
        )));
    }
    Ok(entry)
}

fn hole(expected: u64, found: u64) -> io::Error {
    let what = format!("a hole in the log: index {expected} was expected, {found} came");
    io::Error::new(io::ErrorKind::InvalidData, what)
}
