//! What this node sees: one prober a server, an observation each, and this node's verdict on every cluster.
//!
//! One task owns it all. It is told of probes, of changes in the replicated state, of the leader's urgent rounds and of
//! this node's own pauses; it tells the reporter whenever its verdict on a cluster changed.

mod handle;
pub mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

pub use self::handle::{Input, ObserverHandle, Seen, Sighting, Views};
use self::watch::Watch;
use crate::{
    core::{
        analysis::{
            Verdict,
            observation::{AttemptEnd, Observation},
            problem::{self, View},
        },
        plan::{choose::Sets, step::Target},
        replicated::{Cluster, MemberState, State},
    },
    model::{
        facts::ServerFacts,
        gtid::GtidSet,
        policy::Policy,
        server::{ClusterId, ServerId},
    },
    probe::{Mode, Outcome, ProbeEvent, ProbeSettings, ProbeTarget},
    server::{ports::Probe, tools::Tools},
};

/// Probe ends under way to the observer. Probers wait when it is full; they have nothing better to do.
const PROBES: usize = 4_096;
/// Requests under way to the observer.
const INPUTS: usize = 256;
/// How often the replicas of a gone primary are looked at again.
const HASTY: Duration = Duration::from_millis(15);
/// How often the replicas of a silent primary are looked at again.
const BRISK: Duration = Duration::from_millis(150);
/// How often time alone is let pass while a primary is suspected, milliseconds. Else nothing changes between two probes
/// but that the next answer of a primary becomes overdue.
const TICK_MS: u64 = 50;
/// How often what is seen of a cluster is published for readers at most, milliseconds.
const PUBLISH_MS: u64 = 200;
/// How long replicas of a gone primary are looked at hastily.
const HASTY_FOR_MS: u64 = 3_000;

struct Watched {
    watch: Watch,
    handle: Box<dyn Probe>,
    target: Target,
    cluster: ClusterId,
    is_primary: bool,
    /// A standing order may be about it: whatever it answers is told.
    ordered: bool,
    settings: ProbeSettings,
}

#[derive(Default)]
struct Round {
    silent_ms: Option<u64>,
    waiting: Vec<oneshot::Sender<Option<Verdict>>>,
    running: bool,
    hasty_since_ms: Option<u64>,
    reprobed_ms: u64,
}

/// What a cluster was like when it was last looked at anew.
#[derive(PartialEq, Eq)]
struct Shape {
    epoch: u64,
    busy: bool,
}

struct Observer {
    tools: Tools,
    probes: mpsc::Sender<ProbeEvent>,
    inputs: mpsc::Sender<Input>,
    out: mpsc::Sender<Sighting>,
    watched: BTreeMap<ServerId, Watched>,
    rounds: BTreeMap<ClusterId, Round>,
    /// Each cluster's shape, and since when it is so.
    shapes: BTreeMap<ClusterId, (Shape, u64)>,
    said: BTreeMap<ClusterId, (Verdict, u64)>,
    sequence: u64,
    policy: Policy,
    views: Views,
    ticked_ms: u64,
}

/// Starts observing.
pub fn observe(tools: Tools, out: mpsc::Sender<Sighting>) -> ObserverHandle {
    let (inputs, inbox) = mpsc::channel(INPUTS);
    let (probes, probe_ends) = mpsc::channel(PROBES);
    let views = Views::default();
    let spawner = tools.clone();
    let observer = Observer {
        tools,
        probes,
        inputs: inputs.clone(),
        out,
        watched: BTreeMap::new(),
        rounds: BTreeMap::new(),
        shapes: BTreeMap::new(),
        said: BTreeMap::new(),
        sequence: 0,
        policy: Policy::default(),
        views: views.clone(),
        ticked_ms: 0,
    };
    spawner.start(observer.run(inbox, probe_ends));
    ObserverHandle { inputs, views }
}

