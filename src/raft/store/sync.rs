//! How written bytes become durable, and how those who wait for it are told.
//!
//! Whoever waits is a [`Job`] in a [`Queue`]. A [`Worker`] takes all that wait, syncs once, and then completes every one
//! of them. After a failed sync nothing is durable for certain any more (the kernel drops the dirty pages), so every
//! later wait fails too.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::base::{Base, StartQueue};
use super::mark::{Mark, MarkFile};
use crate::raft::types::{LogId, Types, Vote};

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

/// Somebody who waits for a sync.
pub struct Job(Wait);

enum Wait {
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

/// Those who wait, in order. Dropping it completes them.
pub trait Queue: Send + Sync {
    /// Takes one more; gives it back when the store is closed.
    fn push(&self, job: Job) -> Result<(), Job>;
}

/// Handle of the queue.
pub struct Flusher {
    queue: Box<dyn Queue>,
    counters: Arc<Counters>,
}

impl Flusher {
    /// Starts it for the database in `folder`.
    pub fn start(folder: &Path, base: Arc<dyn Base>, mark: MarkFile, queue: StartQueue) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let worker =
            Worker { folder: folder.to_owned(), base, mark, counters: counters.clone(), failed: None };
        Ok(Flusher { queue: queue(worker)?, counters })
    }

    /// Completes `done` when everything written so far, up to log id `last`, is durable.
    pub fn append(&self, last: Option<LogId>, done: IOFlushed<Types>) {
        if let Err(Job(Wait::Append { done, .. })) = self.queue.push(Job(Wait::Append { last, done })) {
            done.io_completed(Err(stopped()));
        }
    }

    /// Returns when everything written so far, `vote` included, is durable.
    pub async fn vote(&self, vote: Vote) -> io::Result<()> {
        self.wait(|done| Wait::Vote { vote, done }).await
    }

    /// Returns when everything written so far is durable.
    pub async fn all(&self) -> io::Result<()> {
        self.wait(|done| Wait::Plain { done }).await
    }

    /// Returns when the mark durably says that the log ends at `last`.
    pub async fn lower_mark(&self, last: Option<(u64, u64)>) -> io::Result<()> {
        self.wait(|done| Wait::Lower { last, done }).await
    }

    /// Figures for metrics.
    pub fn stats(&self) -> SyncStats {
        SyncStats {
            count: self.counters.count.load(Ordering::Relaxed),
            last_us: self.counters.last_us.load(Ordering::Relaxed),
            max_us: self.counters.max_us.load(Ordering::Relaxed),
        }
    }

    async fn wait(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Wait) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        if self.queue.push(Job(job(done))).is_err() {
            return Err(stopped());
        }
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Makes what was written durable, and completes those who wait.
pub struct Worker {
    folder: std::path::PathBuf,
    base: Arc<dyn Base>,
    mark: MarkFile,
    counters: Arc<Counters>,
    failed: Option<(io::ErrorKind, String)>,
}

impl Worker {
    /// One sync for all of them.
    pub fn work(&mut self, batch: Vec<Job>) {
        self.make_durable(&batch);
        for job in batch {
            self.complete(job);
        }
    }

    fn make_durable(&mut self, batch: &[Job]) {
        if self.failed.is_some() {
            return;
        }
        let begun = Instant::now();
        let result = self.base.sync().and_then(|()| self.raise_mark(batch));
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.count.fetch_add(1, Ordering::Relaxed);
        self.counters.last_us.store(took, Ordering::Relaxed);
        self.counters.max_us.fetch_max(took, Ordering::Relaxed);
        if let Err(error) = result {
            tracing::error!(folder = %self.folder.display(), %error, "the disk did not take what was written; this node stops");
            self.failed = Some((error.kind(), format!("{}: sync failed: {error}", self.folder.display())));
        }
    }

    fn raise_mark(&mut self, batch: &[Job]) -> io::Result<()> {
        let mut mark = self.mark.get();
        let mut lowered = false;
        for job in batch {
            match &job.0 {
                Wait::Append { last: Some(last), .. } => mark.last = Some(Mark::of_log(last)),
                Wait::Append { last: None, .. } | Wait::Plain { .. } => {}
                Wait::Vote { vote, .. } => mark.vote = Some(Mark::of_vote(vote)),
                Wait::Lower { last, .. } => {
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
        match job.0 {
            Wait::Append { done, .. } => {
                self.base.promised("append");
                done.io_completed(result);
            }
            Wait::Vote { done, .. } => {
                self.base.promised("vote");
                // The waiter may have gone; what it waited for is durable all the same.
                let _ = done.send(result);
            }
            Wait::Plain { done } | Wait::Lower { done, .. } => {
                let _ = done.send(result);
            }
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the store is closed")
}
