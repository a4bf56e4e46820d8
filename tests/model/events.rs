//! Everything that may happen next, and that it happens.

use quorate::core::replicated::{Kind, OrderStage};

use crate::{
    flights::How,
    memo::Input,
    samples,
    servers::{self, Life, SERVERS},
    world::{Driver, NODES, Place, World},
};

/// One event. Faults among them are limited by the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The leader proposes a recovery.
    Start(Kind),
    /// A client that heard nothing asks for its recovery again, in another leader's term.
    AskAgain,
    /// The leader's first proposal is committed.
    Commit,
    /// A step under way moves.
    Step(usize, How),
    /// A node becomes the leader, with so many of the last leader's entries.
    Elect(usize, usize),
    /// A node that leads no more learns of it.
    StepDown(usize),
    /// The leader takes a running recovery over; whether a majority holds fresh verdicts.
    TakeOver(bool),
    /// The leader hears that the old primary of what is being undone answers.
    PrimaryAnswers,
    /// A node fences a server by a standing order.
    FenceByOrder(usize, u64),
    /// The leader rejoins a server, or sets it aside.
    Rejoin(u64),
    /// A frozen server thaws, a dead one returns, while nothing else is about to happen.
    Revive(usize),
    /// Time passes: everything bounded is over.
    Pause,
    /// Fault: the same, while something is merely slow.
    SlowPause,
    /// Fault: the same in the middle of something.
    ReviveEarly(usize),
    /// Fault: the leading node dies, and is back with nothing in its hands.
    Crash(usize),
    /// Fault: the leading node is cut off from the group and does not know it.
    CutOff(usize),
    /// Fault: a server dies.
    Die(usize),
    /// Fault: the old primary freezes.
    Freeze(usize),
    /// Fault: a client writes in between.
    Write(usize),
    /// Fault: the recovery is withdrawn.
    Cancel,
    /// Fault: a person acknowledges everything.
    Acknowledge,
    /// Fault: a person switches recoveries off.
    SwitchOff,
}

impl Event {
    /// Whether it uses up one of the scenario's faults.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Step(_, how) => How::FAULTS.contains(&how),
            Self::SlowPause
            | Self::ReviveEarly(_)
            | Self::Crash(_)
            | Self::CutOff(_)
            | Self::Die(_)
            | Self::Freeze(_)
            | Self::Write(_)
            | Self::Cancel
            | Self::Acknowledge
            | Self::SwitchOff => true,
            _ => false,
        }
    }
}

