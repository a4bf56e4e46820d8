//! Replicas that a member lists and nobody knows yet. A list is a server's word: it may be long, name nobody, or name
//! servers that follow somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use crate::{
    core::replicated::{Cluster, Member, State},
    model::{
        address::Address,
        facts::{ListedReplica, ServerFacts},
        server::ServerId,
    },
    server::{
        discovery::{Discovery, member_of},
        tools::Tools,
    },
};

/// How many are read in one pass, side by side.
const AT_ONCE: usize = 4;
/// One that is no new replica is not read again for this long, milliseconds.
const AGAIN_MS: u64 = 60_000;
/// Most that are remembered for that.
const TRIED_MAX: usize = 1_000;

/// Addresses that led to nobody, with when they were read.
#[derive(Debug, Default)]
pub struct Tried(Mutex<BTreeMap<Address, u64>>);

impl Tried {
    fn is_due(&self, address: &Address, now_ms: u64) -> bool {
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = |at: &u64| now_ms.saturating_sub(*at) >= AGAIN_MS;
        tried.get(address).map_or(tried.len() < TRIED_MAX || tried.values().any(again), again)
    }

    fn note(&self, address: Address, now_ms: u64) {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|_, at| now_ms.saturating_sub(*at) < AGAIN_MS);
        if tried.len() < TRIED_MAX {
            tried.insert(address, now_ms);
        }
    }
}

/// A listed replica, and who lists it.
struct Listed<'a> {
    address: &'a Address,
    source: &'a ServerId,
    source_facts: &'a ServerFacts,
}

/// New members of `cluster`, as `facts` of its members list them: each was read, and follows the one that lists it.
pub async fn look(
    tools: &Tools,
    discovery: &Discovery,
    tried: &Tried,
    cluster: &Cluster,
    facts: &BTreeMap<ServerId, std::sync::Arc<ServerFacts>>,
) -> Vec<Member> {
    let now_ms = tools.now_ms();
    let unknown = tools.read(|state| {
        let mut named = BTreeSet::new();
        let listed = facts.iter().flat_map(|(source, facts)| {
            let replicas = facts.replicas.iter().flatten();
            replicas.map(move |listed| (listed, source, &**facts))
        });
        let unknown = listed.filter_map(|(listed, source, source_facts)| {
            let address = listed.address.as_ref()?;
            let new = !is_known(state, cluster, listed, address) && tried.is_due(address, now_ms);
            (new && named.insert(address.clone())).then_some(Listed { address, source, source_facts })
        });
        unknown.take(AT_ONCE).collect::<Vec<_>>()
    });
    let read = unknown.iter().map(|listed| async move {
        match newcomer(tools, discovery, listed).await {
            Ok(member) => Some(member),
            Err(why) => {
                tracing::info!(address = %listed.address, why, "a listed replica is not taken in");
                tried.note(listed.address.clone(), now_ms);
                None
            }
        }
    });
    futures::future::join_all(read).await.into_iter().flatten().collect()
}

/// A member here, or of any other cluster.
fn is_known(state: &State, cluster: &Cluster, listed: &ListedReplica, address: &Address) -> bool {
    let here = cluster.members.values().any(|m| {
        (listed.server_uuid.is_some() && m.identity.server_uuid == listed.server_uuid)
            || m.identity.server_id == listed.server_id
    });
    let by_uuid = |uuid: &String| state.cluster_of(&ServerId(uuid.clone())).is_some();
    here || state.member_at(address).is_some() || listed.server_uuid.as_ref().is_some_and(by_uuid)
}

async fn newcomer(tools: &Tools, discovery: &Discovery, listed: &Listed<'_>) -> Result<Member, String> {
    let Listed { address, source, source_facts } = listed;
    let found = discovery.read(address).await.map_err(|error| error.to_string())?;
    let source_address = tools.read(|state| {
        let cluster = state.cluster_of(source)?;
        cluster.members.get(source).map(|m| m.address.clone())
    });
    let follows =
        source_address.is_some_and(|at| found.channel_from(&source_facts.identity, &at, "").is_some());
    if !follows {
        return Err(format!("it does not follow the server that lists it, {source}"));
    }
    let datacenter = tools.read(|state| state.datacenter_of(address));
    let member = member_of(address, &found, datacenter, || tools.ports.host.unique());
    if tools.read(|state| state.cluster_of(&member.server).is_some()) {
        return Err(format!("it is known already, as {}", member.server));
    }
    Ok(Member { source: Some((*source).clone()), ..member })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_led_nowhere_is_left_alone_for_a_while_and_memory_is_bounded() {
        let (tried, address) = (Tried::default(), |n: usize| Address::new(format!("db{n}"), 3306));
        for n in 0..2 * TRIED_MAX {
            tried.note(address(n), 1_000);
        }
        assert_eq!(tried.0.lock().unwrap().len(), TRIED_MAX);
        assert!(!tried.is_due(&address(0), 1_000 + AGAIN_MS - 1));
        assert!(!tried.is_due(&address(5 * TRIED_MAX), 1_000), "no room to remember another");
        assert!(tried.is_due(&address(0), 1_000 + AGAIN_MS));
        assert!(tried.is_due(&address(5 * TRIED_MAX), 1_000 + AGAIN_MS));
    }
}
