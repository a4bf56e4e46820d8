//! The verdicts a leader holds, with their ages. A new leader starts with none.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    core::{analysis::Verdict, replicated::recovery::Testimony},
    model::server::ClusterId,
};

#[derive(Debug, Clone)]
struct Held {
    verdict: Verdict,
    /// This node's milliseconds at which its age was zero.
    born_ms: u64,
}

/// Newest verdict of each node on each cluster.
#[derive(Debug, Default)]
pub struct Gathered {
    held: BTreeMap<ClusterId, BTreeMap<u64, Held>>,
    /// Urgent rounds under way, since when.
    pub rounds: BTreeMap<ClusterId, u64>,
    /// Starts under way.
    pub starting: BTreeSet<ClusterId>,
}

impl Gathered {
    /// Takes a verdict in; an older one of the same node changes nothing.
    pub fn take(&mut self, verdict: Verdict, age_ms: u64, received_ms: u64) {
        let of_cluster = self.held.entry(verdict.cluster.clone()).or_default();
        let newer = of_cluster.get(&verdict.node).is_none_or(|held| {
            held.verdict.incarnation != verdict.incarnation || held.verdict.sequence <= verdict.sequence
        });
        if newer {
            let held = Held { born_ms: received_ms.saturating_sub(age_ms), verdict };
            of_cluster.insert(held.verdict.node, held);
        }
    }

    /// What is held on a cluster, each with its age now.
    pub fn testimonies(&self, cluster: &ClusterId, now_ms: u64) -> Vec<Testimony> {
        let of_cluster = self.held.get(cluster).into_iter().flat_map(BTreeMap::values);
        of_cluster
            .map(|h| Testimony { verdict: h.verdict.clone(), age_ms: now_ms.saturating_sub(h.born_ms) })
            .collect()
    }
}
