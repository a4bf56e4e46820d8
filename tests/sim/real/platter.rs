//! The disk of a node: what is written, what of it is durable, and what a crash leaves.
//!
//! Batches are written in one row over all trees. A process that dies leaves the first so many of those that were not
//! synced (sled keeps the rest in its own memory), each whole; a machine that loses its power leaves fewer still, and of
//! the mark's file, which has no order with them, the first so many writes, the next one perhaps torn. Which, the seed
//! says. What survived a death without a sync is not durable by that: the next loss of power may take it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard},
};

use quorate::raft::ports::{Batch, Pair, Tree, blank_mark};

use crate::{rng::Rng, world::POISON};

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A sync fails, and nobody knows what was written.
    Errors,
    /// Nothing more can be written.
    Full,
    /// It is nearly full.
    Low,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// SIGKILL: the kernel keeps what it was given.
    Process,
    /// The machine loses its power.
    Power,
}

/// What a crash took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Batches that were written and not synced.
    pub batches: usize,
    /// Among them one with a vote.
    pub vote: bool,
    /// Among them entries of the log.
    pub entries: usize,
    /// The mark's file holds a half-written slot.
    pub torn: bool,
}

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// A batch that is not durable: what was there before.
struct Written {
    tree: Tree,
    before: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

struct Inner {
    trees: BTreeMap<Tree, Content>,
    unsynced: VecDeque<Written>,
    /// So many of them a process left behind that was killed: the kernel has them.
    with_kernel: usize,
    /// So many of them are covered by the sync under way.
    syncing: Option<usize>,
    mark: Vec<u8>,
    mark_unsynced: Vec<(usize, Vec<u8>)>,
    mark_durable: Vec<u8>,
    trouble: Option<Trouble>,
    /// Somebody has met it.
    met: bool,
}

/// See above. Shared by the node and the process that has it open.
pub struct Platter {
    inner: Mutex<Inner>,
}

impl Default for Platter {
    fn default() -> Self {
        let inner = Inner {
            trees: Tree::ALL.into_iter().map(|tree| (tree, Content::new())).collect(),
            unsynced: VecDeque::new(),
            with_kernel: 0,
            syncing: None,
            mark: blank_mark().to_vec(),
            mark_unsynced: Vec::new(),
            mark_durable: blank_mark().to_vec(),
            trouble: None,
            met: false,
        };
        Self { inner: Mutex::new(inner) }
    }
}

impl Platter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect(POISON)
    }

    /// Something is wrong with it from now on, or nothing any more; whether anybody has met what was.
    pub fn trouble(&self, trouble: Option<Trouble>) -> bool {
        let mut inner = self.lock();
        inner.trouble = trouble;
        std::mem::take(&mut inner.met)
    }

    /// What is wrong with it.
    pub fn troubled(&self) -> Option<Trouble> {
        self.lock().trouble
    }

    /// What is wrong with it, for one who asks for its free space.
    pub fn room(&self) -> Option<Trouble> {
        let mut inner = self.lock();
        inner.met |= matches!(inner.trouble, Some(Trouble::Full | Trouble::Low));
        inner.trouble
    }

    /// A value as it is written.
    pub fn get(&self, tree: Tree, key: &[u8]) -> Option<Vec<u8>> {
        self.lock().trees[&tree].get(key).cloned()
    }

    /// Pairs as they are written.
    pub fn range(&self, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Vec<Pair> {
        let inner = self.lock();
        inner.trees[&tree].range((from, to)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Writes a batch, whole.
    pub fn write(&self, tree: Tree, batch: Batch) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.trouble == Some(Trouble::Full) {
            inner.met = true;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        let content = inner.trees.get_mut(&tree).expect("all are there");
        let mut before = Vec::new();
        for (key, value) in batch.changes() {
            let old = match value {
                Some(value) => content.insert(key.clone(), value),
                None => content.remove(&key),
            };
            before.push((key, old));
        }
        inner.unsynced.push_back(Written { tree, before });
        Ok(())
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        let inner = self.lock();
        let pairs = inner.trees.values().flatten();
        pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    /// A value as a loss of power would leave it at the least; the mark's file aside.
    pub fn durable(&self, tree: Tree, key: &[u8]) -> Option<Vec<u8>> {
        let inner = self.lock();
        let of_tree = inner.unsynced.iter().filter(|written| written.tree == tree);
        let mut changes = of_tree.flat_map(|written| &written.before);
        match changes.find(|(changed, _)| changed == key) {
            Some((_, before)) => before.clone(),
            None => inner.trees[&tree].get(key).cloned(),
        }
    }

    /// Whether a vote is among what is not durable.
    pub fn writes_vote(&self) -> bool {
        let changes = |written: &Written| {
            written.tree == Tree::Meta && written.before.iter().any(|(key, _)| key == b"vote")
        };
        self.lock().unsynced.iter().any(changes)
    }

    /// A sync begins: it covers what is written by now.
    pub fn begin_sync(&self) {
        let mut inner = self.lock();
        inner.syncing = Some(inner.unsynced.len());
    }

    /// It ends; one that had no beginning covers all.
    pub fn end_sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let covered = inner.syncing.take().unwrap_or(inner.unsynced.len());
        match inner.trouble {
            Some(Trouble::Errors) => {
                inner.met = true;
                Err(io::Error::other("the simulated disk fails (EIO)"))
            }
            _ => {
                inner.unsynced.drain(..covered);
                inner.with_kernel = inner.with_kernel.saturating_sub(covered);
                Ok(())
            }
        }
    }

    /// The mark's file as it is written.
    pub fn mark(&self) -> Vec<u8> {
        self.lock().mark.clone()
    }

    /// Writes into the mark's file.
    pub fn write_mark(&self, bytes: &[u8], place: usize) {
        let mut inner = self.lock();
        inner.mark[place..place + bytes.len()].copy_from_slice(bytes);
        inner.mark_unsynced.push((place, bytes.to_vec()));
    }

    /// Makes the mark's file durable.
    pub fn sync_mark(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.trouble == Some(Trouble::Errors) {
            return Err(io::Error::other("the simulated disk fails (EIO)"));
        }
        inner.mark_durable = inner.mark.clone();
        inner.mark_unsynced.clear();
        Ok(())
    }

    /// The process that has it open is gone.
    pub fn crash(&self, how: Crash, rng: &mut Rng) -> Lost {
        let mut inner = self.lock();
        inner.syncing = None;
        let mut lost = Lost::default();
        let least = if how == Crash::Process { inner.with_kernel } else { 0 };
        let kept = rng.range(least as u64, inner.unsynced.len() as u64 + 1) as usize;
        while inner.unsynced.len() > kept {
            let written = inner.unsynced.pop_back().expect("more than are kept");
            lost.note(&written);
            inner.undo(written);
        }
        inner.with_kernel = kept;
        if how == Crash::Power {
            // What the disk has, it has.
            inner.unsynced.clear();
            inner.with_kernel = 0;
            lost.torn = inner.tear_mark(rng);
        }
        lost
    }
}

impl Inner {
    fn undo(&mut self, written: Written) {
        let content = self.trees.get_mut(&written.tree).expect("all are there");
        for (key, before) in written.before.into_iter().rev() {
            match before {
                Some(value) => content.insert(key, value),
                None => content.remove(&key),
            };
        }
    }

    /// Leaves the first so many writes of the mark's file; whether the next one is there in half.
    fn tear_mark(&mut self, rng: &mut Rng) -> bool {
        let writes = std::mem::take(&mut self.mark_unsynced);
        let kept = rng.range(0, writes.len() as u64 + 1) as usize;
        let mut content = self.mark_durable.clone();
        for (place, bytes) in &writes[..kept] {
            content[*place..place + bytes.len()].copy_from_slice(bytes);
        }
        let torn = writes.get(kept).filter(|_| rng.chance(30));
        if let Some((place, bytes)) = torn {
            let half = rng.range(1, bytes.len() as u64) as usize;
            content[*place..place + half].copy_from_slice(&bytes[..half]);
        }
        let torn = torn.is_some();
        self.mark = content.clone();
        self.mark_durable = content;
        torn
    }
}

impl Lost {
    fn note(&mut self, written: &Written) {
        self.batches += 1;
        let added = written.before.iter().filter(|(_, before)| before.is_none()).count();
        match written.tree {
            Tree::Log => self.entries += added,
            Tree::Meta => self.vote |= written.before.iter().any(|(key, _)| key == b"vote"),
            Tree::Snap => {}
        }
    }
}
