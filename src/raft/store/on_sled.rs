//! sled, and the thread that syncs it. The only user of sled.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::base::{Base, Batch, Found, Pairs, Slots, Tree, damaged};
use super::sync::{DurableSync, Job, Queue, Worker};
use super::{StoreError, mark, no_panic};

/// Bytes of pages that sled may keep in memory.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How long sled's lock may outlive its holder.
const LOCK_LINGERS: Duration = Duration::from_secs(2);

/// Name of the mark's file.
const MARK: &str = "mark";

/// An open database.
struct OnSled {
    log: sled::Tree,
    meta: sled::Tree,
    snap: sled::Tree,
    db: sled::Db,
    folder: PathBuf,
    /// sled's file, once more: sled hands its buffers to the kernel but does not flush the disk's cache.
    file: File,
    disk: Arc<dyn DurableSync>,
}

/// Makes an empty database in `folder`, which exists and is empty. Everything is durable on return.
pub fn create(folder: &Path) -> Result<(), StoreError> {
    let mark = OpenOptions::new().write(true).create_new(true).open(folder.join(MARK))?;
    mark.write_all_at(&mark::blank(), 0)?;
    let db = open_sled(folder)?;
    for tree in Tree::ALL {
        db.open_tree(tree.name()).map_err(said)?;
    }
    db.flush().map_err(said)?;
    drop((db, mark));
    for file in std::fs::read_dir(folder)? {
        File::open(file?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Opens what [`create`] made. `guard` lives as long as the database is open.
pub fn find(
    folder: &Path,
    disk: Arc<dyn DurableSync>,
    guard: Box<dyn Send + Sync>,
) -> Result<Found, StoreError> {
    if !folder.join("db").is_file() {
        return Err(StoreError::Corrupt(format!("{} is missing", folder.join("db").display())));
    }
    let mark = OpenOptions::new().read(true).write(true).open(folder.join(MARK));
    let mark = mark.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Corrupt("its high-water mark is missing".to_owned()),
        _ => error.into(),
    })?;
    let db = open_sled(folder)?;
    if !db.was_recovered() {
        return Err(StoreError::Corrupt(
            "the database is empty, though this directory was in use".to_owned(),
        ));
    }
    let open = |tree: Tree| db.open_tree(tree.name()).map_err(said);
    let (log, meta, snap) = no_panic(|| Ok((open(Tree::Log)?, open(Tree::Meta)?, open(Tree::Snap)?)))?;
    let file = File::open(folder.join("db"))?;
    let folder = folder.to_owned();
    Ok(Found {
        base: Arc::new(OnSled { log, meta, snap, db, folder: folder.clone(), file, disk }),
        mark: Box::new(mark),
        queue: Box::new(|worker| Ok(Box::new(Thread::start(worker)?))),
        folder,
        guard,
    })
}

impl OnSled {
    fn tree(&self, tree: Tree) -> &sled::Tree {
        match tree {
            Tree::Log => &self.log,
            Tree::Meta => &self.meta,
            Tree::Snap => &self.snap,
        }
    }
}

impl Base for OnSled {
    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.tree(tree).get(key).map_err(said)?.map(|value| value.to_vec()))
    }

    fn write(&self, tree: Tree, batch: Batch) -> io::Result<()> {
        let mut changes = batch.changes();
        // A single value needs no batch, and no recovery of one.
        if let [(key, value)] = &mut changes[..] {
            return match value.take() {
                Some(value) => self.tree(tree).insert(key, value),
                None => self.tree(tree).remove(key),
            }
            .map(drop)
            .map_err(said);
        }
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.tree(tree).apply_batch(batch).map_err(said)
    }

    fn range(&self, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Pairs<'_> {
        let pairs = self.tree(tree).range::<Vec<u8>, _>((from, to));
        Box::new(pairs.map(|pair| {
            let (key, value) = pair.map_err(said)?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(said)?;
        self.disk.sync(&self.folder, &self.file)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.db.size_on_disk().map_err(said)
    }

    fn promised(&self, what: &'static str) {
        self.disk.promised(what);
    }
}

impl Slots for File {
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; mark::BYTES];
        self.read_exact_at(&mut bytes, 0).map_err(|error| damaged(error.to_string()))?;
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        self.write_all_at(bytes, place)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Waiters that may queue up; whoever comes later waits for its place.
const QUEUE_MAX: usize = 4096;

/// One thread that takes all that wait and works them off together: the busier the log, the more writers share a sync.
/// Dropping it completes what waits and joins the thread.
struct Thread {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Thread {
    fn start(worker: Worker) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let thread =
            std::thread::Builder::new().name("quorate-fsync".to_owned()).spawn(move || run(worker, &jobs))?;
        Ok(Thread { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }
}

fn run(mut worker: Worker, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while batch.len() < QUEUE_MAX
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        worker.work(batch);
    }
}

impl Queue for Thread {
    fn push(&self, job: Job) -> Result<(), Job> {
        // Held only to clone: a full queue must not block the others on this lock.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match queue {
            Some(queue) => queue.send(job).map_err(|error| error.0),
            None => Err(job),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panicked thread has nothing more to tell.
            let _ = thread.join();
        }
    }
}

fn open_sled(folder: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .segment_size(512 * 1024)
        .cache_capacity(CACHE_BYTES)
        // Only drives sled's own housekeeping: what must be durable is synced by the flusher.
        .flush_every_ms(Some(1000));
    let began = Instant::now();
    loop {
        match no_panic(|| Ok(config.open().map_err(said)?)) {
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

fn said(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => damaged(error.to_string()),
        other => other.into(),
    }
}
