//! The state machine: the replicated state in memory, rebuilt from the snapshot and the rest of the log.
//!
//! Readers share one lock with `apply`; nothing is cloned but for a snapshot.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::runtime;
use super::store::Store;
use super::types::{LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, Types, version};
use crate::core::replicated::{Outcome, State};
use crate::mistake::{Mistake, planted};

/// Format of snapshots and backups. A newer one is refused, an older one converted where this is raised.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// What has been applied, for readers and for the state machine itself.
pub struct Applied {
    inner: RwLock<Inner>,
    index: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    members_ever: BTreeMap<u64, String>,
}

/// The content of a snapshot.
#[derive(Serialize, Deserialize)]
pub struct Image {
    /// [`SNAPSHOT_FORMAT`] of the writer.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Incarnation of every node that was ever a member: ids are never reused.
    pub members_ever: BTreeMap<u64, String>,
    /// The state.
    pub state: State,
}

impl Applied {
    /// Nothing applied yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Applied { inner: RwLock::default(), index: watch::channel(0).0 })
    }

    /// Looks at the state. Keep it short: `apply` waits.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// Newest applied index.
    pub fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Newest applied log id.
    pub fn last(&self) -> Option<LogId> {
        self.lock().last
    }

    /// Newest applied membership.
    pub fn membership(&self) -> StoredMembership {
        self.lock().membership.clone()
    }

    /// The incarnation under which `node` is or was a member.
    pub fn member_ever(&self, node: u64) -> Option<String> {
        self.lock().members_ever.get(&node).cloned()
    }

    /// The whole state, and the log id it is of.
    pub fn image(&self) -> (Image, Option<LogId>, StoredMembership) {
        let inner = self.lock();
        let image = Image::of(inner.state.clone(), inner.members_ever.clone());
        (image, inner.last, inner.membership.clone())
    }

    /// Applies one entry.
    pub fn apply(&self, entry: &openraft::alias::EntryOf<Types>) -> io::Result<Option<Outcome>> {
        let index = entry.log_id.index();
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if planted(Mistake::AppliedIndexAheadOfState) {
            self.index.send_replace(index);
        }
        let outcome = match &entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(proposal) => {
                let command = proposal.decode().map_err(|what| {
                    tracing::error!(index, "{what}");
                    io::Error::new(io::ErrorKind::Unsupported, format!("log index {index}: {what}"))
                })?;
                Some(inner.state.apply(index, &command))
            }
            EntryPayload::Membership(membership) => {
                for (id, node) in membership.nodes() {
                    inner.members_ever.insert(*id, node.incarnation.clone());
                }
                inner.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                // Agreement counts the voters that the same log names (P2).
                let incarnation = |id: u64| membership.get_node(&id).map(|node| node.incarnation.clone());
                let voters =
                    membership.voter_ids().filter_map(|id| incarnation(id).map(|i| (id, i))).collect();
                inner.state.set_voters(voters);
                None
            }
        };
        inner.last = Some(entry.log_id);
        drop(inner);
        self.index.send_replace(index);
        Ok(outcome)
    }

    /// Makes the state large: some 100 bytes for each of `count` members that never were.
    #[cfg(test)]
    pub fn stuff(&self, count: u64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.members_ever.extend((1_000..=count).map(|id| (id, format!("{id:-<90}"))));
    }

    fn install(&self, meta: &SnapshotMeta, image: Image) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner {
            state: image.state,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
            members_ever: image.members_ever,
        };
        drop(inner);
        self.index.send_replace(meta.last_log_id.map_or(0, |id| id.index()));
    }

    fn lock(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        // A panic in `apply` stops raft and with it the node; until then readers see what was there.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    /// Of a state, as this program writes it.
    pub fn of(mut state: State, members_ever: BTreeMap<u64, String>) -> Self {
        if planted(Mistake::BlockForgottenInSnapshot) {
            state.blocks.clear();
        }
        if planted(Mistake::DowntimeIgnoredAfterRestart) {
            state.downtimes.clear();
        }
        Self { format: SNAPSHOT_FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), members_ever, state }
    }

    /// MessagePack with named fields.
    pub fn encode(&self) -> io::Result<Bytes> {
        Ok(Bytes::from(rmp_serde::to_vec_named(self).map_err(io::Error::other)?))
    }

    /// Says which version is needed when this one cannot read it (`Unsupported`); `InvalidData`: nobody can.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Label {
            format: u32,
            version: String,
        }
        let damaged = |error: rmp_serde::decode::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let label: Label = rmp_serde::from_slice(bytes).map_err(damaged)?;
        let newer = |why: String| {
            let by = version(&label.version);
            let what = format!(
                "a snapshot by quorate {by} is not understood by quorate {} ({why}); run {by} or newer here",
                env!("CARGO_PKG_VERSION"),
            );
            io::Error::new(io::ErrorKind::Unsupported, what)
        };
        if label.format > SNAPSHOT_FORMAT {
            return Err(newer(format!("format {}", label.format)));
        }
        rmp_serde::from_slice(bytes).map_err(|error| match label.version == env!("CARGO_PKG_VERSION") {
            // What this very version wrote, it reads.
            true => damaged(error),
            false => newer(error.to_string()),
        })
    }
}

/// openraft's end of it.
pub struct Machine {
    store: Arc<Store>,
    applied: Arc<Applied>,
}

impl Machine {
    /// Starts from the snapshot in `store`, if there is one.
    pub fn restore(store: Arc<Store>, applied: Arc<Applied>) -> io::Result<Self> {
        if let Some((meta, data)) = store.snapshot()? {
            applied.install(&meta, Image::decode(&data)?);
        }
        Ok(Machine { store, applied })
    }
}

/// Builds one snapshot of the state as it was when asked.
pub struct Builder {
    store: Arc<Store>,
    image: Arc<Image>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let image = self.image.clone();
        let data = runtime::long(move || image.encode()).await??;
        self.store.save_snapshot(&self.meta, &data).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last(), self.applied.membership()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let outcome = self.applied.apply(&entry)?;
            if let Some(responder) = responder {
                responder.send(Reply(outcome));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (image, last_log_id, last_membership) = self.applied.image();
        Builder {
            store: self.store.clone(),
            image: Arc::new(image),
            meta: SnapshotMeta { last_log_id, last_membership },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> io::Result<()> {
        // Decoded first: what cannot be understood must not replace what can.
        let image = Image::decode(&data)?;
        self.store.save_snapshot(meta, &data).await?;
        self.applied.install(meta, image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let found = self.store.snapshot()?;
        Ok(found.map(|(meta, data)| Snapshot { meta, snapshot: data }))
    }
}
