//! The only thread that makes written bytes durable, and tells those who wait for it.
//!
//! sled's own `flush` hands its buffers to the kernel but does not flush the disk's cache. So one thread takes all
//! that wait, flushes sled, syncs sled's file through a descriptor of its own, and then completes every one of them:
//! the busier the log, the more writers share one sync. After a failed sync nothing is durable for certain any more
//! (the kernel drops the dirty pages), so every later wait fails too.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::mark::{Mark, MarkFile};
use crate::raft::types::{LogId, Types, Vote};

/// Waiters that may queue up; whoever comes later waits for its place.
const QUEUE_MAX: usize = 4096;

/// How written bytes become durable, and who has been told so: the seam for tests that need to see or hold a sync.
pub trait DurableSync: Send + Sync {
    /// Returns when everything written to `file`, sled's file in `folder`, is on the disk.
    fn sync(&self, folder: &Path, file: &File) -> io::Result<()>;

    /// A promise that relied on a sync has been given: `vote`, `append`, or a reply to a peer.
    fn promised(&self, _what: &'static str) {}
}

/// The real one.
pub struct Fdatasync;

impl DurableSync for Fdatasync {
    fn sync(&self, _folder: &Path, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// How many syncs, and how long they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Syncs since start.
    pub count: u64,
    /// The last one, in microseconds.
    pub last_us: u64,
    /// The slowest one since start, in microseconds.
    pub max_us: u64,
}

#[derive(Default)]
struct Counters {
    count: AtomicU64,
    last_us: AtomicU64,
    max_us: AtomicU64,
}

enum Job {
    Append {
        last: Option<LogId>,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Plain {
        done: oneshot::Sender<io::Result<()>>,
    },
    /// The log is about to end at `last`: the mark must say so, durably, before it does.
    Lower {
        last: Option<(u64, u64)>,
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// Handle of the thread. Dropping it completes what waits and joins the thread.
pub struct Flusher {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl Flusher {
    /// Starts the thread for the sled database in `folder`.
    pub fn start(
        folder: &Path,
        db: sled::Db,
        mark: MarkFile,
        disk: Arc<dyn DurableSync>,
    ) -> io::Result<Self> {
        let file = File::open(folder.join("db"))?;
        let counters = Arc::new(Counters::default());
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let worker = Worker {
            folder: folder.to_owned(),
            file,
            db,
            mark,
            disk,
            counters: counters.clone(),
            failed: None,
        };
        let thread =
            std::thread::Builder::new().name("quorate-fsync".to_owned()).spawn(move || worker.run(&jobs))?;
        Ok(Flusher { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), counters })
    }

    /// Completes `done` when everything written so far, up to log id `last`, is durable.
    pub fn append(&self, last: Option<LogId>, done: IOFlushed<Types>) {
        if let Err(Job::Append { done, .. }) = self.push(Job::Append { last, done }) {
            done.io_completed(Err(stopped()));
        }
    }

    /// Returns when everything written so far, `vote` included, is durable.
    pub async fn vote(&self, vote: Vote) -> io::Result<()> {
        self.wait(|done| Job::Vote { vote, done }).await
    }

    /// Returns when everything written so far is durable.
    pub async fn all(&self) -> io::Result<()> {
        self.wait(|done| Job::Plain { done }).await
    }

    /// Returns when the mark durably says that the log ends at `last`.
    pub async fn lower_mark(&self, last: Option<(u64, u64)>) -> io::Result<()> {
        self.wait(|done| Job::Lower { last, done }).await
    }

    /// Figures for metrics.
    pub fn stats(&self) -> SyncStats {
        SyncStats {
            count: self.counters.count.load(Ordering::Relaxed),
            last_us: self.counters.last_us.load(Ordering::Relaxed),
            max_us: self.counters.max_us.load(Ordering::Relaxed),
        }
    }

    async fn wait(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        if self.push(job(done)).is_err() {
            return Err(stopped());
        }
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn push(&self, job: Job) -> Result<(), Job> {
        // Held only to clone: a full queue must not block the others on this lock.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match queue {
            Some(queue) => queue.send(job).map_err(|error| error.0),
            None => Err(job),
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panicked thread has nothing more to tell.
            let _ = thread.join();
        }
    }
}

struct Worker {
    folder: std::path::PathBuf,
    file: File,
    db: sled::Db,
    mark: MarkFile,
    disk: Arc<dyn DurableSync>,
    counters: Arc<Counters>,
    failed: Option<(io::ErrorKind, String)>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            while batch.len() < QUEUE_MAX
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.make_durable(&batch);
            for job in batch {
                self.complete(job);
            }
        }
    }

    fn make_durable(&mut self, batch: &[Job]) {
        if self.failed.is_some() {
            return;
        }
        let begun = Instant::now();
        let result = self.sync().and_then(|()| self.raise_mark(batch));
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.count.fetch_add(1, Ordering::Relaxed);
        self.counters.last_us.store(took, Ordering::Relaxed);
        self.counters.max_us.fetch_max(took, Ordering::Relaxed);
        if let Err(error) = result {
            tracing::error!(folder = %self.folder.display(), %error, "the disk did not take what was written; this node stops");
            self.failed = Some((error.kind(), format!("{}: sync failed: {error}", self.folder.display())));
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush()?;
        self.disk.sync(&self.folder, &self.file)
    }

    fn raise_mark(&mut self, batch: &[Job]) -> io::Result<()> {
        let mut mark = self.mark.get();
        let mut lowered = false;
        for job in batch {
            match job {
                Job::Append { last: Some(last), .. } => mark.last = Some(Mark::of_log(last)),
                Job::Append { last: None, .. } | Job::Plain { .. } => {}
                Job::Vote { vote, .. } => mark.vote = Some(Mark::of_vote(vote)),
                Job::Lower { last, .. } => {
                    mark.last = *last;
                    lowered = true;
                }
            }
        }
        if mark != self.mark.get() {
            self.mark.set(mark)?;
        }
        if lowered { self.mark.sync() } else { Ok(()) }
    }

    fn complete(&self, job: Job) {
        let result = match &self.failed {
            None => Ok(()),
            Some((kind, what)) => Err(io::Error::new(*kind, what.clone())),
        };
        match job {
            Job::Append { done, .. } => {
                self.disk.promised("append");
                done.io_completed(result);
            }
            Job::Vote { done, .. } => {
                self.disk.promised("vote");
                // The waiter may have gone; what it waited for is durable all the same.
                let _ = done.send(result);
            }
            Job::Plain { done } | Job::Lower { done, .. } => {
                let _ = done.send(result);
            }
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the store is closed")
}
