//! What this node sees: one prober a server, an observation each, and this node's verdict on every cluster.
//!
//! One task owns it all. It is told of probes, of changes in the replicated state, of the leader's urgent rounds and of
//! this node's own pauses; it tells the reporter whenever its verdict on a cluster changed.

mod follow;
mod handle;
mod life;
mod scene;
pub mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

pub use self::handle::{Input, ObserverHandle, Seen, Shown, Sighting, Views};
use self::scene::{Scene, Weight};
use crate::{
    core::{
        analysis::{
            Finding, Verdict,
            observation::AttemptEnd,
            problem::{self, View},
        },
        replicated::State,
    },
    mistake::{Mistake, planted},
    model::{
        facts::ServerFacts,
        policy::Policy,
        server::{ClusterId, ServerId},
    },
    probe::{Outcome, ProbeEvent},
    server::{leader::gather::RESTART_GAP, tools::Tools},
};

/// Probe ends under way to the observer. Probers wait when it is full; they have nothing better to do.
const PROBES: usize = 4_096;
/// Requests under way to the observer.
const INPUTS: usize = 256;
/// How often the replicas of a gone primary are looked at again, milliseconds.
const HASTY_MS: u64 = 15;
/// How often the replicas of a silent primary are looked at again, milliseconds.
const BRISK_MS: u64 = 150;
/// How often time alone is let pass while a primary is suspected, milliseconds. Else nothing changes between two probes
/// but that the next answer of a primary becomes overdue.
const TICK_MS: u64 = 50;
/// How often what is seen of a cluster is published for readers at most, milliseconds.
const PUBLISH_MS: u64 = 200;
/// How long replicas of a gone primary are looked at hastily.
const HASTY_FOR_MS: u64 = 3_000;
/// A failure that holds is said again this often, milliseconds, so that it stays fresh at the leader; ...
const FAILURE_AGAIN_MS: u64 = 200;
/// ... and anything else this often.
const AGAIN_MS: u64 = 2_000;

struct Observer {
    tools: Tools,
    probes: mpsc::Sender<ProbeEvent>,
    inputs: mpsc::Sender<Input>,
    out: mpsc::Sender<Sighting>,
    scenes: BTreeMap<ClusterId, Scene>,
    /// The cluster of each watched server.
    homes: BTreeMap<ServerId, ClusterId>,
    sequence: u64,
    policy: Policy,
    views: Views,
    ticked_ms: u64,
    /// As of the last thing that it dealt with.
    suspended_ms: u64,
    /// When it began with that, milliseconds of CLOCK_BOOTTIME: what it concludes rests on nothing later.
    turn_ms: u64,
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
        scenes: BTreeMap::new(),
        homes: BTreeMap::new(),
        sequence: 0,
        policy: Policy::default(),
        views: views.clone(),
        ticked_ms: 0,
        suspended_ms: 0,
        turn_ms: 0,
    };
    spawner.start(observer.run(inbox, probe_ends));
    ObserverHandle { inputs, views }
}

impl Observer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Input>, mut probe_ends: mpsc::Receiver<ProbeEvent>) {
        let mut applied = self.tools.ports.log.applied();
        let mut pauses = self.tools.ports.host.pauses();
        self.sequence = self.first_sequence();
        (self.turn_ms, self.suspended_ms) = (self.tools.boottime_ms(), self.tools.suspended_ms());
        self.follow_state();
        loop {
            let wake = async {
                match self.next_tick() {
                    Some(pause) => self.tools.sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = probe_ends.recv() => {
                    self.woken();
                    self.probe_ended(event)
                }
                Some(input) = inbox.recv() => {
                    self.woken();
                    self.input(input)
                }
                Ok(()) = applied.changed() => {
                    self.woken();
                    self.follow_state()
                }
                Ok(()) = pauses.changed() => {
                    self.woken();
                    self.paused()
                }
                () = wake => {
                    self.woken();
                    self.tick()
                }
            }
        }
    }

    /// A machine that was suspended comes here before its own loop notices: what it knew is told nobody any more.
    fn woken(&mut self) {
        self.turn_ms = self.tools.boottime_ms();
        let before_ms = std::mem::replace(&mut self.suspended_ms, self.tools.suspended_ms());
        if self.tools.was_suspended_since(before_ms) {
            self.paused();
        }
    }

    /// Beyond anything this node may have said before it restarted, reports still under way included.
    fn first_sequence(&self) -> u64 {
        let me = self.tools.node_id();
        let newest = |state: &State| {
            state.verdicts.values().filter_map(|of| of.get(&me)).map(|v| v.sequence).max().unwrap_or(0)
        };
        self.tools.read(newest).saturating_add(RESTART_GAP)
    }

    // ---- Probes.

