//! One cluster as this node watches it: its servers, what was seen of each, and where a suspicion stands.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::oneshot;

use super::{
    handle::Seen,
    life::{Life, Part},
    watch::Watch,
};
use crate::{
    core::{
        analysis::{
            Code, Finding, Verdict,
            observation::{AttemptEnd, Observation},
            problem::View,
        },
        plan::{choose::Sets, step::Target},
        replicated::{Cluster, Member, MemberState, OrderStage, StandingOrder, State},
    },
    model::{
        facts::{Receiver, ServerFacts},
        policy::Policy,
        server::{ClusterId, ServerId},
    },
    probe::{Mode, ProbeSettings},
    server::ports::Probe,
};

/// What is held of one server, besides its observation.
pub(super) struct Watched {
    pub watch: Watch,
    pub probe: Box<dyn Probe>,
    pub target: Target,
    pub standing: Standing,
    pub settings: ProbeSettings,
}

/// What the replicated state asks of this node about one member.
pub(super) struct Wish {
    pub cluster: ClusterId,
    pub target: Target,
    pub is_primary: bool,
    pub standing: Standing,
    pub settings: ProbeSettings,
}

impl Wish {
    pub fn of(cluster: &Cluster, member: &Member, state: &State) -> Self {
        let is_primary = cluster.primary.as_ref() == Some(&member.server);
        Self {
            cluster: cluster.id.clone(),
            target: member.target(),
            is_primary,
            standing: Standing::of(member, state),
            settings: settings(member, is_primary, &state.policy),
        }
    }
}

/// An urgent round on the primary, and the looking harder while it is suspected.
#[derive(Default)]
pub(super) struct Round {
    /// When the last one ended without any answer.
    pub silent_ms: Option<u64>,
    pub waiting: Vec<oneshot::Sender<Option<Verdict>>>,
    pub running: bool,
    pub hasty_since_ms: Option<u64>,
    pub reprobed_ms: u64,
}

/// What a cluster was like when it was last looked at anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    epoch: u64,
    busy: bool,
}

impl Shape {
    pub fn of(cluster: &Cluster) -> Self {
        Self { epoch: cluster.epoch, busy: cluster.slot.is_some() }
    }
}

/// What makes a verdict news: the failure and how strong its evidence is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    epoch: u64,
    word: Word,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Healthy,
    Blind,
    Failure { code: Code, hard: bool, urgent_round_done: bool },
}

impl Weight {
    pub fn of(epoch: u64, finding: &Finding) -> Self {
        let word = match finding {
            Finding::Healthy => Word::Healthy,
            Finding::Blind { .. } => Word::Blind,
            Finding::Failure { code, evidence, .. } => Word::Failure {
                code: *code,
                hard: evidence.hard,
                urgent_round_done: evidence.urgent_round_done,
            },
        };
        Self { epoch, word }
    }
}

/// A cluster.
#[derive(Default)]
pub(super) struct Scene {
    pub servers: BTreeMap<ServerId, Watched>,
    /// What was seen of each of them.
    pub observations: BTreeMap<ServerId, Observation>,
    pub primary: Option<ServerId>,
    pub round: Round,
    pub shape: Option<Shape>,
    /// Since when it is of that shape.
    pub shape_since_ms: u64,
    /// What this node said last, and when.
    pub said: Option<(Weight, u64)>,
    pub published_ms: Option<u64>,
}

impl Scene {
    /// Whether a member is watched just as the state asks.
    pub fn suits(&self, cluster: &Cluster, member: &Member, state: &State) -> bool {
        let is_primary = cluster.primary.as_ref() == Some(&member.server);
        let as_primary = self.primary.as_ref() == Some(&member.server);
        self.servers.get(&member.server).is_some_and(|w| {
            is_primary == as_primary
                && w.target.address == member.address
                && w.target.identity == member.identity
                && w.standing == Standing::of(member, state)
                && w.settings == settings(member, is_primary, &state.policy)
        })
    }

