//! When the group is lost: a backup of the state, a group made from a backup, and a group made from one survivor.
//!
//! The last two make a *new* group of one voter, with the old name, a new generation and a new incarnation: nothing of
//! the old group can talk to it, nor vote in it. They write a database of its own and switch to it by replacing
//! `identity.json`; what was there stays on the disk under its old name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::OpenError;
use super::machine::{Applied, Image, Machine};
use super::node::Raft;
use super::options::Options;
use super::store::Store;
use super::store::dir::{DataDir, Identity, Made};
use super::types::{LogId, NodeInfo, SnapshotMeta, StoredMembership, Vote};
use crate::core::replicated::State;

/// First bytes of a backup.
const MAGIC: &[u8] = b"quorate-backup-1\n";

/// What stands behind [`MAGIC`] and a checksum, as MessagePack with named fields.
#[derive(Serialize, Deserialize)]
struct Backup {
    version: String,
    group: String,
    generation: u64,
    term: u64,
    index: u64,
    image: Bytes,
}

/// Why a backup was not taken or not used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The bytes given.
    #[error("this is not a usable backup: {what}")]
    Backup {
        /// What is wrong with them.
        what: String,
    },
    /// The directory holds somebody's state already.
    #[error(
        "data directory {path} is in use already, by node {node_id} of group {group}; a backup is restored into an empty one"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its node.
        node_id: u64,
        /// Its group.
        group: String,
    },
    /// There is nothing to rebuild from.
    #[error("data directory {path} never belonged to an initialised group")]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The state as it stands there cannot be used.
    #[error("the state cannot be used: {what}")]
    State {
        /// Why.
        what: String,
    },
}

/// A group of one, made from a survivor or a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new name of the data directory.
    pub incarnation: String,
    /// The new generation of the group.
    pub generation: u64,
    /// Newest log index that is in the state.
    pub index: u64,
    /// Where the old database still lies, if there was one.
    pub kept: Option<PathBuf>,
}

/// The old group's end, as far as its survivor or its backup knows it.
struct Legacy {
    image: Image,
    term: u64,
    index: u64,
    generation: u64,
}

impl Raft {
    /// The state as it is applied here, for [`restore_into`]. Pass a [read barrier](Raft::read_barrier) first if it
    /// must contain everything acknowledged so far.
    pub fn backup(&self) -> Result<Bytes, RescueError> {
        let (image, last, _) = self.applied_image();
        let state = |error: std::io::Error| RescueError::State { what: error.to_string() };
        let backup = Backup {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            group: self.group().to_owned(),
            generation: self.generation(),
            term: last.map_or(0, |last| last.committed_leader_id().term),
            index: last.map_or(0, |last| last.index()),
            image: image.encode().map_err(state)?,
        };
        let body = rmp_serde::to_vec_named(&backup)
            .map_err(|error| RescueError::State { what: error.to_string() })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(Bytes::from(bytes))
    }
}

/// Makes `options.data_dir`, which must be empty, a new group of this one node, with the state of `backup` after
/// `edit` (where the caller disables what must not start by itself). The node must not run.
pub async fn restore_into(
    options: &Options,
    backup: &[u8],
    edit: impl FnOnce(&mut State),
) -> Result<Rebuilt, RescueError> {
    options.check()?;
    let backup = decode(backup)?;
    if backup.group != options.group {
        let what = format!("it is of group {:?}, the configured group is {:?}", backup.group, options.group);
        return Err(RescueError::Backup { what });
    }
    let image =
        Image::decode(&backup.image).map_err(|error| RescueError::Backup { what: error.to_string() })?;
    let dir = DataDir::lock(options)?;
    if let Some(Identity { node_id, group, state: Made::Ready, .. }) = dir.identity()? {
        return Err(RescueError::InUse { path: options.data_dir.clone(), node_id, group });
    }
    let legacy = Legacy { image, term: backup.term, index: backup.index, generation: backup.generation };
    let identity = Identity::fresh(options);
    // Nobody's until it is whole: an interruption leaves a directory that is made anew.
    dir.commit(&identity)?;
    found(dir, options, identity, legacy, edit, None).await
}

