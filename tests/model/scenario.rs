//! The worlds that are explored: what has happened when the model begins, and how far it is followed.

use std::rc::Rc;

use quorate::{
    core::replicated::{Durability, Kind},
    model::policy::{DrainPolicy, Policy},
};

use crate::{
    memo, samples,
    servers::{Held, Life, SERVERS, Server},
    world::{BASE_MS, Memory, NODES, Node, World},
};

/// A beginning.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What is started.
    pub kind: Kind,
    /// What has become of P.
    pub primary: Life,
    /// Acknowledgements a commit waits for.
    pub semi_sync: Option<u32>,
    /// Nodes that are asked to fence: the first, or both.
    pub fencers: usize,
    /// What P wrote and nobody received.
    pub tail: u8,
    pub drain: DrainPolicy,
    /// Faults on one path; recoveries started on one path.
    pub faults: u32,
    pub starts: u32,
    /// Events on one path, in the bounded run.
    pub depth: usize,
    /// What happens first, each by words of the event; its faults are not counted.
    pub story: &'static [&'static str],
}

const BASE: Scenario = Scenario {
    name: "",
    kind: Kind::Failover,
    primary: Life::Dead,
    semi_sync: None,
    fencers: 1,
    tail: 0,
    drain: DrainPolicy::Wait,
    faults: 1,
    starts: 1,
    depth: 12,
    story: &[],
};

pub const ALL: &[Scenario] = &[
    Scenario { name: "dead", tail: 1, ..BASE },
    Scenario { name: "frozen", primary: Life::Frozen, fencers: 2, ..BASE },
    Scenario { name: "frozen, semi-sync", primary: Life::Frozen, semi_sync: Some(1), ..BASE },
    Scenario { name: "next candidate", drain: DrainPolicy::NextCandidate, ..BASE },
    Scenario { name: "forced", kind: Kind::Forced, primary: Life::Frozen, ..BASE },
    Scenario { name: "switchover", kind: Kind::Switchover, primary: Life::Up, ..BASE },
    Scenario {
        name: "switchover, semi-sync",
        kind: Kind::Switchover,
        primary: Life::Up,
        semi_sync: Some(1),
        ..BASE
    },
    Scenario { name: "two in a row", primary: Life::Frozen, starts: 2, ..BASE },
    Scenario {
        name: "an undo by another node, left behind",
        primary: Life::Frozen,
        semi_sync: Some(1),
        starts: 2,
        story: &[
            "Start",
            "start_recovery of node 1",
            "stop_receiver on a:3306 by node 1 (Permitted, term 1) ends",
            "Cancel",
            "begin_undo of node 1",
            "stop_receiver on b:3306 by node 1 (Permitted, term 1) ends",
            "start_receiver on b:3306 by node 1 (Permitted, term 1) ends unknown",
            "node 1 is cut off",
            "node 2 is elected",
        ],
        depth: 7,
        ..BASE
    },
];

/// Written before the model begins.
const WRITTEN: u8 = 3;

impl Scenario {
    /// The world in which the exploration begins.
    pub fn begin(&'static self, faults: u32) -> World {
        let mut world = self.first(self.story.len() as u32);
        for words in self.story {
            let event = world.events().into_iter().find(|event| world.told(*event).contains(words));
            let event = event.unwrap_or_else(|| panic!("{}: nothing is like {words:?}", self.name));
            world = world.after(event);
            assert!(world.broken.is_none(), "{}: {:?}", self.name, world.broken);
        }
        World { faults, ..world }
    }

    fn first(&'static self, faults: u32) -> World {
        let durability = match self.semi_sync {
            Some(acks) => Durability::SemiSync { acks, ackers: vec![samples::id(1), samples::id(2)] },
            None => Durability::Async,
        };
        let policy = Policy { drain_policy: self.drain, ..samples::policy() };
        let state = memo::state(samples::state(policy, durability), BASE_MS);
        let node = |believes| Node { cut_off: false, believes, seen: state.clone(), driver: None };
        let nodes: [Node; NODES] = [node(Some(1)), node(None)];
        World {
            scenario: self,
            now_ms: BASE_MS,
            index: 0,
            term: 1,
            leader: Some(0),
            pending: Vec::new(),
            nodes,
            servers: self.servers(),
            flights: Vec::new(),
            faults,
            starts: self.starts,
            asks: 1,
            memory: Memory { acknowledged: self.acknowledged(), ..Memory::default() },
            broken: None,
            state: Rc::clone(&state),
        }
    }

    fn acknowledged(&self) -> Held {
        match self.semi_sync {
            Some(_) => Held([WRITTEN, 0, 0]),
            None => Held::default(),
        }
    }

    /// A has received everything and not applied it; B is one behind in what it received.
    fn servers(&self) -> [Server; SERVERS] {
        let replica = Server {
            life: Life::Up,
            read_only: true,
            source: Some(0),
            receives: true,
            executed: Held([WRITTEN - 1, 0, 0]),
            received: Held([WRITTEN, 0, 0]),
            acks: None,
            keeps_switches: true,
        };
        let behind = self.kind != Kind::Switchover;
        let b = Held([if behind { WRITTEN - 1 } else { WRITTEN }, 0, 0]);
        let primary = Server {
            life: self.primary,
            read_only: false,
            source: None,
            receives: false,
            executed: Held([WRITTEN + self.tail, 0, 0]),
            received: Held::default(),
            acks: self.semi_sync,
            keeps_switches: self.kind == Kind::Switchover,
        };
        let next = self.drain == DrainPolicy::NextCandidate;
        let b = if next { replica.received } else { b };
        [primary, replica, Server { executed: b, received: b, ..replica }]
    }
}
