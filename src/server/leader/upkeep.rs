//! Keeping the record of clusters current: edges, new replicas, durability, expiries. Off every critical path; one pass
//! at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;

use super::{Leader, Message, newcomers};
use crate::{
    core::{
        analysis::observation::{AttemptEnd, Observation},
        plan::{
            durability,
            outside::{self, Outside},
        },
        replicated::{Change, Cluster, Durability, EventKind, Member, MemberState, OrderStage},
    },
    model::{
        facts::ServerFacts,
        server::{ClusterId, ServerId},
    },
    server::{
        discovery::Discovery,
        group::SELF,
        observer::{ObserverHandle, Seen},
        tools::Tools,
    },
};

/// How long a member is waited for that is read now.
const READ: Duration = Duration::from_millis(1_000);
/// Pause between two passes, milliseconds.
const PASS_MS: u64 = 500;
/// Facts older than this are no longer looked at, milliseconds.
const FRESH_MS: u64 = 5_000;

/// What is seen of a primary changed by hand counts once it has lasted this long, milliseconds: all that it rests on was
/// then read since it began, and nobody is in the middle of changing it.
const LASTING_MS: u64 = FRESH_MS;

/// What was seen of each cluster's primary, since when, and whether that was acted on.
#[derive(Default)]
struct Lasting(BTreeMap<ClusterId, (Outside, u64, bool)>);

impl Lasting {
    /// What has lasted now; once.
    fn news(&mut self, cluster: &ClusterId, judged: Outside, now_ms: u64) -> Option<Outside> {
        let fresh = (judged.clone(), now_ms, false);
        let entry = self.0.entry(cluster.clone()).or_insert_with(|| fresh.clone());
        if entry.0 != judged {
            *entry = fresh;
        }
        let lasts = now_ms.saturating_sub(entry.1) >= LASTING_MS;
        // A move is tried again until it is in the record: a commit may fail.
        let again = matches!(judged, Outside::Moved { .. });
        (lasts && (again || !std::mem::replace(&mut entry.2, true))).then_some(judged)
    }
}

/// When the last pass was, and whether one runs.
#[derive(Default)]
pub struct Upkeep {
    last_ms: u64,
    running: bool,
    outside: Arc<Mutex<Lasting>>,
    tried: Arc<newcomers::Tried>,
}

impl Upkeep {
    /// The pass ended.
    pub fn done(&mut self) {
        self.running = false;
    }
}

impl Leader {
    pub(super) fn tend_upkeep(&mut self) {
        let now = self.tools.now_ms();
        if self.upkeep.running || now.saturating_sub(self.upkeep.last_ms) < PASS_MS {
            return;
        }
        self.upkeep.running = true;
        self.upkeep.last_ms = now;
        let expiry = self.tools.read(|state| state.next_expiry());
        if expiry
            .is_some_and(|at| self.tools.group.log_now_ms(self.leadership.term).is_some_and(|log| log >= at))
        {
            self.commit_aside(Change::Tick);
        }
        let pass = Pass {
            tools: self.tools.clone(),
            observer: self.observer.clone(),
            discovery: self.discovery.clone(),
            outside: self.upkeep.outside.clone(),
            tried: self.upkeep.tried.clone(),
            term: self.leadership.term,
        };
        let inbox = self.inbox.clone();
        self.work.spawn(self.tools.task(async move {
            pass.run().await;
            let _ = inbox.send(Message::UpkeepDone).await;
        }));
    }
}

struct Pass {
    tools: Tools,
    observer: ObserverHandle,
    discovery: Arc<Discovery>,
    outside: Arc<Mutex<Lasting>>,
    tried: Arc<newcomers::Tried>,
    term: u64,
}

impl Pass {
    async fn run(&self) {
        let ids: Vec<ClusterId> = self.tools.read(|state| state.clusters.keys().cloned().collect());
        for id in ids {
            let cluster = self.tools.read(|state| state.clusters.get(&id).cloned());
            let Some(cluster) = cluster.filter(|c| c.slot.is_none()) else { continue };
            if let Some(seen) = self.observer.look(id).await {
                self.tend(&cluster, &seen).await;
            }
        }
    }

