//! A node: what survives its process, and the process while it lives.

use std::sync::{
    Arc,
    atomic::Ordering::Relaxed,
};

use quorate::server::ports::Host;
use tokio::sync::watch;

use super::{
    host::{Clocks, SimHost, Tasks},
    raft::{Disk, Live},
    trace::Event,
    world::{Due, World},
};

/// One node.
pub struct Node {
    /// Its number.
    pub id: u64,
    /// What a restart finds again.
    pub disk: Disk,
    /// Its process, while it runs.
    pub process: Option<Process>,
    /// Counts its processes.
    pub boots: u64,
    /// Up to this much passes between a commit and its application, milliseconds.
    pub apply_lag_ms: u64,
    /// Up to this much passes until an entry is on disk, milliseconds.
    pub sync_ms: u64,
    /// Parts per million by which its clock is fast.
    pub drift: i64,
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
    pub pauses: watch::Sender<u64>,
    /// Paused: what has come in meanwhile.
    pub held: Option<Vec<Due>>,
    /// Its part in the group.
    pub raft: Live,
}

impl Node {
    /// A node that has never run.
    pub fn new(id: u64, disk: Disk) -> Self {
        Self { id, disk, process: None, boots: 0, apply_lag_ms: 0, sync_ms: 0, drift: 0 }
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
        let Some(process) = self.process(node) else { return false };
        let Some(held) = process.held.take() else { return false };
        let boot = process.boot;
        if suspended {
            process.clocks.suspended(slept_ms);
        }
        process.tasks.resume();
        self.note(Event::NodeResumed(node));
        for due in held {
            due(self);
        }
        if slept_ms > 200 {
            self.process_after(node, boot, beat, move |world| {
                if let Some(process) = world.process(node) {
                    process.pauses.send_modify(|count| *count += 1);
                }
            });
        }
        true
    }

    /// SIGKILL. Its disk stays.
    pub fn kill_node(&mut self, node: u64) -> bool {
        let Some(process) = self.nodes.get_mut(&node).and_then(|n| n.process.take()) else { return false };
        process.tasks.kill();
        let polls = process.tasks.polls.load(Relaxed);
        let _ = polls;
        
        self.note(Event::NodeKilled(node));
        true
    }

    /// Makes the process of a node, without its actors; returns what they live in.
    pub fn boot_node(&mut self, node: u64) -> Arc<dyn Host> {
        let uptime = self.rng.range(10_000, 100_000_000);
        let now = self.now;
        let entry = self.nodes.get_mut(&node).expect("a node of the run");
        assert!(entry.process.is_none(), "it runs already");
        entry.boots += 1;
        let boot = entry.boots;
        let clocks = Arc::new(Clocks::new(entry.drift, uptime, 0));
        let tasks = Arc::new(Tasks::default());
        let pauses = watch::channel(0).0;
        let raft = Live::restore(&entry.disk, now);
        let host = SimHost { tasks: tasks.clone(), clocks: clocks.clone(), pauses: pauses.clone() };
        entry.process = Some(Process { boot, tasks, clocks, pauses, held: None, raft });
        self.note(Event::NodeStarted(node));
        self.begin_raft(node);
        Arc::new(host)
    }
}
