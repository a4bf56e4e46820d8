//! What the observer is asked, what it tells, and what it shows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    core::{
        analysis::{Finding, Verdict, observation::Observation, problem::Problem},
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
    /// This node slept.
    Paused,
    /// Read a full inventory of these servers now.
    Inventory(Vec<ServerId>),
    /// An urgent attempt of ours ended.
    UrgentEnded {
        /// Which cluster.
        cluster: ClusterId,
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
    /// Problems.
    pub problems: Vec<Problem>,
    /// This node's finding.
    pub finding: Option<Finding>,
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
    Verdict(Verdict),
    /// A server answered that a standing order may be about.
    Answered {
        /// Who.
        server: ServerId,
        /// Whether clients can write there.
        writable: bool,
    },
}

/// What is seen of each cluster, as last published: for readers who must not wait.
pub type Views = Arc<Mutex<BTreeMap<ClusterId, Arc<Seen>>>>;

/// The observer's mailbox.
#[derive(Clone)]
pub struct ObserverHandle {
    pub(super) inputs: mpsc::Sender<Input>,
    /// What is seen, as last published.
    pub views: Views,
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

    /// Asks for a full inventory soon.
    pub async fn inventory(&self, servers: Vec<ServerId>) {
        let _ = self.inputs.send(Input::Inventory(servers)).await;
    }
}
