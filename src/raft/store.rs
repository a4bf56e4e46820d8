//! What a node must not forget, on sled: log, vote, committed, snapshots. The only user of sled.
//!
//! Three trees: `log` (index, big endian -> entry), `meta` (vote, committed, purged, generation) and `snap` (one head
//! and the chunks of one snapshot). What is flushed when: `docs/adr/0002`.

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod crash;
pub mod dir;
pub mod log;
pub mod mark;
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
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::mark::MarkFile;
use self::sync::{DurableSync, Flusher};
use super::types::{LogId, Vote};
use crate::mistake::{Mistake, planted};

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const GENERATION: &[u8] = b"generation";

/// Bytes of pages that sled may keep in memory.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// The open database of one node. Shared by the log, its readers and the state machine; closed when the last goes.
pub struct Store {
    // Joined before the trees go: fields drop in this order.
    flusher: Flusher,
    log: sled::Tree,
    meta: sled::Tree,
    snap: sled::Tree,
    db: sled::Db,
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

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
            _ => StoreError::Io(error),
        }
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => StoreError::Io(error),
            sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => {
                StoreError::Corrupt(error.to_string())
            }
            other => StoreError::Io(other.into()),
        }
    }
}

impl Store {
    /// Makes an empty database in `folder`, which exists and is empty. Everything is durable on return.
    pub fn create(folder: &Path) -> Result<(), StoreError> {
        MarkFile::create(folder)?;
        let db = open_sled(folder)?;
        for tree in ["log", "meta", "snap"] {
            db.open_tree(tree)?;
        }
        db.flush()?;
        drop(db);
        for file in std::fs::read_dir(folder)? {
            std::fs::File::open(file?.path())?.sync_all()?;
        }
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// Opens and checks everything in it. `guard` lives as long as the database is open; the receiver ends with it.
    pub fn open(
        folder: &Path,
        disk: Arc<dyn DurableSync>,
        guard: Box<dyn Send + Sync>,
    ) -> Result<(Arc<Self>, oneshot::Receiver<()>), StoreError> {
        if !folder.join("db").is_file() {
            return Err(StoreError::Corrupt(format!("{} is missing", folder.join("db").display())));
        }
        let mark = MarkFile::open(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Corrupt("its high-water mark is missing".to_owned()),
            _ => error.into(),
        })?;
        let db = open_sled(folder)?;
        if !db.was_recovered() {
            return Err(StoreError::Corrupt(
                "the database is empty, though this directory was in use".to_owned(),
            ));
        }
        let open_trees = || Ok((db.open_tree("log")?, db.open_tree("meta")?, db.open_tree("snap")?));
        let (log, meta, snap) = no_panic(open_trees)?;
        let (closed, ended) = oneshot::channel();
        let seen = mark.get();
        let flusher = Flusher::start(folder, db.clone(), mark, disk)?;
        let folder = folder.to_owned();
        let store = Store {
            flusher,
            log,
            meta,
            snap,
            db,
            folder,
            saving: Default::default(),
            _guard: guard,
            _closed: closed,
        };
        no_panic(|| verify::verify(&store, seen))?;
        Ok((Arc::new(store), ended))
    }

    /// The newest vote this node gave.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        self.read_meta(VOTE)
    }

    /// Remembers the vote; durable on return.
    pub async fn save_vote(&self, vote: &Vote) -> io::Result<()> {
        self.meta.insert(VOTE, record::encode(VOTE, vote)?)?;
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
        self.meta.insert(GENERATION, record::encode(GENERATION, &generation)?)?;
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
        Ok(self.db.size_on_disk()?)
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn read_meta<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> io::Result<Option<T>> {
        self.meta.get(key)?.map(|value| record::decode(key, &value)).transpose()
    }
}

/// How long sled's lock may outlive its holder.
const LOCK_LINGERS: Duration = Duration::from_secs(2);

fn open_sled(folder: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .segment_size(512 * 1024)
        .cache_capacity(CACHE_BYTES)
        // Only drives sled's own housekeeping: what must be durable is synced by the flusher.
        .flush_every_ms(Some(1000));
    let began = Instant::now();
    loop {
        match no_panic(|| Ok(config.open()?)) {
            Err(StoreError::Io(error)) if is_locked(&error) && began.elapsed() < LOCK_LINGERS => {
                std::thread::sleep(LOCK_LINGERS / 100);
            }
            opened => return opened,
        }
    }
}

/// Another node in this directory was refused before, by the directory's own lock. sled's is also held for a moment by a
/// child process that was forked while it was open and has not begun its own program yet.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// sled panics on some damage, when it opens or when it reads; that is an answer like any other here.
fn no_panic<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(StoreError::Corrupt(format!("the database cannot be read: {said}")))
    })
}