/// Makes the survivor in `options.data_dir` a new group of this one node, from everything in its log, committed or
/// not, after `edit`. UNSAFE: entries that only the lost nodes had are gone, and if the lost nodes are not dead, there
/// are two groups. The node must not run.
pub async fn rebuild_unsafe(
    options: &Options,
    edit: impl FnOnce(&mut State),
) -> Result<Rebuilt, RescueError> {
    options.check()?;
    let empty = || RescueError::Empty { path: options.data_dir.clone() };
    let dir = DataDir::lock(options)?;
    let old = dir.owned_by(options)?.filter(|old| old.state == Made::Ready).ok_or_else(empty)?;
    let kept = options.data_dir.join(&old.database);
    let legacy = {
        let (store, _closed) = dir.open_beside(&old, options)?;
        last_words(&store)
            .map_err(|error| RescueError::State { what: error.to_string() })?
            .ok_or_else(empty)?
    };
    found(dir, options, Identity::fresh(options), legacy, edit, Some(kept)).await
}

/// Everything the survivor has: its snapshot and each entry after it.
fn last_words(store: &Arc<Store>) -> std::io::Result<Option<Legacy>> {
    let applied = Applied::new();
    // Kept until the log is replayed: it fills `applied` from the snapshot.
    let _machine = Machine::restore(store.clone(), applied.clone())?;
    let begin = applied.last().map_or(0, |last| last.index() + 1);
    for entry in store.entries(begin.., usize::MAX)? {
        applied.apply(&entry)?;
    }
    let (image, last, _) = applied.image();
    let Some(last) = last else { return Ok(None) };
    let voted = store.vote()?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.committed_leader_id().term);
    Ok(Some(Legacy { image, term, index: last.index(), generation: store.generation()? }))
}

/// Writes the new group's database and makes it the valid one.
async fn found(
    dir: DataDir,
    options: &Options,
    mut identity: Identity,
    legacy: Legacy,
    edit: impl FnOnce(&mut State),
    kept: Option<PathBuf>,
) -> Result<Rebuilt, RescueError> {
    let Legacy { mut image, term, index, generation } = legacy;
    edit(&mut image.state);
    // No membership entry says so to the new group's state: its first words are a snapshot.
    image.state.set_voters(BTreeMap::from([(options.node_id, identity.incarnation.clone())]));
    image.members_ever.insert(options.node_id, identity.incarnation.clone());
    let rebuilt =
        Rebuilt { incarnation: identity.incarnation.clone(), generation: generation + 1, index, kept };

    dir.make_database(&identity)?;
    {
        let (store, _closed) = dir.open_beside(&identity, options)?;
        let write = write_group(&store, options, &identity, &image, (term + 1, index + 1), generation + 1);
        write.await.map_err(|error| RescueError::State { what: error.to_string() })?;
    }
    identity.state = Made::Ready;
    dir.commit(&identity)?;
    Ok(rebuilt)
}

/// The first words of the new group: one snapshot that ends with the membership of one voter.
async fn write_group(
    store: &Store,
    options: &Options,
    identity: &Identity,
    image: &Image,
    (term, index): (u64, u64),
    generation: u64,
) -> std::io::Result<()> {
    let node = NodeInfo {
        node_addr: options.node_addr.clone(),
        client_addr: options.client_addr.clone(),
        incarnation: identity.incarnation.clone(),
        datacenter: options.datacenter.clone(),
    };
    let voters = vec![BTreeSet::from([options.node_id])];
    let membership = openraft::Membership::new(voters, BTreeMap::from([(options.node_id, node)]));
    let last = LogId::new_term_index(term, index);
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), membership.map_err(std::io::Error::other)?),
    };
    store.save_generation(generation).await?;
    store.save_vote(&Vote::new(term, options.node_id)).await?;
    store.save_snapshot(&meta, &image.encode()?).await?;
    store.save_purged(last).await
}

fn decode(bytes: &[u8]) -> Result<Backup, RescueError> {
    let wrong = |what: String| RescueError::Backup { what };
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin like one".to_owned()))?;
    let (sum, body) = body.split_first_chunk::<4>().ok_or_else(|| wrong("it is cut short".to_owned()))?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(body) {
        return Err(wrong("it does not fit its checksum".to_owned()));
    }
    rmp_serde::from_slice(body).map_err(|error| wrong(error.to_string()))
}
