//! The product's disk ports over a platter: sled's part, the mark's file, and the thread that syncs, whose syncs take
//! simulated time.

use std::{
    io,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use quorate::raft::{
    OpenError, Options,
    ports::{Base, Batch, Directory, Disk, Found, Job, Pairs, Queue, Slots, Tree, Worker},
};

use super::platter::{Platter, Trouble};
use crate::world::{POISON, Sim, World};

/// Bytes that are free on a disk with room.
const ROOM: u64 = 1 << 40;

/// A node's directory, for one of its processes.
pub struct SimDisk {
    /// The world.
    pub sim: Sim,
    /// Whose.
    pub node: u64,
    /// Its process.
    pub boot: u64,
    /// Name of the directory.
    pub incarnation: String,
    /// Where it lies.
    pub platter: Arc<Platter>,
}

impl Disk for SimDisk {
    fn open(&self, options: &Options) -> Result<Directory, OpenError> {
        let path = options.data_dir.clone();
        let (free, needed) = (self.free_bytes().unwrap_or(0), options.free_bytes_min);
        if free < needed {
            return Err(OpenError::DiskFull { path, free, needed });
        }
        let (sim, node, boot, platter) = (self.sim.clone(), self.node, self.boot, self.platter.clone());
        let queue = move |worker| -> io::Result<Box<dyn Queue>> {
            let flush = Flush { worker: Some(worker), waiting: Vec::new(), busy: false };
            Ok(Box::new(SimQueue {
                sim,
                node,
                boot,
                shared: Arc::new(Shared { flush: Mutex::new(flush), platter }),
            }))
        };
        let found = Found {
            folder: PathBuf::from(format!("/node{}/{}", self.node, self.incarnation)),
            base: Arc::new(SimBase(self.platter.clone())),
            mark: Box::new(SimSlots(self.platter.clone())),
            queue: Box::new(queue),
            guard: Box::new(()),
        };
        Ok(Directory { incarnation: self.incarnation.clone(), found })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(match self.platter.room() {
            Some(Trouble::Full) => 0,
            // Less than what a node that may lead needs, more than nothing: see `watch_room`.
            Some(Trouble::Low) => 1 << 20,
            _ => ROOM,
        })
    }
}

struct SimBase(Arc<Platter>);

impl Base for SimBase {
    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(tree, key))
    }

    fn write(&self, tree: Tree, batch: Batch) -> io::Result<()> {
        self.0.write(tree, batch)
    }

    fn range(&self, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Pairs<'_> {
        Box::new(self.0.range(tree, from, to).into_iter().map(Ok))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.end_sync()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.bytes())
    }
}

struct SimSlots(Arc<Platter>);

impl Slots for SimSlots {
    fn read(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.mark())
    }

    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        self.0.write_mark(bytes, place as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_mark()
    }
}

/// The syncing thread of one process: who waits, and whether a sync is under way.
struct Flush {
    worker: Option<Worker>,
    waiting: Vec<Job>,
    busy: bool,
}

struct Shared {
    flush: Mutex<Flush>,
    platter: Arc<Platter>,
}

struct SimQueue {
    sim: Sim,
    node: u64,
    boot: u64,
    shared: Arc<Shared>,
}

impl Queue for SimQueue {
    fn push(&self, job: Job) -> Result<(), Job> {
        let idle = {
            let mut flush = self.shared.flush.lock().expect(POISON);
            flush.waiting.push(job);
            !std::mem::replace(&mut flush.busy, true)
        };
        if idle {
            let (node, boot, shared) = (self.node, self.boot, self.shared.clone());
            self.sim.try_with(|world| world.begin_sync(node, boot, shared));
        }
        Ok(())
    }
}

impl World {
    /// Takes all that wait, and completes them when their sync is over.
    fn begin_sync(&mut self, node: u64, boot: u64, shared: Arc<Shared>) {
        let jobs = std::mem::take(&mut shared.flush.lock().expect(POISON).waiting);
        shared.platter.begin_sync();
        let most = self.nodes.get(&node).map_or(0, |entry| entry.sync_ms);
        let took = if most == 0 { 0 } else { self.rng.range(0, most + 1) };
        self.sync_began(node, boot, shared.platter.writes_vote(), took);
        self.process_after(node, boot, took, move |world| {
            let worker = shared.flush.lock().expect(POISON).worker.take();
            let mut worker = worker.expect("one sync at a time");
            worker.work(jobs);
            let more = {
                let mut flush = shared.flush.lock().expect(POISON);
                flush.worker = Some(worker);
                flush.busy = !flush.waiting.is_empty();
                flush.busy
            };
            if more {
                world.begin_sync(node, boot, shared);
            }
        });
    }
}
