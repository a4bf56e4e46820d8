//! The model's state: the log, two nodes that may lead, three servers, and what is under way between them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::OnceLock,
    time::Duration,
};

use quorate::{
    core::{
        plan::step::Step,
        recovery::{Machine, StepId},
        replicated::{Change, State},
    },
    executor::Permit,
};
use tokio::time::Instant;

use crate::{
    fingerprint,
    memo::{self, Brief, Input, Kept},
    scenario::Scenario,
    servers::{Ended, Held, SERVERS, Servers},
};

/// The model's clock begins here: no other number of the product is as large.
pub const BASE_MS: u64 = 1_000_000_000_000;
/// A pause: every bound of a recovery, of its steps and of their permits is over after it.
pub const PAUSE_MS: u64 = 20_000;
/// Nodes that may lead. A third one only votes.
pub const NODES: usize = 2;

/// Who is told what became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The driver of the proposing node.
    Driver,
    /// The leader's task: a start.
    Start,
    /// The leader's task: a take-over, and whether the recovery is then cancelled.
    TakeOver { cancel: bool },
}

/// A proposal in the log of the leader that made it, not committed yet.
#[derive(Debug, Clone)]
pub struct Pending {
    pub node: usize,
    pub term: u64,
    pub change: Rc<Kept<Change>>,
    pub request_id: Option<&'static str>,
    pub sender: Sender,
    pub since_ms: u64,
}

/// What `server::driver` holds of one recovery.
#[derive(Debug, Clone)]
pub struct Driver {
    pub recovery: u64,
    pub term: u64,
    pub machine: Rc<Kept<Machine>>,
    /// What the old primary held when it was last seen.
    pub known: Held,
    /// A proposal is awaited; nothing else is heard meanwhile.
    pub waiting: bool,
    pub todo: Vec<Rc<Kept<Change>>>,
    pub inbox: Vec<Told>,
}

/// An event on its way to a machine. The name of its step is replaced by what the step is, where worlds are compared.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub input: Input,
    /// Fingerprint of the action that ended.
    pub mark: u64,
}

#[derive(Debug, Clone)]
pub struct Node {
    /// Cut off from the group, not from the servers; what it believes is old.
    pub cut_off: bool,
    /// The term in which it believes that it leads.
    pub believes: Option<u64>,
    /// The state as applied here.
    pub seen: Rc<Kept<State>>,
    pub driver: Option<Driver>,
}

/// Why a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A recovery, by its own node.
    Step(StepId),
    /// A recovery's fence, asked for by the node that drives it.
    Fence { asked_by: usize },
    /// A standing order: any node fences the server. Whether it was not seen yet.
    Order { id: u64, waiting: bool },
    /// A standing order: the leader points the server at the primary.
    Rejoin { id: u64 },
}

/// How far a step has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The other node was asked and has not begun.
    Asked,
    /// Permitted, and not sent.
    Permitted,
    /// On its way to the server or waiting there: it lands or it does not.
    Sent,
    /// Landed; its end is not known yet to whoever waits for it.
    Landed,
}

/// A step under way.
#[derive(Debug, Clone)]
pub struct Flight {
    /// The node whose session carries it.
    pub node: usize,
    pub server: usize,
    pub step: Rc<Step>,
    /// Fingerprint of its action.
    pub mark: u64,
    pub origin: Origin,
    /// Recovery or order, and term, of its permit, and until when it holds.
    pub under: u64,
    pub term: u64,
    pub expires_ms: u64,
    pub place: Place,
    /// Nobody waits for its end any more.
    pub heard: bool,
    /// Another node has seen this node's sessions gone from the server since it was permitted.
    pub cleared: bool,
    /// Its end, once it has landed.
    pub end: Option<Ended>,
}

impl Flight {
    /// Whether its permit still holds, as the product says.
    pub fn permitted(&self, now_ms: u64) -> bool {
        let expires = instant(self.expires_ms);
        let permit = Permit {
            recovery: String::new(),
            log_index: self.under,
            term: self.term,
            confirmed: expires,
            expires,
        };
        permit.holds(instant(now_ms))
    }
}