impl Observer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Input>, mut probe_ends: mpsc::Receiver<ProbeEvent>) {
        let mut applied = self.tools.ports.log.applied();
        let mut pauses = self.tools.ports.host.pauses();
        self.sequence = self.first_sequence();
        self.follow_state();
        loop {
            let wake = async {
                match self.next_tick() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = probe_ends.recv() => self.probe_ended(event),
                Some(input) = inbox.recv() => self.input(input),
                Ok(()) = applied.changed() => self.follow_state(),
                Ok(()) = pauses.changed() => self.input(Input::Paused),
                () = wake => self.tick(),
            }
        }
    }

    /// Beyond anything this node may have said before it restarted, reports still under way included.
    fn first_sequence(&self) -> u64 {
        let me = self.tools.node_id();
        let newest = |state: &State| {
            state.verdicts.values().filter_map(|of| of.get(&me)).map(|v| v.sequence).max().unwrap_or(0)
        };
        self.tools.read(newest) + 1_000
    }

    // ---- Following the replicated state: who is watched, and how often.

    fn follow_state(&mut self) {
        let (clusters, policy) = self.tools.read(|state| (state.clusters.clone(), state.policy.clone()));
        self.policy = policy;
        let mut wanted: BTreeSet<ServerId> = BTreeSet::new();
        for cluster in clusters.values() {
            for member in cluster.members.values() {
                wanted.insert(member.server.clone());
                let is_primary = cluster.primary.as_ref() == Some(&member.server);
                let away = member.state == MemberState::Replaced;
                let ordered = away || matches!(member.state, MemberState::Quarantined { .. });
                self.watch(cluster, member.target(), is_primary, away, ordered);
            }
            self.follow_shape(cluster);
        }
        let gone: Vec<ServerId> = self.watched.keys().filter(|s| !wanted.contains(s)).cloned().collect();
        for server in gone {
            self.watched.remove(&server);
            self.tools.ports.servers.forget(&server);
        }
        self.rounds.retain(|cluster, _| clusters.contains_key(cluster));
        self.shapes.retain(|cluster, _| clusters.contains_key(cluster));
        self.said.retain(|cluster, _| clusters.contains_key(cluster));
        self.lock_views().retain(|cluster, _| clusters.contains_key(cluster));
        for cluster in clusters.keys() {
            self.publish(cluster);
        }
    }

    /// A new primary, or the end of a recovery: who follows whom has just changed, and what was read before is no
    /// longer true. Everyone is asked again at once.
    fn follow_shape(&mut self, cluster: &Cluster) {
        let shape = Shape { epoch: cluster.epoch, busy: cluster.slot.is_some() };
        if self.shapes.get(&cluster.id).is_some_and(|(known, _)| known == &shape) {
            return;
        }
        for watched in self.watched.values().filter(|w| w.cluster == cluster.id) {
            watched.handle.reprobe();
        }
        self.shapes.insert(cluster.id.clone(), (shape, self.tools.now_ms()));
    }

    fn watch(&mut self, cluster: &Cluster, target: Target, is_primary: bool, away: bool, ordered: bool) {
        let settings = ProbeSettings {
            interval: Duration::from_millis(match is_primary {
                true => self.policy.primary_probe_interval_ms,
                false => self.policy.replica_probe_interval_ms,
            }),
            inventory_interval: Duration::from_millis(self.policy.inventory_interval_ms),
            mode: if away { Mode::Suspected } else { Mode::Steady },
        };
        if let Some(watched) = self.watched.get_mut(&target.server)
            && watched.target.address == target.address
        {
            if watched.settings != settings {
                watched.settings = settings;
                watched.handle.set(settings);
            }
            if watched.target != target {
                watched.target = target;
            }
            watched.cluster = cluster.id.clone();
            watched.ordered = ordered;
            if watched.is_primary != is_primary {
                watched.is_primary = is_primary;
                watched.watch.begin_rhythm(self.tools.now_ms());
                self.rounds.remove(&cluster.id);
            }
            return;
        }
        let probe = ProbeTarget { server: Some(target.server.clone()), address: target.address.clone() };
        let handle = self.tools.ports.servers.watch(probe, settings, self.probes.clone());
        self.tools.ports.servers.prepare(&target);
        let entry = Watched {
            watch: Watch::begun(self.tools.now_ms()),
            handle,
            cluster: cluster.id.clone(),
            is_primary,
            ordered,
            settings,
            target: target.clone(),
        };
        self.watched.insert(target.server, entry);
    }

    // ---- Probes.

    fn probe_ended(&mut self, event: ProbeEvent) {
        let Some(server) = event.server else { return };
        let Some(watched) = self.watched.get_mut(&server) else { return };
        let at_ms = self.tools.now_ms().saturating_sub(event.ended.elapsed().as_millis() as u64);
        let (end, facts) = outcome(event.outcome, event.fresh);
        let expected = watched.target.identity.clone();
        let channel = facts.as_ref().and_then(|facts| {
            self.tools.read(|state| {
                let cluster = state.clusters.get(&watched.cluster)?;
                cluster.channel_of(cluster.members.get(&server)?, facts).cloned()
            })
        });
        watched.watch.attempt(at_ms, end, facts.map(|f| *f), Some(&expected), channel.as_ref());
        let (cluster, is_primary) = (watched.cluster.clone(), watched.is_primary);
        if watched.ordered {
            self.tell_answered(&server);
        }
        if is_primary {
            self.look_after_replicas(&cluster);
        }
        self.judge(&cluster);
        self.publish(&cluster);
    }

    fn tell_answered(&mut self, server: &ServerId) {
        let observation = &self.watched[server].watch.observation;
        let answered = matches!(observation.last_attempt, Some((_, AttemptEnd::Answered)));
        if let (true, Some(facts)) = (answered, &observation.facts) {
            let sighting = Sighting::Answered { server: server.clone(), writable: facts.writable() };
            let _ = self.out.try_send(sighting);
        }
    }

    /// A primary that is gone or silent: its replicas are witnesses and are asked again at once.
    fn look_after_replicas(&mut self, id: &ClusterId) {
        let Some(suspected) = self.with_view(id, problem::suspected) else { return };
        let now = self.tools.now_ms();
        let round = self.rounds.entry(id.clone()).or_default();
        if !suspected {
            round.hasty_since_ms = None;
            return;
        }
        let since = *round.hasty_since_ms.get_or_insert(now);
        let pace = match self.primary_gone(id) && now.saturating_sub(since) < HASTY_FOR_MS {
            true => HASTY,
            false => BRISK,
        };
        let round = self.rounds.entry(id.clone()).or_default();
        if now.saturating_sub(round.reprobed_ms) < pace.as_millis() as u64 {
            return;
        }
        round.reprobed_ms = now;
        for watched in self.watched.values().filter(|w| &w.cluster == id && !w.is_primary) {
            watched.handle.reprobe();
        }
    }

    fn primary_gone(&self, id: &ClusterId) -> bool {
        let primary = self.watched.values().find(|w| &w.cluster == id && w.is_primary);
        primary.is_some_and(|w| {
            matches!(
                w.watch.observation.last_attempt,
                Some((_, AttemptEnd::Refused | AttemptEnd::ShuttingDown | AttemptEnd::Closed))
            )
        })
    }

    // ---- Judging.

    fn with_view<T>(&self, id: &ClusterId, look: impl FnOnce(&View<'_>) -> T) -> Option<T> {
        let observations: BTreeMap<ServerId, Observation> = self
            .watched
            .iter()
            .filter(|(_, w)| &w.cluster == id)
            .map(|(s, w)| (s.clone(), w.watch.observation.clone()))
            .collect();
        let urgent_round_done_ms = self.rounds.get(id).and_then(|r| r.silent_ms);
        let now_ms = self.tools.now_ms();
        self.tools.read(|state| {
            let cluster = state.clusters.get(id)?;
            let view = View {
                cluster,
                observations: &observations,
                policy: &self.policy,
                downtimes: &state.downtimes,
                now_ms,
                urgent_round_done_ms,
                recoveries_running: cluster.slot.is_some(),
            };
            Some(look(&view))
        })
    }

    fn verdict(&mut self, id: &ClusterId) -> Option<Verdict> {
        let (epoch, subject) = self.tools.read(|state| {
            let cluster = state.clusters.get(id)?;
            Some((cluster.epoch, cluster.primary.clone()?))
        })?;
        let finding = self.with_view(id, problem::finding)?;
        self.sequence += 1;
        Some(Verdict {
            node: self.tools.node_id(),
            incarnation: self.tools.ports.log.incarnation().to_owned(),
            sequence: self.sequence,
            cluster: id.clone(),
            epoch,
            subject,
            finding,
        })
    }

    /// Says what is new at once; a failure that holds is repeated, so that it stays fresh at the leader.
    fn judge(&mut self, id: &ClusterId) {
        let Some(verdict) = self.verdict(id) else { return };
        let now = self.tools.now_ms();
        let repeat_ms = match verdict.failure() {
            Some(_) => 200,
            None => 2_000,
        };
        let news = self.said.get(id).is_none_or(|(said, at)| {
            weight(said) != weight(&verdict) || now.saturating_sub(*at) >= repeat_ms
        });
        if news {
            self.said.insert(id.clone(), (verdict.clone(), now));
            if self.out.try_send(Sighting::Verdict(verdict)).is_err() {
                tracing::warn!(cluster = %id, "the reporter is behind; a verdict was dropped");
            }
        }
    }

    // ---- Requests.

    fn input(&mut self, input: Input) {
        match input {
            Input::Urgent { cluster, bound_ms, reply } => self.start_urgent(cluster, bound_ms, reply),
            Input::UrgentEnded { cluster, began_ms, silent } => self.urgent_ended(&cluster, began_ms, silent),
            Input::Look { cluster, reply } => {
                let _ = reply.send(self.look(&cluster));
            }
            Input::Paused => self.paused(),
            Input::Inventory(servers) => {
                for server in servers {
                    if let Some(watched) = self.watched.get(&server) {
                        watched.handle.inventory_now();
                    }
                }
            }
        }
    }

    fn start_urgent(&mut self, id: ClusterId, bound_ms: u64, reply: oneshot::Sender<Option<Verdict>>) {
        let Some(primary) = self.watched.values().find(|w| w.cluster == id && w.is_primary) else {
            let _ = reply.send(None);
            return;
        };
        let round = self.rounds.entry(id.clone()).or_default();
        round.waiting.push(reply);
        if round.running {
            return;
        }
        round.running = true;
        let began_ms = self.tools.now_ms();
        let attempt = primary.handle.urgent(Duration::from_millis(bound_ms));
        for watched in self.watched.values().filter(|w| w.cluster == id && !w.is_primary) {
            watched.handle.reprobe();
        }
        let inputs = self.inputs.clone();
        self.tools.start(async move {
            // Refused, unreachable and closed are no answers either: nothing living spoke within the bound.
            let silent = attempt.await.is_ok_and(|event| !event.outcome.spoke());
            let _ = inputs.send(Input::UrgentEnded { cluster: id, began_ms, silent }).await;
        });
    }

    fn urgent_ended(&mut self, id: &ClusterId, began_ms: u64, silent: bool) {
        let answered_since = self
            .watched
            .values()
            .find(|w| &w.cluster == id && w.is_primary)
            .is_some_and(|w| w.watch.observation.answered_ms.is_some_and(|at| at >= began_ms));
        let now_ms = self.tools.now_ms();
        let round = self.rounds.entry(id.clone()).or_default();
        round.running = false;
        round.silent_ms = (silent && !answered_since).then(|| now_ms);
        let waiting = std::mem::take(&mut round.waiting);
        let verdict = self.verdict(id);
        for reply in waiting {
            let _ = reply.send(verdict.clone());
        }
        self.judge(id);
    }

    fn look(&self, id: &ClusterId) -> Option<Seen> {
        let (problems, finding) =
            self.with_view(id, |view| (problem::problems(view), problem::finding(view)))?;
        let of_cluster = || self.watched.iter().filter(|(_, w)| &w.cluster == id);
        let primary = of_cluster().find(|(_, w)| w.is_primary);
        let old_primary: Option<GtidSet> =
            primary.and_then(|(_, w)| w.watch.observation.facts.as_ref()).map(|f| f.executed.clone());
        Some(Seen {
            observations: of_cluster().map(|(s, w)| (s.clone(), w.watch.observation.clone())).collect(),
            problems,
            finding: Some(finding),
            now_ms: self.tools.now_ms(),
            shape_since_ms: self.shapes.get(id).map_or(0, |(_, since)| *since),
            sets: Sets {
                facts: BTreeMap::new(),
                old_primary,
                high_water: of_cluster()
                    .filter_map(|(s, w)| w.watch.high_water.clone().map(|(_, set)| (s.clone(), set)))
                    .collect(),
            },
        })
    }

    /// What was held open across an own pause says nothing; until one fresh round this node is blind.
    fn paused(&mut self) {
        for watched in self.watched.values_mut() {
            watched.watch.discard(self.tools.now_ms());
            watched.handle.discard();
            watched.handle.reprobe();
        }
        self.rounds.clear();
        self.tools.ports.servers.drop_all();
        for id in self.clusters() {
            self.judge(&id);
        }
    }

    fn clusters(&self) -> BTreeSet<ClusterId> {
        self.watched.values().map(|w| w.cluster.clone()).collect()
    }

    /// How long until time alone may change what this node says.
    fn next_tick(&self) -> Option<Duration> {
        let next = |primary: &Watched| {
            let round = self.rounds.get(&primary.cluster);
            match round.is_some_and(|r| r.hasty_since_ms.is_some()) {
                true => Some(self.ticked_ms + TICK_MS),
                false => problem::suspected_from_ms(&primary.watch.observation, &self.policy),
            }
        };
        let at_ms = self.watched.values().filter(|w| w.is_primary).filter_map(next).min()?;
        Some(Duration::from_millis(at_ms.saturating_sub(self.tools.now_ms())))
    }

    fn tick(&mut self) {
        self.ticked_ms = self.tools.now_ms();
        for id in self.clusters() {
            self.look_after_replicas(&id);
            self.judge(&id);
            self.publish(&id);
        }
    }

    /// Shows what is seen of a cluster to readers who must not wait.
    fn publish(&self, id: &ClusterId) {
        let due = |seen: &Arc<Seen>| self.tools.now_ms().saturating_sub(seen.now_ms) >= PUBLISH_MS;
        if !self.lock_views().get(id).is_none_or(due) {
            return;
        }
        if let Some(seen) = self.look(id) {
            self.lock_views().insert(id.clone(), Arc::new(seen));
        }
    }

    fn lock_views(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Arc<Seen>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a verdict news: the failure and how strong its evidence is.
fn weight(verdict: &Verdict) -> (String, u64, Option<(bool, bool)>) {
    let strength = verdict.failure().map(|(_, _, evidence)| (evidence.hard, evidence.urgent_round_done));
    (verdict.label(), verdict.epoch, strength)
}

/// The probe's outcome in the analysis' terms. Only a fresh attempt can tell a server that greets from one that is
/// frozen: on a held connection both are silent.
fn outcome(outcome: Outcome, fresh: bool) -> (AttemptEnd, Option<Box<ServerFacts>>) {
    let end = match outcome {
        Outcome::Answered { facts, .. } => return (AttemptEnd::Answered, Some(facts)),
        Outcome::Refused => AttemptEnd::Refused,
        Outcome::Silent(text) => {
            AttemptEnd::Silent { greeted: fresh && (text.contains("no login") || text.contains("no answer")) }
        }
        Outcome::Closed(_) => AttemptEnd::Closed,
        Outcome::TooManyConnections(_) => AttemptEnd::TooManyConnections,
        Outcome::ShuttingDown(_) => AttemptEnd::ShuttingDown,
        Outcome::AccessDenied(why) | Outcome::OfflineMode(why) => AttemptEnd::LoginFailed { why },
        Outcome::MissingGrant(missing) => AttemptEnd::LoginFailed { why: missing.to_string() },
        Outcome::Unreachable(why) | Outcome::NotMySql(why) | Outcome::Tls(why) | Outcome::Failed(why) => {
            AttemptEnd::Failed { why }
        }
    };
    (end, None)
}