impl World {
    /// All that may happen next, in a fixed order.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.log_events(&mut events);
        self.step_events(&mut events);
        self.server_events(&mut events);
        if self.faults > 0 {
            self.fault_events(&mut events);
        }
        events
    }

    fn log_events(&self, events: &mut Vec<Event>) {
        if self.leader.is_some() {
            events.extend((!self.pending.is_empty()).then_some(Event::Commit));
            let automatic = (self.scenario.kind != Kind::Failover).then_some(Kind::Failover);
            let kinds = [self.scenario.kind].into_iter().chain(automatic);
            events.extend(kinds.filter(|kind| self.may_start(*kind)).map(Event::Start));
            events.extend(self.may_ask_again().then_some(Event::AskAgain));
            if let Some(orphan) = self.orphan() {
                let silent = self.servers[orphan.old].life != Life::Up;
                events.extend((!orphan.unproven || silent).then_some(Event::TakeOver(true)));
                events.extend(orphan.unproven.then_some(Event::TakeOver(false)));
            }
        } else {
            for node in (0..NODES).filter(|node| !self.nodes[*node].cut_off) {
                events.extend((0..=self.pending.len()).map(|kept| Event::Elect(node, kept)));
            }
        }
        for node in 0..NODES {
            events.extend(self.nodes[node].cut_off.then_some(Event::StepDown(node)));
            events.extend(self.to_fence(node).into_iter().map(|order| Event::FenceByOrder(node, order)));
        }
        events.extend(self.to_rejoin().into_iter().map(Event::Rejoin));
    }

    fn step_events(&self, events: &mut Vec<Event>) {
        for at in (0..self.flights.len()).filter(|at| self.may_move(*at)) {
            let flight = &self.flights[at];
            let (up, frozen) =
                (self.servers[flight.server].up(), self.servers[flight.server].life == Life::Frozen);
            if flight.heard {
                events.extend((!frozen).then_some(Event::Step(at, How::LandsLate)));
                continue;
            }
            if !(frozen && flight.place == Place::Sent) {
                events.push(Event::Step(at, How::Ends));
            }
            if self.faults > 0 && flight.place != Place::Landed {
                let ways = if up { &How::FAULTS[..] } else { &How::FAULTS[..1] };
                let ways = if frozen || up { ways } else { &[] };
                events.extend(ways.iter().map(|how| Event::Step(at, *how)));
            }
        }
    }

    fn server_events(&self, events: &mut Vec<Event>) {
        let leaderless = self.leader.is_none();
        let slow = !self.at_rest() || !self.pending.is_empty() && !leaderless;
        let down = (0..SERVERS).filter(|server| !self.servers[*server].up());
        match slow {
            false => {
                events.extend(down.map(Event::Revive));
                events.push(Event::Pause);
                let leader = self.leader.filter(|leader| self.hears_answers(*leader));
                events.extend(leader.map(|_| Event::PrimaryAnswers));
            }
            true if self.faults > 0 => {
                events.extend(down.map(Event::ReviveEarly));
                events.push(Event::SlowPause);
            }
            true => {}
        }
    }

    /// Whether its driver undoes, and the old primary answers.
    fn hears_answers(&self, leader: usize) -> bool {
        // Heard again behind the same proposal it says nothing new.
        let hears = |d: &Driver| !d.inbox.iter().any(|told| told.input == Input::Answers);
        let drives =
            |id: u64| self.nodes[leader].driver.as_ref().is_some_and(|d| d.recovery == id && hears(d));
        self.brief().running.is_some_and(|r| r.undoing && drives(r.id) && self.servers[r.old].up())
    }

    fn fault_events(&self, events: &mut Vec<Event>) {
        if let Some(leader) = self.leader {
            events.extend([Event::Crash(leader), Event::CutOff(leader)]);
            events.extend(self.nodes[leader].driver.is_some().then_some(Event::Cancel));
            let brief = self.brief();
            events.extend((brief.blocked && self.starts > 0).then_some(Event::Acknowledge));
            events.extend((brief.enabled && self.starts > 0).then_some(Event::SwitchOff));
        }
        let primary = self.brief().primary;
        for server in (0..SERVERS).filter(|server| self.servers[*server].up()) {
            events.push(Event::Die(server));
            events.extend((server == primary).then_some(Event::Freeze(server)));
            events.extend(self.servers[server].writable().then_some(Event::Write(server)));
        }
    }

    /// The world after it.
    pub fn after(&self, event: Event) -> World {
        let mut world = self.clone();
        world.faults -= u32::from(event.is_fault());
        world.happen(event);
        servers::replicate(&mut world.servers);
        world.note_acknowledged();
        world
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(kind) => {
                self.starts -= 1;
                self.start(kind);
            }
            Event::AskAgain => {
                self.asks -= 1;
                self.start(self.scenario.kind);
            }
            Event::Commit => self.commit(),
            Event::Step(at, how) => self.move_flight(at, how),
            Event::Elect(node, kept) => self.elect(node, kept),
            Event::StepDown(node) => self.step_down(node),
            Event::TakeOver(agreed) => self.take_over(agreed),
            Event::PrimaryAnswers => {
                let leader = self.leader.expect("enabled with a leader");
                self.tell(leader, Input::Answers, 0);
            }
            Event::Cancel => {
                let leader = self.leader.expect("enabled with a leader");
                self.tell(leader, Input::Cancel, 0);
            }
            Event::FenceByOrder(node, order) => self.fence_by_order(node, order),
            Event::Rejoin(order) => self.rejoin(order),
            Event::Revive(server) | Event::ReviveEarly(server) => self.revive(server),
            Event::Pause | Event::SlowPause => self.pause(),
            Event::Crash(node) => self.crash(node),
            Event::CutOff(node) => {
                self.nodes[node].cut_off = true;
                self.leader = None;
            }
            Event::Die(server) => self.die(server),
            Event::Freeze(server) => self.servers[server].life = Life::Frozen,
            Event::Write(server) => {
                let semi_sync = self.servers[server].acks.is_some();
                if servers::write(&mut self.servers, server) && semi_sync {
                    let own = &mut self.memory.acknowledged.0[server];
                    *own = self.servers[server].executed.0[server];
                }
            }
            Event::Acknowledge => self.operator(false),
            Event::SwitchOff => self.operator(true),
        }
    }

    /// A commit that waited is acknowledged once enough receive it.
    fn note_acknowledged(&mut self) {
        for server in 0..SERVERS {
            let Some(acks) = self.servers[server].acks.filter(|_| self.servers[server].writable()) else {
                continue;
            };
            let most = self.servers[server].executed.0[server];
            let holds = |replica: &&servers::Server| {
                replica.source == Some(server) && replica.received.0[server] >= most
            };
            if self.servers.iter().filter(holds).count() as u32 >= acks {
                let own = &mut self.memory.acknowledged.0[server];
                *own = most.max(*own);
            }
        }
    }

    fn revive(&mut self, server: usize) {
        let this = &mut self.servers[server];
        if this.life == Life::Dead && !this.keeps_switches {
            this.read_only = false;
        }
        this.life = Life::Up;
        self.check_servers();
    }

    /// A healthy end: nothing runs, every order is settled, and the record's primary alone takes writes.
    pub fn is_well(&self) -> bool {
        let orders = |stage: &OrderStage| matches!(stage, OrderStage::Quarantined { .. });
        let settled = self.state.value.orders.values().all(|order| orders(&order.stage));
        let writable: Vec<usize> = (0..SERVERS).filter(|server| self.servers[*server].writable()).collect();
        self.settled() && settled && writable == [self.brief().primary]
    }

    /// The event in words.
    pub fn told(&self, event: Event) -> String {
        let node = |node: usize| format!("node {}", Self::node_id(node));
        match event {
            Event::Step(at, how) => {
                let flight = &self.flights[at];
                let late = if flight.heard { ", which nobody waits for any more" } else { "" };
                let by = node(flight.node);
                let way = match how {
                    How::Ends => "ends as it should",
                    How::LandsLate => "lands, or never will",
                    How::Refused => "is refused",
                    How::Late => "ends unknown, and may land yet",
                    How::HeardLate => "lands, and will be heard of later",
                    How::Twice => "lands, is heard of, and may land again",
                };
                format!("{} by {by} ({:?}, term {}{late}) {way}", flight.step, flight.place, flight.term)
            }
            Event::Commit => {
                format!(
                    "{} of {} is committed",
                    self.pending[0].change.value.name(),
                    node(self.pending[0].node)
                )
            }
            Event::Elect(who, kept) => {
                format!("{} is elected, with {kept} of {} open entries", node(who), self.pending.len())
            }
            Event::StepDown(who) => format!("{} learns that it leads no more", node(who)),
            Event::FenceByOrder(who, order) => format!("{} fences by order {order}", node(who)),
            Event::Crash(who) => format!("{} crashes", node(who)),
            Event::CutOff(who) => format!("{} is cut off from the group", node(who)),
            Event::Revive(server) | Event::ReviveEarly(server) => {
                format!("{} is back ({:?} before)", samples::letter(server), self.servers[server].life)
            }
            Event::Die(server) => format!("{} dies", samples::letter(server)),
            Event::Freeze(server) => format!("{} freezes", samples::letter(server)),
            Event::Write(server) => format!("a client writes to {}", samples::letter(server)),
            other => format!("{other:?}"),
        }
    }
}
