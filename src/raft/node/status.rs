//! What a node can say about itself and about its peers, for people and metrics. Never an authority.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::Instant;
use openraft::async_runtime::WatchReceiver;

use super::{Leadership, Membership, Raft};
use crate::raft::{runtime, store::sync::SyncStats};

/// One node, seen from inside. Log indexes; `None` where there is nothing yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// The random name of its data directory.
    pub incarnation: String,
    /// Which rebuild of the group it belongs to; 0 before it belongs to any.
    pub generation: u64,
    /// Who leads.
    pub leadership: Leadership,
    /// Who belongs to the group.
    pub membership: Membership,
    /// Last entry in its log.
    pub last_log: Option<u64>,
    /// Newest entry it knows to be committed.
    pub committed: Option<u64>,
    /// Newest entry it has applied.
    pub applied: Option<u64>,
    /// Newest entry that is only in the snapshot.
    pub purged: Option<u64>,
    /// Newest entry that the snapshot contains.
    pub snapshot: Option<u64>,
    /// Age of the last confirmation by a majority; only on a leader.
    pub quorum_age: Option<Duration>,
    /// The other members.
    pub peers: BTreeMap<u64, PeerStatus>,
    /// The last call of a peer that was refused, and why.
    pub refused: Option<String>,
    /// Syncs; `None` after shutdown.
    pub sync: Option<SyncStats>,
    /// Bytes of the database on disk; `None` after shutdown.
    pub disk_bytes: Option<u64>,
    /// Bytes free at the data directory.
    pub free_bytes: Option<u64>,
    /// Why raft has stopped, if it has.
    pub stopped: Option<String>,
}

/// A peer, seen from this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerStatus {
    /// Newest entry known to be in its log; only on a leader.
    pub matched: Option<u64>,
    /// Time since its last answer.
    pub answered: Option<Duration>,
    /// What the last call to it ended with, when that was no answer.
    pub trouble: Option<String>,
}

impl Raft {
    /// What this node knows now.
    pub fn status(&self) -> Status {
        let metrics = self.openraft().metrics();
        let seen = metrics.borrow_watched().clone();
        let me = self.node_id();
        let membership = self.membership();
        let matched = |id: &u64| seen.replication.as_ref()?.get(id).copied().flatten().map(|log| log.index());
        let peers = membership.nodes.keys().filter(|id| **id != me).map(|id| {
            let contact = self.inner.peers.contact(*id);
            let answered = contact.answered.map(|at| at.elapsed());
            (*id, PeerStatus { matched: matched(id), answered, trouble: contact.trouble })
        });
        let peers = peers.collect();
        let store = self.inner.shared.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status {
            node_id: me,
            incarnation: self.incarnation().to_owned(),
            generation: self.generation(),
            leadership: *self.leadership().borrow(),
            membership,
            last_log: seen.last_log_index,
            committed: seen.local_committed.map(|id| id.index()),
            applied: seen.last_applied.map(|id| id.index()),
            purged: seen.purged.map(|id| id.index()),
            snapshot: seen.snapshot.map(|id| id.index()),
            quorum_age: seen.last_quorum_acked.map(|at| at.elapsed()),
            peers,
            refused: self.inner.shared.refusing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            sync: store.as_ref().map(|store| store.flusher().stats()),
            disk_bytes: store.as_ref().and_then(|store| store.bytes_on_disk().ok()),
            free_bytes: self.inner.disk.free_bytes().ok(),
            stopped: self.inner.stopped.borrow().clone(),
        }
    }

    /// The replicated state in short: the newest index applied here, and the hash of the state as of it. `None` before
    /// anything was applied. A copy is made under the lock that `apply` takes; the rest is done beside it.
    pub async fn state_hash(&self) -> Option<(u64, String)> {
        let (image, last, _) = self.applied_image();
        let index = last?.index();
        // Only a panic ends such a task without a result, and the state has none to hash.
        let hash = runtime::long(move || image.state.hash()).await.ok()?;
        Some((index, hash))
    }

    /// Returns, with the reason, when raft has stopped: after [`Raft::shutdown`], or because the disk failed or an
    /// entry needs a newer program. The node can then do nothing but end.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.inner.stopped.subscribe();
        match stopped.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "shut down".to_owned(),
        }
    }
}