    fn probe_ended(&mut self, event: ProbeEvent) {
        let Some(server) = event.server else { return };
        let Some(id) = self.homes.get(&server).cloned() else { return };
        let at_ms = self.tools.now_ms().saturating_sub(event.ended.elapsed().as_millis() as u64);
        let began_ms = self.tools.now_ms().saturating_sub(event.began.elapsed().as_millis() as u64);
        self.take_in(&id, &server, (began_ms, at_ms), outcome(event.outcome, event.fresh));
        let Some(scene) = self.scenes.get(&id) else { return };
        if scene.servers.get(&server).is_some_and(|watched| watched.standing.ordered()) {
            self.tell_answered(scene, &server);
        }
        if scene.primary.as_ref() == Some(&server) {
            self.look_after_replicas(&id);
        }
        self.judge(&id);
        self.publish(&id);
    }

    fn take_in(
        &mut self,
        id: &ClusterId,
        server: &ServerId,
        (began_ms, at_ms): (u64, u64),
        (end, facts): (AttemptEnd, Option<Box<ServerFacts>>),
    ) {
        let Some(scene) = self.scenes.get_mut(id) else { return };
        let (Some(watched), Some(seen)) = (scene.servers.get_mut(server), scene.observations.get_mut(server))
        else {
            return;
        };
        if seen.watched_since_ms.is_some_and(|since| began_ms < since) {
            // It came in before what this node knew was discarded, and was read behind that.
            return;
        }
        let facts = facts.map(|facts| Arc::new(watch::complete(seen, *facts)));
        let writable = facts.as_ref().map(|facts| facts.writable());
        if writable.is_some() && writable != seen.facts.as_ref().map(|facts| facts.writable()) {
            // A fence or a promotion: whoever looks is not shown for a while what was before.
            scene.published_ms = None;
        }
        let receiver = self.tools.read(|state| {
            let channel = facts.as_ref().and_then(|facts| {
                let cluster = state.clusters.get(id)?;
                cluster.channel_of(cluster.members.get(server)?, facts)
            });
            let expected = Some(&watched.target.identity).filter(|_| !planted(Mistake::StrangerBelieved));
            watched.watch.attempt(seen, at_ms, end, facts.clone(), expected, channel);
            channel.map(|channel| channel.receiver)
        });
        if let (Some((_, AttemptEnd::Answered)), Some(facts)) = (&seen.last_attempt, facts) {
            scene.follow_life(server, &facts, receiver, (began_ms, at_ms));
        }
    }

    fn tell_answered(&self, scene: &Scene, server: &ServerId) {
        let Some(seen) = scene.observations.get(server) else { return };
        let answered = matches!(seen.last_attempt, Some((_, AttemptEnd::Answered)));
        if let (true, Some(facts)) = (answered, &seen.facts) {
            let sighting = Sighting::Answered { server: server.clone(), writable: facts.writable() };
            let _ = self.out.try_send(sighting);
        }
    }

    /// A primary that is gone or silent: its replicas are witnesses and are asked again at once.
    fn look_after_replicas(&mut self, id: &ClusterId) {
        let now = self.tools.now_ms();
        let Some(suspected) = self.with_view(id, now, problem::suspected) else { return };
        let Some(scene) = self.scenes.get_mut(id) else { return };
        if !suspected {
            scene.round.hasty_since_ms = None;
            return;
        }
        let since = *scene.round.hasty_since_ms.get_or_insert(now);
        let pace_ms = match scene.primary_gone() && now.saturating_sub(since) < HASTY_FOR_MS {
            true => HASTY_MS,
            false => BRISK_MS,
        };
        if now.saturating_sub(scene.round.reprobed_ms) >= pace_ms {
            scene.round.reprobed_ms = now;
            scene.reprobe_replicas();
        }
    }

    // ---- Judging.

