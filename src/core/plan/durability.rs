//! Whether a cluster's semi-sync is what P6 means by it, from observations of its primary and replicas.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    core::replicated::cluster::{Cluster, Durability},
    model::{facts::ServerFacts, server::ServerId},
};

/// A time-out from which on a source never gives up waiting in practice: 4 000 000 s. MySQL's maximum is 4294967295 ms
/// (about 50 days, manual 19.4.10.3); MariaDB's is larger.
const FOREVER_MS: u64 = 4_000_000_000;

/// Durability as it is observed. `facts` of all members that were read lately; nothing is concluded about the others.
pub fn observed(cluster: &Cluster, facts: &BTreeMap<ServerId, Arc<ServerFacts>>) -> Option<Durability> {
    let primary = cluster.primary.as_ref()?;
    let semi = &facts.get(primary)?.semi_sync;
    if semi.source_enabled != Some(true) {
        return Some(Durability::Async);
    }
    let ackers: Vec<ServerId> = cluster
        .replicas_of(primary)
        .filter(|m| facts.get(&m.server).is_some_and(|f| f.semi_sync.replica_enabled == Some(true)))
        .map(|m| m.server.clone())
        .collect();
    let known = cluster.replicas_of(primary).all(|m| facts.contains_key(&m.server));
    if !known {
        return None;
    }
    let acks = semi.source_wait_for.unwrap_or(1);
    let unprotected = |why: String| Some(Durability::Unprotected { why });
    if semi.source_status != Some(true) {
        return unprotected("the semi-sync source has fallen back to asynchronous".into());
    }
    match semi.source_timeout_ms {
        Some(ms) if ms >= FOREVER_MS => {}
        Some(ms) => {
            return unprotected(format!(
                "the semi-sync time-out is {ms} ms: the source gives up waiting and acknowledges; set it to its maximum"
            ));
        }
        None => return unprotected("the semi-sync time-out is not known".into()),
    }
    if semi.source_wait_no_replica == Some(false) {
        return unprotected(
            "wait_no_replica is off: with no acker connected the source acknowledges at once".into(),
        );
    }
    if ackers.len() < acks as usize {
        return unprotected(format!(
            "a commit waits for {acks} acknowledgements and {} ackers are there",
            ackers.len()
        ));
    }
    Some(Durability::SemiSync { acks, ackers })
}
