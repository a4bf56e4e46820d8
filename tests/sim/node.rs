//! A node: what survives its process, and the process while it lives.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    executor::SimServers,
    host::{Clocks, SimHost, Tasks},
    net::End,
    peers::SimPeers,
    raft::{Disk, Live, SimLog},
    real::{self, Crash, Home, Member, Tier},
    told::Told,
    trace::Event,
    world::{Due, Sim, World},
};
use quorate::server::{
    actors::{self, Actors},
    ports::{Host, Ports},
};
use tokio::time::Instant;

/// One node.
pub struct Node {
    /// Random name of its directory (P9).
    pub incarnation: Arc<str>,
    /// What a restart finds again, in tier A.
    pub disk: Disk,
    /// The same in tier B.
    pub home: Home,
    /// Entries after which a snapshot is made, and how many are kept behind it.
    pub snapshot_every: (usize, usize),
    /// Its process, while it runs.
    pub process: Option<Process>,
    /// Counts its processes.
    pub boots: u64,
    /// Up to this much passes between a commit and its application, milliseconds.
    pub apply_lag_ms: u64,
    /// Up to this much passes until an entry is on disk, milliseconds.
    pub sync_ms: u64,
    /// Starts of recoveries are held up on their way to its Raft.
    pub hold: Option<Hold>,
    /// Parts per million by which its clock is fast.
    pub drift: i64,
}

/// How starts are held up.
pub struct Hold {
    /// For so long, milliseconds.
    pub ms: u64,
    /// Whether there was one.
    pub met: bool,
}

/// The process of a node.
pub struct Process {
    /// Which of its processes.
    pub boot: u64,
    /// Its tasks.
    pub tasks: Arc<Tasks>,
    /// Its clocks.
    pub clocks: Arc<Clocks>,
    /// Tells its own pauses.
    pub pauses: Arc<Told<u64>>,
    /// Paused: what has come in meanwhile.
    pub held: Option<Vec<Due>>,
    /// The end of its last pause that voids permits.
    pub woke: Option<Instant>,
    /// Its part in the group, in tier A.
    pub raft: Live,
    /// The same in tier B, once it is open.
    pub member: Option<Member>,
    /// Its actors.
    pub actors: Option<Actors>,
}

impl Node {
    /// A node that has never run.
    pub fn new(incarnation: String, snapshot_every: (usize, usize)) -> Self {
        Self {
            incarnation: incarnation.into(),
            disk: Disk::default(),
            home: Home::default(),
            snapshot_every,
            process: None,
            boots: 0,
            apply_lag_ms: 0,
            hold: None,
            sync_ms: 0,
            drift: 0,
        }
    }
}

/// A process that is about to start its actors.
struct Began {
    sim: Sim,
    node: u64,
    boot: u64,
    host: Arc<dyn Host>,
    log: Arc<SimLog>,
    nodes: Vec<u64>,
}

impl Began {
    async fn begin(self) {
        let Self { sim, node, boot, host, log, nodes } = self;
        let servers = Arc::new(SimServers::new(sim.clone(), node, boot, host.clone(), nodes));
        let peers = Arc::new(SimPeers { sim: sim.clone(), node, boot });
        let actors = actors::start(Ports { log, peers, servers, host });
        sim.with(|world| {
            if world.lives(node, boot) {
                world.process(node).expect("it lives").actors = Some(actors);
            }
        });
    }
}

impl Node {
    /// Polls of its present process' tasks.
    pub fn polls(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.tasks.polls.load(Relaxed))
    }
}

impl World {
    /// The process of a node, if it runs.
    pub fn process(&mut self, node: u64) -> Option<&mut Process> {
        self.nodes.get_mut(&node).and_then(|node| node.process.as_mut())
    }

    /// Whether that very process still lives, paused or not.
    pub fn lives(&self, node: u64, boot: u64) -> bool {
        self.nodes.get(&node).and_then(|n| n.process.as_ref()).is_some_and(|p| p.boot == boot)
    }

    /// Whether a node's process runs and is not paused.
    pub fn runs(&self, node: u64) -> bool {
        self.nodes.get(&node).and_then(|n| n.process.as_ref()).is_some_and(|p| p.held.is_none())
    }

    /// Something that a process does: at once, or once it goes on after its pause; never, if it is gone.
    pub fn as_process(&mut self, node: u64, boot: u64, due: impl FnOnce(&mut World) + Send + 'static) {
        if !self.lives(node, boot) {
            return;
        }
        let process = self.process(node).expect("it lives");
        match &mut process.held {
            Some(held) => held.push(Box::new(due)),
            None => due(self),
        }
    }

    /// The same after `ms`.
    pub fn process_after(
        &mut self,
        node: u64,
        boot: u64,
        ms: u64,
        due: impl FnOnce(&mut World) + Send + 'static,
    ) {
        self.after(ms, move |world| world.as_process(node, boot, due));
    }

    /// SIGSTOP.
    pub fn pause_node(&mut self, node: u64) -> bool {
        let Some(process) = self.process(node).filter(|p| p.held.is_none()) else { return false };
        process.held = Some(Vec::new());
        process.tasks.pause();
        self.note(Event::NodePaused(node));
        true
    }