    fn with_view<T>(&self, id: &ClusterId, now_ms: u64, look: impl FnOnce(&View<'_>) -> T) -> Option<T> {
        let scene = self.scenes.get(id)?;
        self.tools.read(|state| Some(look(&scene.view(state.clusters.get(id)?, state, now_ms))))
    }

    /// This node's word on a cluster's primary, with the epoch and the server it is about.
    fn finding(&self, id: &ClusterId) -> Option<(u64, ServerId, Finding)> {
        self.with_view(id, self.tools.now_ms(), |view| {
            let subject = view.cluster.primary.clone()?;
            Some((view.cluster.epoch, subject, problem::finding(view)))
        })?
    }

    fn verdict(&mut self, id: &ClusterId, (epoch, subject, finding): (u64, ServerId, Finding)) -> Verdict {
        self.sequence += 1;
        Verdict {
            node: self.tools.node_id(),
            incarnation: self.tools.ports.log.incarnation().to_owned(),
            sequence: self.sequence,
            cluster: id.clone(),
            epoch,
            subject,
            finding,
        }
    }

    /// Says what is new at once; what holds is repeated.
    fn judge(&mut self, id: &ClusterId) {
        let Some(found) = self.finding(id) else { return };
        let (now, weight) = (self.tools.now_ms(), Weight::of(found.0, &found.2));
        let again_ms = match found.2 {
            Finding::Failure { .. } => FAILURE_AGAIN_MS,
            _ => AGAIN_MS,
        };
        let Some(scene) = self.scenes.get_mut(id) else { return };
        if scene.said.is_some_and(|(said, at)| said == weight && now.saturating_sub(at) < again_ms) {
            return;
        }
        scene.said = Some((weight, now));
        let verdict = self.verdict(id, found);
        if self.out.try_send(Sighting::Verdict { verdict, judged_ms: self.turn_ms }).is_err() {
            tracing::warn!(cluster = %id, "the reporter is behind; a verdict was dropped");
        }
    }

    // ---- Requests.

    fn input(&mut self, input: Input) {
        match input {
            Input::Urgent { cluster, bound_ms, reply } => self.start_urgent(cluster, bound_ms, reply),
            Input::UrgentEnded { cluster, of, began_ms, silent } => {
                self.urgent_ended(&cluster, &of, began_ms, silent)
            }
            Input::Look { cluster, reply } => {
                let now_ms = self.tools.now_ms();
                let _ = reply.send(self.scenes.get(&cluster).map(|scene| scene.seen(now_ms)));
            }
            Input::Inventory(servers) => servers.iter().for_each(|server| self.inventory(server)),
        }
    }

    fn inventory(&self, server: &ServerId) {
        let scene = self.homes.get(server).and_then(|home| self.scenes.get(home));
        if let Some(watched) = scene.and_then(|scene| scene.servers.get(server)) {
            watched.probe.inventory_now();
        }
    }

    fn start_urgent(&mut self, id: ClusterId, bound_ms: u64, reply: oneshot::Sender<Option<Verdict>>) {
        let Some(scene) = self.scenes.get_mut(&id) else {
            let _ = reply.send(None);
            return;
        };
        let Some(of) = scene.primary.clone().filter(|_| scene.primary_probe().is_some()) else {
            let _ = reply.send(None);
            return;
        };
        scene.round.waiting.push(reply);
        if std::mem::replace(&mut scene.round.running, true) {
            return;
        }
        let began_ms = self.tools.now_ms();
        let Some(attempt) = scene.primary_probe().map(|probe| probe.urgent(Duration::from_millis(bound_ms)))
        else {
            return;
        };
        scene.reprobe_replicas();
        let inputs = self.inputs.clone();
        self.tools.start(async move {
            // Refused, unreachable and closed are no answers either: nothing living spoke within the bound.
            let silent = attempt.await.is_ok_and(|event| !event.outcome.spoke());
            let _ = inputs.send(Input::UrgentEnded { cluster: id, of, began_ms, silent }).await;
        });
    }

    /// One on a server that was the primary when it began, and is not any more, says nothing of its successor; nor does one that
    /// began before what this node knew was discarded say anything.
    fn urgent_ended(&mut self, id: &ClusterId, of: &ServerId, began_ms: u64, silent: bool) {
        let now_ms = self.tools.now_ms();
        let scene = self.scenes.get_mut(id).filter(|scene| scene.primary.as_ref() == Some(of));
        let Some(scene) = scene else { return };
        let since_ms = scene.of_primary().and_then(|seen| seen.watched_since_ms);
        if since_ms.is_some_and(|since| began_ms < since) {
            return;
        }
        let answered_ms = scene.of_primary().and_then(|seen| seen.answered_ms);
        let answered_since = answered_ms.is_some_and(|at| at >= began_ms);
        scene.round.running = false;
        scene.round.silent_ms = (silent && !answered_since).then_some(now_ms);
        let waiting = std::mem::take(&mut scene.round.waiting);
        let verdict = self.finding(id).map(|found| self.verdict(id, found));
        for reply in waiting {
            let _ = reply.send(verdict.clone());
        }
        self.judge(id);
    }

    /// What was held open across an own pause says nothing; until one fresh round this node is blind.
    fn paused(&mut self) {
        let now_ms = self.tools.now_ms();
        for scene in self.scenes.values_mut() {
            scene.discard(now_ms);
        }
        self.tools.ports.servers.drop_all();
        for id in self.clusters() {
            self.judge(&id);
        }
    }

    fn clusters(&self) -> Vec<ClusterId> {
        self.scenes.keys().cloned().collect()
    }

    /// How long until time alone may change what this node says.
    fn next_tick(&self) -> Option<Duration> {
        let next = |scene: &Scene| {
            let primary = scene.of_primary()?;
            match scene.round.hasty_since_ms.is_some() {
                true => Some(self.ticked_ms + TICK_MS),
                false => problem::suspected_from_ms(primary, &self.policy),
            }
        };
        let at_ms = self.scenes.values().filter_map(next).min()?;
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
    fn publish(&mut self, id: &ClusterId) {
        let now_ms = self.tools.now_ms();
        let due = |scene: &Scene| scene.published_ms.is_none_or(|at| now_ms.saturating_sub(at) >= PUBLISH_MS);
        if !self.views.wanted() || !self.scenes.get(id).is_some_and(due) {
            return;
        }
        let Some(problems) = self.with_view(id, now_ms, problem::problems) else { return };
        let Some(scene) = self.scenes.get_mut(id) else { return };
        scene.published_ms = Some(now_ms);
        self.views.show(id.clone(), Shown { seen: scene.seen(now_ms), problems });
    }
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