/// What the invariants remember and the product does not need to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Acknowledged writes under semi-sync.
    pub acknowledged: Held,
    /// The newest recovery whose fence was tried, and of whom it tried to stop the receiver.
    pub fence_tried: u64,
    pub stop_tried: (u64, [bool; SERVERS]),
    /// Receivers that were seen stopped, for the present owner of a recovery.
    pub stopped: (u64, u64, [bool; SERVERS]),
    /// A server was down while a recovery ran.
    pub died: bool,
}

#[derive(Clone)]
pub struct World {
    pub scenario: &'static Scenario,
    pub now_ms: u64,
    pub index: u64,
    pub term: u64,
    pub state: Rc<Kept<State>>,
    /// Who leads in `term` and is heard by a majority.
    pub leader: Option<usize>,
    pub pending: Vec<Pending>,
    pub nodes: [Node; NODES],
    pub servers: Servers,
    pub flights: Vec<Flight>,
    /// Faults that may still happen, and recoveries that may still be started.
    pub faults: u32,
    pub starts: u32,
    /// How often a client that heard nothing may ask again.
    pub asks: u32,
    pub memory: Memory,
    /// A promise that was not kept.
    pub broken: Option<String>,
}

impl World {
    pub fn breaks(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert(what.into());
    }

    pub fn node_id(node: usize) -> u64 {
        node as u64 + 1
    }

    /// Nothing of any recovery is under way in any node.
    pub fn settled(&self) -> bool {
        let runs = self.brief().running.is_some();
        !runs && self.pending.is_empty() && self.nodes.iter().all(|node| node.driver.is_none())
    }

    /// The committed state in short.
    pub fn brief(&self) -> Rc<Brief> {
        memo::brief(&self.state)
    }

    /// Equal for worlds with the same future.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let h = &mut hasher;
        let state =
            |state: &Kept<State>| state.print(self.now_ms, |state| fingerprint::of_state(self.now_ms, state));
        state(&self.state).hash(h);
        (self.term, self.leader, (self.faults, self.starts, self.asks), self.memory, self.servers).hash(h);
        for pending in &self.pending {
            (pending.node, pending.term, pending.request_id, &pending.sender, pending.change.number).hash(h);
            (pending.since_ms == self.now_ms).hash(h);
        }
        for node in &self.nodes {
            (node.cut_off, node.believes, node.driver.is_some(), state(&node.seen)).hash(h);
            if let Some(driver) = &node.driver {
                self.print_driver(driver, h);
            }
        }
        let mut flights: Vec<u64> = self.flights.iter().map(|flight| self.print_flight(flight)).collect();
        flights.sort_unstable();
        flights.hash(h);
        hasher.finish()
    }

    fn print_driver(&self, driver: &Driver, h: &mut DefaultHasher) {
        let machine = driver.machine.print(self.now_ms, |machine| fingerprint::of(self.now_ms, machine));
        (driver.recovery, driver.term, driver.waiting, driver.known, machine).hash(h);
        driver.todo.iter().for_each(|change| change.number.hash(h));
        for told in &driver.inbox {
            let input = match told.input {
                Input::Step { end, .. } => Input::Step { id: 0, end },
                input => input,
            };
            (told.mark, input).hash(h);
        }
    }

    fn print_flight(&self, flight: &Flight) -> u64 {
        let mut hasher = DefaultHasher::new();
        let h = &mut hasher;
        let origin = match flight.origin {
            Origin::Step(_) => Origin::Step(0),
            other => other,
        };
        (flight.node, flight.server, origin, flight.under, flight.term, flight.permitted(self.now_ms))
            .hash(h);
        (flight.place, flight.heard, flight.cleared, flight.mark, flight.end).hash(h);
        hasher.finish()
    }
}

/// The model's clock as the executor reads it.
pub fn instant(at_ms: u64) -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now) + Duration::from_millis(at_ms - BASE_MS)
}

const _: () = assert!(SERVERS == 3 && NODES == 2);