    async fn tend(&self, cluster: &Cluster, seen: &Seen) {
        let facts = fresh(seen);
        if let Some(primary) = &cluster.primary
            && let Some(durability) = durability::observed(primary, cluster.members.values(), &facts)
            && let durability = self.with_staying(cluster, durability).await
            && durability != cluster.durability
        {
            self.commit(Change::SetDurability { cluster: cluster.id.clone(), durability }).await;
        }
        if self.adopt_primary(cluster, &facts).await || self.follow_primary(cluster, &facts).await {
            return;
        }
        let (mut members, mut why) = changed(cluster, &facts, &seen.observations);
        let new = newcomers::look(&self.tools, &self.discovery, &self.tried, cluster, &facts).await;
        why.extend(new.iter().map(|member| format!("new replica {}", member.address)));
        members.extend(new);
        if !members.is_empty() {
            let generation = cluster.generation;
            let cluster = cluster.id.clone();
            self.commit(Change::UpdateMembers { cluster, generation, members, why: why.join("; ") }).await;
        }
    }

    /// What is observed, with those ackers on record that may still acknowledge, or alone hold what they acknowledged (P6).
    async fn with_staying(&self, cluster: &Cluster, now: Durability) -> Durability {
        let leaving = durability::leaving(&cluster.durability, &now);
        if leaving.is_empty() {
            return now;
        }
        match self.may_leave(cluster, &leaving, &now).await {
            true => now,
            false => now.with(leaving),
        }
    }

    /// Whether none of them acknowledges any more, and the others hold all that the primary has executed since: read in that
    /// order, now. Who was forgotten is nobody's matter.
    async fn may_leave(&self, cluster: &Cluster, leaving: &[ServerId], now: &Durability) -> bool {
        let (Some(primary), Durability::SemiSync { ackers, .. }) = (cluster.primary_member(), now) else {
            return true;
        };
        let rejoining = self.tools.read(|state| {
            let orders = leaving.iter().filter_map(|server| state.order_of(server));
            orders.into_iter().any(|order| order.stage == OrderStage::Rejoining)
        });
        if rejoining {
            return false;
        }
        let Some(gone) = self.read_all(cluster, leaving).await else { return false };
        if gone.iter().any(|facts| durability::acknowledges(facts, primary)) {
            return false;
        }
        let Some(executed) = self.read(primary).await else { return false };
        self.read_all(cluster, ackers).await.is_some_and(|left| durability::hold_all(&executed, &left))
    }

    /// What those of them say now that are members; `None` when one does not answer.
    async fn read_all(&self, cluster: &Cluster, servers: &[ServerId]) -> Option<Vec<ServerFacts>> {
        let members = servers.iter().filter_map(|server| cluster.members.get(server));
        join_all(members.map(|member| self.read(member))).await.into_iter().collect()
    }

    async fn read(&self, member: &Member) -> Option<ServerFacts> {
        let read = self.tools.within(READ, self.tools.ports.servers.read(&member.address)).await;
        read?.ok().filter(|facts| member.identity.matches(&facts.identity))
    }

    /// A cluster adopted without a clear primary gets one when exactly one writable root is seen.
    async fn adopt_primary(&self, cluster: &Cluster, facts: &BTreeMap<ServerId, Arc<ServerFacts>>) -> bool {
        if cluster.primary.is_some() || facts.len() != cluster.members.len() {
            return false;
        }
        let roots: Vec<&ServerId> =
            facts.iter().filter(|(_, f)| f.channels.is_empty() && f.writable()).map(|(s, _)| s).collect();
        let [root] = roots[..] else { return false };
        let Some(durability) = durability::observed(root, cluster.members.values(), facts) else {
            return false;
        };
        let change = Change::SetPrimary {
            cluster: cluster.id.clone(),
            generation: cluster.generation,
            primary: root.clone(),
            durability,
        };
        self.commit(change).await;
        true
    }

    /// A primary that was changed by hand: the record follows where all that answer agree; doubt is said once.
    async fn follow_primary(&self, cluster: &Cluster, facts: &BTreeMap<ServerId, Arc<ServerFacts>>) -> bool {
        let judged = outside::judge(cluster, facts);
        let lasting = self.outside.lock().unwrap_or_else(PoisonError::into_inner).news(
            &cluster.id,
            judged,
            self.tools.now_ms(),
        );
        let (moved, change) = match lasting {
            Some(Outside::Moved { primary, why }) => {
                let (cluster, generation) = (cluster.id.clone(), cluster.generation);
                (true, Change::FollowPrimary { cluster, generation, primary, why })
            }
            Some(Outside::Unclear { why }) => {
                let cluster = Some(cluster.id.clone());
                (false, Change::Note { kind: EventKind::Alert, cluster, server: None, text: why })
            }
            Some(Outside::Same) | None => return false,
        };
        self.commit(change).await;
        moved
    }

