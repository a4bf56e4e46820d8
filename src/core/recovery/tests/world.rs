//! A small cluster that answers every effect of the machine at once.

pub(super) use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
pub(super) use crate::{
    core::{
        analysis::Class,
        plan::{
            marks::{self, Marks},
            step::StepReport,
        },
        replicated::{
            Command, Durability, Member, MemberState, OrderStage, Refusal, StandingOrder,
            command::StartRecovery, recovery::Revoked,
        },
        samples::{self, dead, id, set},
    },
    model::{
        address::Address,
        facts::{Channel, Receiver, ServerFacts},
        server::{ClusterId, Flavor},
    },
};

pub(super) const OLD: &str = "00000000-0000-0000-0000-000000000001";

pub(super) fn member(n: u32) -> Member {
    samples::member(Flavor::MySql, n)
}

/// A replica whose receiver stands; the first has none.
pub(super) fn facts(n: u32, executed: &str, received: &str) -> ServerFacts {
    let channel = Channel {
        receiver: Receiver::Stopped,
        received: set(received),
        ..samples::channel(Flavor::MySql, 1)
    };
    let (read_only, super_read_only) = (true, Some(true));
    ServerFacts {
        executed: set(executed),
        channels: if n > 1 { vec![channel] } else { vec![] },
        read_only,
        super_read_only,
        ..samples::facts(Flavor::MySql, n)
    }
}

/// State, machine, and a world that ends every effect at once; which step ends how is the test's to say.
pub(super) struct World {
    pub(super) state: State,
    pub(super) machine: Machine,
    pub(super) known: Sets,
    pub(super) fencers: BTreeSet<u64>,
    pub(super) now_ms: u64,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) node: u64,
    pub(super) facts: BTreeMap<ServerId, ServerFacts>,
    /// Ends for steps by (action, server); `Done` otherwise.
    pub(super) ends: BTreeMap<(&'static str, ServerId), StepEnd>,
    pub(super) fence: StepEnd,
    /// Everything that was done, in order.
    pub(super) trace: Vec<String>,
    /// Marks of other nodes, which come in after it began.
    pub(super) told: Option<Marks>,
    /// Commands proposed after this many are lost, with the process.
    pub(super) dies_before: Option<&'static str>,
    /// Effects that were not answered yet, where a test stops between two.
    pub(super) left: VecDeque<Effect>,
}

impl World {
    pub(super) fn new(kind: Kind, semi_sync: Option<(u32, Vec<ServerId>)>) -> Self {
        let voters = (1..=3).map(|n| (n, format!("i{n}"))).collect();
        let mut state = State { voters, ..State::default() };
        let cluster = samples::cluster(Flavor::MySql, 4);
        state.clusters.insert(cluster.id.clone(), cluster);
        let mut world = World {
            machine: Machine::new(samples::recovery(Flavor::MySql), Policy::default(), 0),
            state,
            known: Sets {
                old_primary: Some(set(&format!("{OLD}:1-10"))),
                marks: samples::caught_up(2..=4),
                ..Sets::default()
            },
            fencers: BTreeSet::from([1, 2, 3]),
            now_ms: 10_000,
            index: 10,
            term: 1,
            node: 1,
            facts: (1..=4)
                .map(|n| (id(n), facts(n, &format!("{OLD}:1-10"), &format!("{OLD}:1-10"))))
                .collect(),
            ends: BTreeMap::new(),
            fence: StepEnd::Refused { why: "connection refused".into() },
            trace: Vec::new(),
            told: None,
            dies_before: None,
            left: VecDeque::new(),
        };
        let evidence = if kind == Kind::Failover { vec![dead(1), dead(2)] } else { vec![] };
        let revoked =
            (2..=4).map(|n| Revoked { target: member(n).target(), channel: String::new() }).collect();
        let outcome = world.commit(Change::StartRecovery(Box::new(StartRecovery {
            kind,
            cluster: ClusterId("c".into()),
            class: Class::Primary,
            code: None,
            epoch: 1,
            generation: 1,
            subject: id(1),
            evidence,
            revoked,
            semi_sync,
            waived: vec![],
            to: None,
            kill_writers: false,
        })));
        let Outcome::Done { id, .. } = outcome else { panic!("{outcome:?}") };
        world.machine = Machine::new(world.state.recoveries[&id].clone(), Policy::default(), world.now_ms);
        world
    }

    pub(super) fn commit(&mut self, change: Change) -> Outcome {
        self.index += 1;
        let command = Command {
            at_ms: self.now_ms,
            wall_ms: 0,
            node: self.node,
            term: self.term,
            by: "t".into(),
            request_id: None,
            change,
        };
        self.state.apply(self.index, &command)
    }