    /// Begins to watch a server with this prober.
    pub fn begin(&mut self, wish: Wish, probe: Box<dyn Probe>, now_ms: u64) {
        let Wish { target, is_primary, standing, settings, .. } = wish;
        let server = target.server.clone();
        let (watch, observation) = Watch::begun(now_ms);
        if is_primary {
            self.round = Round::default();
        }
        self.set_primary(&server, is_primary);
        self.put(server, (Watched { watch, probe, target, standing, settings }, observation));
    }

    /// Watches a server otherwise from now on.
    pub fn adjust(&mut self, wish: Wish, now_ms: u64) {
        let server = wish.target.server.clone();
        let as_primary = self.primary.as_ref() == Some(&server);
        let (Some(watched), Some(seen)) = (self.servers.get_mut(&server), self.observations.get_mut(&server))
        else {
            return;
        };
        if watched.settings != wish.settings {
            watched.settings = wish.settings;
            watched.probe.set(wish.settings);
        }
        watched.target = wish.target;
        if watched.standing != wish.standing {
            // Fenced or rejoined a moment ago: what was read before shows it as it was.
            watched.standing = wish.standing;
            watched.probe.reprobe();
        }
        if as_primary != wish.is_primary {
            watched.watch.begin_rhythm(seen, now_ms);
            self.round = Round::default();
            self.set_primary(&server, wish.is_primary);
        }
    }

    fn set_primary(&mut self, server: &ServerId, is_primary: bool) {
        match is_primary {
            true => {
                self.primary = Some(server.clone());
                let lives = self.servers.values_mut().filter_map(|watched| watched.watch.life.as_mut());
                lives.for_each(Life::forget_goal);
            }
            false => drop(self.primary.take_if(|primary| primary == server)),
        }
    }

    /// Puts a server in, with what was seen of it.
    pub fn put(&mut self, server: ServerId, (watched, observation): (Watched, Observation)) {
        self.observations.insert(server.clone(), observation);
        self.servers.insert(server, watched);
    }

    /// Takes a server out, with what was seen of it.
    pub fn take(&mut self, server: &ServerId) -> Option<(Watched, Observation)> {
        self.primary.take_if(|primary| primary == server);
        self.servers.remove(server).zip(self.observations.remove(server))
    }

    /// What an answer says of the lives of the servers: its own, and where the primary gave it, what the others' are
    /// measured by.
    pub fn follow_life(
        &mut self,
        server: &ServerId,
        facts: &ServerFacts,
        receiver: Option<Receiver>,
        (began_ms, at_ms): (u64, u64),
    ) {
        let is_primary = self.primary.as_ref() == Some(server);
        let part = if is_primary { Part::Primary } else { Part::of_replica(receiver) };
        if let Some(watched) = self.servers.get_mut(server) {
            watched.watch.live(facts, part, at_ms);
        }
        if is_primary {
            for watched in self.servers.values_mut() {
                let life = watched.watch.life.as_mut();
                if life.is_some_and(|life| life.measure(&facts.executed, began_ms)) {
                    watched.probe.reprobe();
                }
            }
        }
    }

    /// What was seen of the primary.
    pub fn of_primary(&self) -> Option<&Observation> {
        self.observations.get(self.primary.as_ref()?)
    }

    /// The primary's prober.
    pub fn primary_probe(&self) -> Option<&dyn Probe> {
        self.servers.get(self.primary.as_ref()?).map(|w| w.probe.as_ref())
    }

    /// Probes everyone now.
    pub fn reprobe(&self) {
        self.servers.values().for_each(|w| w.probe.reprobe());
    }

    /// Probes everyone but the primary now.
    pub fn reprobe_replicas(&self) {
        let replicas = self.servers.iter().filter(|(server, _)| self.primary.as_ref() != Some(*server));
        replicas.for_each(|(_, w)| w.probe.reprobe());
    }

