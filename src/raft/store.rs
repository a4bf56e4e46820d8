//! What a node must not forget: log, vote, committed, snapshots.
//!
//! Three trees (`base::Tree`) on sled (`on_sled`, the only user of sled). What is flushed when: `docs/adr/0002`.

pub mod base;
#[cfg(test)]
mod blobs;
#[cfg(test)]
mod crash;
pub mod dir;
pub mod log;
pub mod mark;
pub mod on_sled;
mod parts;
pub mod record;
pub mod snapshot;
#[cfg(test)]
mod suite;
pub mod sync;
mod verify;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use self::base::{Base, Found, Tree};
use self::mark::MarkFile;
use self::sync::{DurableSync, Flusher};
use super::types::{LogId, Vote};
use crate::mistake::{Mistake, planted};

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const GENERATION: &[u8] = b"generation";

/// The open database of one node. Shared by the log, its readers and the state machine; closed when the last goes.
pub struct Store {
    // Ends before the database goes: fields drop in this order.
    flusher: Flusher,
    base: Arc<dyn Base>,
    folder: PathBuf,
    saving: tokio::sync::Mutex<()>,
    // Whatever guards the directory (its lock), and who waits for the end.
    _guard: Box<dyn Send + Sync>,
    _closed: oneshot::Sender<()>,
}

/// Why a database was not opened.
#[derive(Debug)]
pub enum StoreError {
    /// What is read is not what was written.
    Corrupt(String),
    /// The system's words.
    Io(io::Error),
}

impl Store {
    /// Makes an empty database in `folder`, which exists and is empty. Everything is durable on return.
    pub fn create(folder: &Path) -> Result<(), StoreError> {
        on_sled::create(folder)
    }

    /// Opens the one in `folder` and checks everything in it. `guard` lives as long as it is open; the receiver ends
    /// with it.
    pub fn open(
        folder: &Path,
        disk: Arc<dyn DurableSync>,
        guard: Box<dyn Send + Sync>,
    ) -> Result<(Arc<Self>, oneshot::Receiver<()>), StoreError> {
        Store::over(on_sled::find(folder, disk, guard)?)
    }

    /// As [`Store::open`], over any base.
    pub fn over(found: Found) -> Result<(Arc<Self>, oneshot::Receiver<()>), StoreError> {
        let Found { folder, base, mark, queue, guard } = found;
        let mark = MarkFile::open(mark)?;
        let (closed, ended) = oneshot::channel();
        let seen = mark.get();
        let flusher = Flusher::start(&folder, base.clone(), mark, queue)?;
        let store =
            Store { flusher, base, folder, saving: Default::default(), _guard: guard, _closed: closed };
        no_panic(|| verify::verify(&store, seen))?;
        // What a killed process had written and not synced is read here like all else, and will be relied on without
        // being written again: an acknowledged entry, a vote.
        store.base.sync()?;
        Ok((Arc::new(store), ended))
    }

    /// The newest vote this node gave.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        self.read_meta(VOTE)
    }

    /// Remembers the vote; durable on return.
    pub async fn save_vote(&self, vote: &Vote) -> io::Result<()> {
        self.base.insert(Tree::Meta, VOTE, record::encode(VOTE, vote)?)?;
        if planted(Mistake::VoteNotFlushed) {
            return Ok(());
        }
        self.flusher.vote(*vote).await
    }

    /// Which rebuild of the group this directory belongs to; 0 before it belongs to any.
    pub fn generation(&self) -> io::Result<u64> {
        Ok(self.read_meta(GENERATION)?.unwrap_or(0))
    }

    /// Remembers the generation; durable on return.
    pub async fn save_generation(&self, generation: u64) -> io::Result<()> {
        self.base.insert(Tree::Meta, GENERATION, record::encode(GENERATION, &generation)?)?;
        self.flusher.all().await
    }

    /// Newest log id removed from the log's beginning.
    pub fn purged(&self) -> io::Result<Option<LogId>> {
        self.read_meta(PURGED)
    }

    /// The syncing thread, for those who must wait for it and for its figures.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Bytes the database takes on disk.
    pub fn bytes_on_disk(&self) -> io::Result<u64> {
        self.base.bytes()
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn read_meta<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> io::Result<Option<T>> {
        self.base.get(Tree::Meta, key)?.map(|value| record::decode(key, &value)).transpose()
    }
}

/// sled panics on some damage, when it opens or when it reads; that is an answer like any other here.
fn no_panic<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(StoreError::Corrupt(format!("the database cannot be read: {said}")))
    })
}