    pub(super) fn feed(&mut self, event: Event) -> Vec<Effect> {
        let context = Context {
            state: &self.state,
            known: &self.known,
            node: self.node,
            fencers: &self.fencers,
            now_ms: self.now_ms,
        };
        self.machine.advance(event, &context)
    }

    /// Runs until nothing is left to do. Whether it got there (and did not die on the way).
    pub(super) fn run(&mut self, resumed: bool) -> bool {
        let mut queue: VecDeque<Effect> = self.feed(Event::Begin { resumed }).into();
        self.known.raise(self.told.take().unwrap_or_default());
        for _ in 0..1_000 {
            let Some(effect) = queue.pop_front() else {
                if self.machine.stage() == Stage::Over {
                    return true;
                }
                self.now_ms += 50;
                queue.extend(self.feed(Event::Tick));
                continue;
            };
            match effect {
                Effect::Run { id, step, .. } => {
                    if self.dies(step.action.name()) {
                        return false;
                    }
                    let end = self.end_of(&step);
                    self.trace.push(format!("{} {}", step.action.name(), step.target.address.host));
                    let began_ms = self.now_ms;
                    self.now_ms += 1;
                    queue.extend(self.feed(Event::StepEnded { id, end, began_ms }));
                }
                Effect::FenceEverywhere { .. } => {
                    for node in [1, 2, 3] {
                        let end = self.fence.clone();
                        queue.extend(self.feed(Event::FenceEnded { node, end }));
                    }
                }
                Effect::Propose(change) => {
                    if self.dies(change.name()) {
                        return false;
                    }
                    self.trace.push(change.name().into());
                    let outcome = self.commit(change);
                    queue.extend(self.feed(Event::Committed { outcome }));
                }
                Effect::Record(_) => {}
                Effect::Over => return true,
            }
        }
        panic!("it never ended: {:?}, {:?}", self.machine.stage(), self.trace);
    }

    /// Answers effects until nothing but time is left, and returns.
    pub(super) fn settle(&mut self, effects: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.into();
        while let Some(effect) = queue.pop_front() {
            let effects = self.answer(effect);
            queue.extend(effects);
        }
    }

    /// Answers one effect: what follows from it.
    pub(super) fn answer(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Run { id, step, .. } => {
                let end = self.end_of(&step);
                self.trace.push(format!("{} {}", step.action.name(), step.target.address.host));
                let began_ms = self.now_ms;
                self.feed(Event::StepEnded { id, end, began_ms })
            }
            Effect::FenceEverywhere { .. } => {
                let end = self.fence.clone();
                [1, 2, 3]
                    .into_iter()
                    .flat_map(|node| self.feed(Event::FenceEnded { node, end: end.clone() }))
                    .collect()
            }
            Effect::Propose(change) => {
                self.trace.push(change.name().into());
                let outcome = self.commit(change);
                self.feed(Event::Committed { outcome })
            }
            Effect::Record(_) | Effect::Over => Vec::new(),
        }
    }

    pub(super) fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.now_ms += 50;
            let effects = self.feed(Event::Tick);
            self.settle(effects);
        }
    }

    pub(super) fn dies(&self, at: &str) -> bool {
        self.dies_before == Some(at)
    }

    pub(super) fn end_of(&mut self, step: &Step) -> StepEnd {
        let server = &step.target.server;
        if let Some(end) = self.ends.get(&(step.action.name(), server.clone())) {
            return end.clone();
        }
        let mut facts = self.facts[server].clone();
        if let Action::Unfence { must_hold, .. } = &step.action
            && let Some(why) = marks::unfit_to_open(&facts, must_hold)
        {
            return StepEnd::Refused { why };
        }
        if let Action::Drain { .. } = step.action {
            facts.executed = facts.in_hand();
            self.facts.insert(server.clone(), facts.clone());
        }
        if let Action::Detach { .. } = step.action {
            facts.channels.clear();
            self.facts.insert(server.clone(), facts.clone());
        }
        if let Action::MakeWritable { .. } = step.action {
            facts.read_only = false;
            facts.super_read_only = Some(false);
        }
        StepEnd::Done(StepReport { facts: Some(Box::new(facts)), ..StepReport::default() })
    }

    pub(super) fn recovery(&self) -> &Recovery {
        self.state.recoveries.values().next().unwrap()
    }

    pub(super) fn position(&self, what: &str) -> usize {
        self.trace
            .iter()
            .position(|t| t.starts_with(what))
            .unwrap_or_else(|| panic!("no {what} in {:?}", self.trace))
    }

    pub(super) fn last(&self, what: &str) -> usize {
        self.trace
            .iter()
            .rposition(|t| t.starts_with(what))
            .unwrap_or_else(|| panic!("no {what} in {:?}", self.trace))
    }
}
