//! The daemon of a node: opens Raft over the world's ports, starts the actors over it, watches it; and is started again,
//! as by a supervisor, when Raft could not be opened or has stopped.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use quorate::{
    raft::{OpenError, Options, Profile, Raft, ports},
    server::{
        actors,
        ports::{Host, Ports},
    },
};

use super::{Member, base::SimDisk, call::SimNet, port::SimRaft};
use crate::{
    alone,
    check::Violation,
    executor::SimServers,
    host::Tasks,
    peers::SimPeers,
    rng::Rng,
    trace::Event,
    world::{POISON, Sim, World},
};

/// Name of the group.
const GROUP: &str = "sim";
/// A supervisor's pause before it starts a daemon again, milliseconds.
const AGAIN_MS: u64 = 1_000;

/// A process as Raft has it.
struct SimProcess {
    tasks: Arc<Tasks>,
    rng: Mutex<Rng>,
}

impl ports::Process for SimProcess {
    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.tasks.task(task)
    }

    fn chance(&self) -> u64 {
        self.rng.lock().expect(POISON).bits()
    }
}

/// The life of a daemon, until its process ends.
pub async fn begin(sim: Sim, node: u64, boot: u64, host: Arc<dyn Host>) {
    let (options, ports) = sim.with(|world| world.raft_of(node, boot));
    let answer_within = options.profile.answer_timeout();
    let raft = match Raft::open_over(options, ports).await {
        Ok(raft) => raft,
        Err(error) => return sim.with(|world| world.not_opened(node, boot, &error)),
    };
    sim.with(|world| world.opened(node, boot, raft.clone()));
    for watch in
        [watch_applied(sim.clone(), node, boot, raft.clone()), watch_leader(sim.clone(), node, raft.clone())]
    {
        tokio::spawn(host.task(watch));
    }
    let nodes = raft.membership().voters.into_iter().collect();
    let log = Arc::new(SimRaft { raft: raft.clone(), sim: sim.clone(), node, answer_within });
    let servers = Arc::new(SimServers::new(sim.clone(), node, boot, host.clone(), nodes));
    let peers = Arc::new(SimPeers { sim: sim.clone(), node, boot });
    let actors = actors::start(Ports { log, peers, servers, host });
    sim.with(|world| {
        if let Some(process) = world.process(node) {
            process.actors = Some(actors);
        }
    });
    let why = raft.stopped().await;
    sim.with(|world| world.raft_stopped(node, boot, &why));
}

fn watch_applied(sim: Sim, node: u64, boot: u64, raft: Raft) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut applied = raft.applied();
        loop {
            let index = *applied.borrow_and_update();
            sim.with(|world| world.seen_applied(node, boot, index));
            if applied.changed().await.is_err() {
                return;
            }
        }
    })
}

fn watch_leader(sim: Sim, node: u64, raft: Raft) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut leadership = raft.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            sim.with(|world| world.seen_leader(node, now));
            if leadership.changed().await.is_err() {
                return;
            }
        }
    })
}

impl World {
    fn raft_of(&self, node: u64, boot: u64) -> (Options, ports::Ports) {
        let entry = &self.nodes[&node];
        let process = entry.process.as_ref().expect("it begins");
        let mut options = Options::new(node, GROUP, format!("/node{node}"));
        options.profile = if self.group.timing.is_lan() { Profile::Lan } else { Profile::Wan };
        options.node_addr = format!("node{node}:1");
        options.client_addr = format!("node{node}:2");
        let (every, keep) = entry.snapshot_every;
        (options.snapshot_every, options.keep_behind_snapshot) = (every as u64, keep as u64);
        let disk = SimDisk {
            sim: self.handle.clone(),
            node,
            boot,
            incarnation: entry.incarnation.to_string(),
            platter: entry.home.platter.clone(),
        };
        let dial_within = Duration::from_millis(self.group.timing.election_max_ms / 2);
        let net = SimNet { sim: self.handle.clone(), node, boot, dial_within };
        let rng = Mutex::new(Rng::new(self.seed, &format!("raft of process {boot} of node {node}")));
        let process = SimProcess { tasks: process.tasks.clone(), rng };
        let ports =
            ports::Ports { disk: Arc::new(disk), net: Arc::new(net), process: Some(Arc::new(process)) };
        (options, ports)
    }

    fn opened(&mut self, node: u64, boot: u64, raft: Raft) {
        if !self.lives(node, boot) {
            return;
        }
        let service = raft.grpc_service();
        self.process(node).expect("it lives").member = Some(Member { raft, service, seen: None, led: 0 });
        self.note(Event::NodeOpened(node));
        self.compare_disk(node);
    }

    fn not_opened(&mut self, node: u64, boot: u64, error: &OpenError) {
        if !self.lives(node, boot) {
            return;
        }
        self.tell_of(format!("node {node} does not open: {error}"));
        let troubled = self.nodes[&node].home.platter.troubled().is_some();
        match error {
            OpenError::DiskFull { .. } => self.counts.reach("node refused to open: no room"),
            // Its first sync fails.
            OpenError::Unwritable { .. } | OpenError::Start { .. } if troubled => {}
            other => {
                self.broken("P9 it opens after any crash", format!("node {node}: {other}"));
                self.kill_node(node);
                return;
            }
        }
        self.start_again(node);
    }

    fn raft_stopped(&mut self, node: u64, boot: u64, why: &str) {
        if !self.lives(node, boot) {
            return;
        }
        self.tell_of(format!("node {node}: raft stopped: {why}"));
        match self.nodes[&node].home.platter.troubled() {
            _ if why.contains("panicked") && alone::only_in_debug_builds() => {
                self.tell_of("so do debug builds only")
            }
            None => self.broken("Raft stops for its disk only", format!("node {node}: {why}")),
            Some(super::platter::Trouble::Full) => self.counts.reach("node stopped by a full disk"),
            Some(_) => self.counts.reach("node stopped by a failing disk"),
        }
        self.start_again(node);
    }

    fn start_again(&mut self, node: u64) {
        self.kill_node(node);
        self.after(AGAIN_MS, move |world| {
            world.start_node(node);
        });
    }

    /// A promise that no event shows was not kept. Said once, however often it is seen.
    pub(super) fn broken(&mut self, check: &'static str, what: String) {
        if self.violations.iter().any(|known| known.check == check && known.what == what) {
            return;
        }
        self.violations.push(Violation { at: self.now, check: check.into(), what });
    }
}