    /// SIGCONT. The process notices within a beat that it slept.
    pub fn resume_node(&mut self, node: u64, slept_ms: u64, suspended: bool) -> bool {
        let beat = self.rng.range(0, 25);
        let woke = self.instant;
        let Some(process) = self.process(node) else { return false };
        let Some(held) = process.held.take() else { return false };
        let boot = process.boot;
        if suspended {
            process.clocks.suspended(slept_ms);
        }
        if slept_ms > 200 {
            process.woke = Some(woke);
        }
        process.tasks.resume();
        self.note(Event::NodeResumed(node));
        for due in held {
            due(self);
        }
        if slept_ms > 200 {
            self.process_after(node, boot, beat, move |world| {
                if let Some(process) = world.process(node) {
                    let count = process.pauses.now() + 1;
                    process.pauses.tell(count);
                }
            });
        }
        true
    }

    /// SIGKILL. Its disk stays.
    pub fn kill_node(&mut self, node: u64) -> bool {
        self.end_process(node, Crash::Process)
    }

    /// The process ends, by itself or with its machine.
    pub fn end_process(&mut self, node: u64, how: Crash) -> bool {
        let Some(process) = self.nodes.get_mut(&node).and_then(|n| n.process.take()) else { return false };
        process.tasks.kill();
        if self.tier == Tier::B {
            self.crash_disk(node, how);
            self.wires_of_dead(node, process.boot, how == Crash::Power);
        }
        let polls = process.tasks.polls.load(Relaxed);
        self.polls += polls;
        self.sessions_of_dead(node, process.boot);

        self.note(Event::NodeKilled(node));
        true
    }

    /// Starts the process of a node, actors and all.
    pub fn start_node(&mut self, node: u64) -> bool {
        if self.nodes.get(&node).is_none_or(|entry| entry.process.is_some()) {
            return false;
        }
        let host = self.boot_node(node);
        let boot = self.process(node).expect("just booted").boot;
        let sim = self.handle.clone();
        if self.tier == Tier::B {
            let tasks = self.process(node).expect("just booted").tasks.clone();
            tokio::spawn(tasks.task(Box::pin(real::begin(sim, node, boot, host))));
            return true;
        }
        let nodes = self.nodes[&node].disk.config().voters.keys().copied().collect();
        let log = SimLog::new(self, node);
        // The actors look at their ports at once: outside of the world.
        let began = Began { sim, node, boot, host, log: Arc::new(log), nodes };
        self.handle.start(began.begin());
        true
    }

    /// The node loses its data directory: it comes back with an empty one, of another incarnation, under its old id.
    pub fn wipe_node(&mut self, node: u64) -> bool {
        // A second one meanwhile may cost the majority: what helps then is `quorate nodes rescue`, a person's work.
        if self.replacing.is_some() || !self.kill_node(node) {
            return false;
        }
        self.replacing = Some(node);
        self.wipe(node);
        true
    }

    /// The same, whatever else is under way.
    pub fn wipe(&mut self, node: u64) {
        self.kill_node(node);
        let entry = self.nodes.get_mut(&node).expect("a node of the run");
        entry.incarnation = format!("{}-wiped", entry.incarnation).into();
        (entry.disk, entry.home) = (Disk::default(), Home::default());
        self.tell_of(format!("node {node} has lost its data directory"));
        self.start_node(node);
    }

    /// An operator replaces a node under a new id: the old one leaves for good.
    pub fn replace_node(&mut self, old: u64) -> bool {
        let new = self.nodes.keys().max().expect("nodes") + 1;
        let Some(entry) = self.nodes.get(&old) else { return false };
        if self.replacing.is_some_and(|other| other != old) {
            return false;
        }
        self.replacing = Some(old);
        let snapshot_every = entry.snapshot_every;
        self.nodes.insert(new, Node::new(format!("i{new}"), snapshot_every));
        let datacenter = self.net.datacenter(End::Node(old));
        self.net.place(End::Node(new), datacenter);
        self.start_node(new);
        self.replace_step(old, new, 0);
        true
    }

    /// Removes, then adds, each tried until it is in the log.
    fn replace_step(&mut self, old: u64, new: u64, tries: u32) {
        let voters = self.group.state.voters.clone();
        if voters.contains_key(&new) {
            self.kill_node(old);
            self.nodes.remove(&old);
            self.replacing = None;
            return;
        }
        match voters.contains_key(&old) {
            true => self.remove_voter(old),
            false => self.add_voter(new),
        };
        if tries < 400 {
            self.after(250, move |world| world.replace_step(old, new, tries + 1));
        }
    }

    /// Makes the process of a node, without its actors; returns what they live in.
    fn boot_node(&mut self, node: u64) -> Arc<dyn Host> {
        let uptime = self.rng.range(10_000, 100_000_000);
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node of the run");
        assert!(entry.process.is_none(), "it runs already");
        entry.boots += 1;
        let boot = entry.boots;
        let clocks = Arc::new(Clocks::new(self.handle.clock().clone(), entry.drift, uptime, 0));
        let tasks = Arc::new(Tasks::new(self.handle.clock().clone()));
        let pauses = Arc::new(Told::new(0));
        let raft = Live::restore(&entry.disk, now);
        let names = (self.seed, node, boot);
        let host = SimHost::new(tasks.clone(), clocks.clone(), pauses.clone(), names);
        let (held, woke, member, actors) = (None, None, None, None);
        entry.process = Some(Process { boot, tasks, clocks, pauses, held, woke, raft, member, actors });
        self.note(Event::NodeStarted(node));
        if self.tier == Tier::A {
            self.begin_raft(node);
        }
        Arc::new(host)
    }
}
