//! What the observer is asked, what it tells, and what it shows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    core::{
        analysis::{Verdict, observation::Observation, problem::Problem},
        plan::choose::Sets,
    },
    model::server::{ClusterId, ServerId},
};

/// What is asked of the observer.
pub enum Input {
    /// The leader's urgent round on the primary of a cluster.
    Urgent {
        /// Which.
        cluster: ClusterId,
        /// Bound, milliseconds.
        bound_ms: u64,
        /// This node's verdict at its end.
        reply: oneshot::Sender<Option<Verdict>>,
    },
    /// All that is seen of a cluster.
    Look {
        /// Which.
        cluster: ClusterId,
        /// The answer.
        reply: oneshot::Sender<Option<Seen>>,
    },
    /// Read a full inventory of these servers now.
    Inventory(Vec<ServerId>),
    /// An urgent attempt of ours ended.
    UrgentEnded {
        /// Which cluster.
        cluster: ClusterId,
        /// Who was its primary then.
        of: ServerId,
        /// When it began, this node's milliseconds.
        began_ms: u64,
        /// It was the whole bound without an answer.
        silent: bool,
    },
}

/// A cluster as this node sees it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Observations by server.
    pub observations: BTreeMap<ServerId, Observation>,
    /// This node's monotonic milliseconds of it all.
    pub now_ms: u64,
    /// Since when, in the same milliseconds, the cluster has its present primary and nothing changes its structure:
    /// what was read before says nothing about who follows whom.
    pub shape_since_ms: u64,
    /// High-water marks and the primary's last set, for a decision.
    pub sets: Sets,
}

/// What the observer tells the rest of the node.
#[derive(Debug, Clone)]
pub enum Sighting {
    /// A verdict that is new, or still holds and is worth repeating.
    Verdict {
        /// It.
        verdict: Verdict,
        /// When it was reached, milliseconds of this node's CLOCK_BOOTTIME.
        judged_ms: u64,
    },
    /// A server answered that a standing order may be about.
    Answered {
        /// Who.
        server: ServerId,
        /// Whether clients can write there.
        writable: bool,
    },
}

/// What is seen of a cluster, and what is wrong with it, for people.
#[derive(Debug, Default)]
pub struct Shown {
    /// What is seen.
    pub seen: Seen,
    /// Problems.
    pub problems: Vec<Problem>,
}

/// What is seen of each cluster, as last published: for readers who must not wait.
#[derive(Clone, Default)]
pub struct Views(Arc<Published>);

#[derive(Default)]
struct Published {
    wanted: AtomicBool,
    clusters: Mutex<BTreeMap<ClusterId, Arc<Shown>>>,
}

impl Views {
    /// A cluster as last published.
    pub fn of(&self, cluster: &ClusterId) -> Option<Arc<Shown>> {
        self.lock().get(cluster).cloned()
    }

    /// Whether anybody reads them.
    pub(super) fn wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }

    pub(super) fn show(&self, cluster: ClusterId, shown: Shown) {
        self.lock().insert(cluster, Arc::new(shown));
    }

    pub(super) fn forget(&self, cluster: &ClusterId) {
        self.lock().remove(cluster);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Arc<Shown>>> {
        self.0.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The observer's mailbox.
#[derive(Clone)]
pub struct ObserverHandle {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) views: Views,
}

impl ObserverHandle {
    /// This node's part of an urgent round.
    pub async fn urgent(&self, cluster: ClusterId, bound_ms: u64) -> Option<Verdict> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Urgent { cluster, bound_ms, reply }).await.ok()?;
        answer.await.ok().flatten()
    }

    /// All that is seen of a cluster.
    pub async fn look(&self, cluster: ClusterId) -> Option<Seen> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Look { cluster, reply }).await.ok()?;
        answer.await.ok().flatten()
    }

    /// What is seen, as last published. Nothing is published before the first call.
    pub fn views(&self) -> Views {
        self.views.0.wanted.store(true, Ordering::Relaxed);
        self.views.clone()
    }

    /// Asks for a full inventory soon.
    pub async fn inventory(&self, servers: Vec<ServerId>) {
        let _ = self.inputs.send(Input::Inventory(servers)).await;
    }
}