    async fn commit(&self, change: Change) {
        let name = change.name();
        match self.tools.group.propose(self.term, change, SELF, None).await {
            Ok(committed) => tracing::debug!(command = name, outcome = ?committed.outcome, "upkeep"),
            Err(error) => tracing::info!(command = name, %error, "upkeep was not committed"),
        }
    }
}

/// Facts of those who answered at their last attempt, lately and since the last change of structure.
fn fresh(seen: &Seen) -> BTreeMap<ServerId, Arc<ServerFacts>> {
    seen.observations
        .iter()
        .filter(|(_, o)| matches!(o.last_attempt, Some((_, AttemptEnd::Answered))))
        .filter(|(_, o)| {
            let at = o.answered_ms.filter(|at| *at >= seen.shape_since_ms);
            at.is_some_and(|at| seen.now_ms.saturating_sub(at) <= FRESH_MS)
        })
        .filter_map(|(s, o)| o.facts.clone().map(|f| (s.clone(), f)))
        .collect()
}

/// Members whose edge, version or identity is no longer as committed, and what changed.
fn changed(
    cluster: &Cluster,
    facts: &BTreeMap<ServerId, Arc<ServerFacts>>,
    observations: &BTreeMap<ServerId, Observation>,
) -> (Vec<Member>, Vec<String>) {
    let (mut members, mut why) = (Vec::new(), Vec::new());
    for member in cluster.members.values() {
        let mut now = member.clone();
        if let Some(facts) = facts.get(&member.server) {
            let channel = cluster.channel_of(member, facts);
            now.source = channel
                .and_then(|c| cluster.source_of(c))
                .map(|m| m.server.clone())
                .or(member.source.clone().filter(|_| channel.is_some()));
            now.channel = channel.map(|c| c.name.clone()).unwrap_or_else(|| member.channel.clone());
            now.channels = facts.channels.len() as u32;
            now.version = facts.version.text.clone();
        }
        let other = observations.get(&member.server).and_then(|o| match &o.last_attempt {
            Some((_, AttemptEnd::WrongIdentity { seen })) => Some(seen.clone()),
            _ => None,
        });
        if let Some(seen) = other
            && member.state == MemberState::Normal
            && cluster.primary.as_ref() != Some(&member.server)
        {
            now.state = MemberState::Changed { what: format!("bound to {}, now {seen}", member.identity) };
        }
        if &now != member {
            why.push(describe(cluster, member, &now));
            members.push(now);
        }
    }
    (members, why)
}

fn describe(cluster: &Cluster, before: &Member, now: &Member) -> String {
    let name = |source: &Option<ServerId>| {
        let address = source.as_ref().and_then(|s| cluster.members.get(s)).map(|m| m.address.to_string());
        address.unwrap_or_else(|| "nobody in the cluster".into())
    };
    let address = &now.address;
    if before.state != now.state {
        return format!("ANOTHER SERVER answers at {address}: {:?}", now.state);
    }
    if before.source != now.source {
        return format!("{address} replicates from {} (before: {})", name(&now.source), name(&before.source));
    }
    if before.channels != now.channels {
        return format!("{address} has {} sources", now.channels);
    }
    format!("{address} runs {}", now.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_told_once_it_lasts_and_once_and_a_move_until_it_is_recorded() {
        let id = ClusterId("c".into());
        let doubt = |why: &str| Outside::Unclear { why: why.into() };
        let moved = Outside::Moved { primary: ServerId("s".into()), why: String::new() };
        let mut lasting = Lasting::default();
        assert_eq!(lasting.news(&id, doubt("a"), 0), None);
        assert_eq!(lasting.news(&id, doubt("b"), LASTING_MS), None, "another doubt begins anew");
        assert_eq!(lasting.news(&id, doubt("b"), 2 * LASTING_MS), Some(doubt("b")));
        assert_eq!(lasting.news(&id, doubt("b"), 3 * LASTING_MS), None, "once");
        assert_eq!(lasting.news(&id, moved.clone(), 3 * LASTING_MS), None);
        for again in [4, 5] {
            assert_eq!(lasting.news(&id, moved.clone(), again * LASTING_MS), Some(moved.clone()));
        }
        assert_eq!(lasting.news(&id, Outside::Same, 5 * LASTING_MS), None);
        assert_eq!(lasting.news(&id, moved, 5 * LASTING_MS + 1), None, "it begins anew");
    }
}