    /// Throws away what was held open across this node's own pause, and looks anew.
    pub fn discard(&mut self, now_ms: u64) {
        for (server, watched) in &mut self.servers {
            if let Some(seen) = self.observations.get_mut(server) {
                watched.watch.discard(seen, now_ms);
            }
            watched.probe.discard();
            watched.probe.reprobe();
        }
        self.round = Round::default();
    }

    /// The primary's last attempt found nobody.
    pub fn primary_gone(&self) -> bool {
        let last = self.of_primary().and_then(|seen| seen.last_attempt.as_ref());
        matches!(last, Some((_, AttemptEnd::Refused | AttemptEnd::ShuttingDown | AttemptEnd::Closed)))
    }

    /// What is judged, at `now_ms`.
    pub fn view<'a>(&'a self, cluster: &'a Cluster, state: &'a State, now_ms: u64) -> View<'a> {
        View {
            cluster,
            observations: &self.observations,
            policy: &state.policy,
            downtimes: &state.downtimes,
            now_ms,
            urgent_round_done_ms: self.round.silent_ms,
            recoveries_running: cluster.slot.is_some(),
        }
    }

    /// A copy of all that is seen, at `now_ms`.
    pub fn seen(&self, now_ms: u64) -> Seen {
        let marks = self.servers.iter().filter_map(|(server, w)| Some((server.clone(), w.watch.mark()?)));
        let of_primary = self.of_primary().and_then(|seen| seen.facts.as_ref());
        Seen {
            observations: self.observations.clone(),
            now_ms,
            shape_since_ms: self.shape_since_ms,
            sets: Sets {
                facts: BTreeMap::new(),
                old_primary: of_primary.map(|facts| facts.executed.clone()),
                marks: marks.collect(),
            },
        }
    }
}

/// How a member stands in its cluster, as far as that changes how it is watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    InService,
    /// Replaced, and not heard of since.
    Replaced,
    /// Replaced, seen again and fenced.
    Fenced,
    Quarantined,
}

impl Standing {
    fn of(member: &Member, state: &State) -> Self {
        let waits = |order: &StandingOrder| order.stage == OrderStage::Waiting;
        match member.state {
            MemberState::Normal | MemberState::Changed { .. } => Self::InService,
            MemberState::Replaced => {
                match state.order_of(&member.server).is_some_and(|order| !waits(order)) {
                    true => Self::Fenced,
                    false => Self::Replaced,
                }
            }
            MemberState::Quarantined { .. } => Self::Quarantined,
        }
    }

    /// A standing order may be about it: whatever it answers is told.
    pub fn ordered(self) -> bool {
        self != Self::InService
    }
}

fn settings(member: &Member, is_primary: bool, policy: &Policy) -> ProbeSettings {
    ProbeSettings {
        interval: Duration::from_millis(match is_primary {
            true => policy.primary_probe_interval_ms,
            false => policy.replica_probe_interval_ms,
        }),
        inventory_interval: Duration::from_millis(policy.inventory_interval_ms),
        mode: if member.state == MemberState::Replaced { Mode::Suspected } else { Mode::Steady },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::samples, model::server::Flavor};

    /// What was read before a fence shows the server as it was: each stage that changes it is looked at anew.
    #[test]
    fn a_server_that_was_fenced_is_looked_at_anew() {
        let mut member = samples::member(Flavor::MySql, 1);
        let mut state = State::default();
        let mut seen = vec![Standing::of(&member, &state)];
        let order = StandingOrder {
            id: 7,
            cluster: ClusterId("c".into()),
            target: member.target(),
            epoch: 1,
            recovery: 6,
            semi_sync: false,
            stage: OrderStage::Waiting,
            since_ms: 0,
        };
        state.orders.insert(7, order);
        member.state = MemberState::Replaced;
        seen.push(Standing::of(&member, &state));
        state.orders.get_mut(&7).expect("the order").stage = OrderStage::Fenced;
        seen.push(Standing::of(&member, &state));
        assert!(seen.windows(2).all(|two| two[0] != two[1]));
        assert_eq!(seen.iter().map(|standing| standing.ordered()).collect::<Vec<_>>(), [false, true, true]);
    }
}
