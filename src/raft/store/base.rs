//! What a store stands on: ordered trees of values, written one batch after another; a sync; and, beside them, the few
//! bytes of the mark. The daemon's is sled and a file (`on_sled`); a simulation has a disk of its own.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use super::StoreError;
use super::sync::{Queue, Worker};

/// The trees of a node's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Index, big endian -> entry; an entry's parts right behind it.
    Log,
    /// Vote, committed, purged, generation.
    Meta,
    /// One head and the chunks of one snapshot.
    Snap,
}

/// Changes of one tree, made together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Pairs of a range, in the order of their keys; from either end.
pub type Pairs<'a> = Box<dyn DoubleEndedIterator<Item = io::Result<Pair>> + Send + 'a>;

/// The database.
///
/// What is written is read at once, and durable after the next [`Base::sync`]. A crash leaves what was durable and of the
/// rest the first so many batches, over all trees in the order they were written, each whole.
pub trait Base: Send + Sync {
    /// The value of a key.
    fn get(&self, tree: Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Makes the changes.
    fn write(&self, tree: Tree, batch: Batch) -> io::Result<()>;
    /// The pairs between two keys.
    fn range(&self, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Pairs<'_>;
    /// Returns when everything written is durable. After an error nothing of it is for certain.
    fn sync(&self) -> io::Result<()>;
    /// Bytes it takes on the disk.
    fn bytes(&self) -> io::Result<u64>;
    /// A promise that relied on a sync has been given: `vote`, `append`. For tests that watch.
    fn promised(&self, _what: &'static str) {}
}

/// A few bytes with places of their own.
pub trait Slots: Send {
    /// All of them.
    fn read(&self) -> io::Result<Vec<u8>>;
    /// Replaces some; durable at the latest with the next [`Slots::sync`].
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// Who works off the queue of those who wait for a sync.
pub type StartQueue = Box<dyn FnOnce(Worker) -> io::Result<Box<dyn Queue>> + Send>;

/// A database that was found and not yet looked into.
pub struct Found {
    /// Where it lies, for errors and for people.
    pub folder: PathBuf,
    /// The database.
    pub base: Arc<dyn Base>,
    /// The high-water mark.
    pub mark: Box<dyn Slots>,
    /// Starts the syncing.
    pub queue: StartQueue,
    /// Whatever guards the directory; lives as long as the database is open.
    pub guard: Box<dyn Send + Sync>,
}

impl Batch {
    /// A batch of one.
    pub fn of(key: &[u8], value: Vec<u8>) -> Self {
        Batch { changes: vec![(key.to_vec(), Some(value))] }
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, key: &[u8], value: Vec<u8>) {
        self.changes.push((key.to_vec(), Some(value)));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) {
        self.changes.push((key.to_vec(), None));
    }

    /// The changes, in order; `None` removes.
    pub fn changes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.changes
    }
}

impl Tree {
    /// All of them.
    pub const ALL: [Tree; 3] = [Tree::Log, Tree::Meta, Tree::Snap];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Tree::Log => "log",
            Tree::Meta => "meta",
            Tree::Snap => "snap",
        }
    }
}

/// What is shorter to say on any base.
impl dyn Base {
    /// Adds or replaces one value.
    pub(super) fn insert(&self, tree: Tree, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        self.write(tree, Batch::of(key, value))
    }

    /// Removes one key.
    pub(super) fn remove(&self, tree: Tree, key: &[u8]) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.remove(key);
        self.write(tree, batch)
    }

    /// Everything in a tree.
    pub(super) fn all(&self, tree: Tree) -> Pairs<'_> {
        self.range(tree, Bound::Unbounded, Bound::Unbounded)
    }
}

/// Damage is one kind of an error, so that it survives the way through `io::Error`.
pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
            _ => StoreError::Io(error),
        }
    }
}
