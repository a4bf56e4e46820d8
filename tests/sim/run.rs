//! One run: builds the world of a scenario, lets it live through its faults, heals it, and asks every check.

use std::{collections::BTreeMap, time::Duration};

use quorate::{
    core::{
        plan::durability,
        replicated::{Change, Kind, Member, MemberState, Outcome, Recovery},
    },
    model::server::{ClusterId, Flavor, ServerId},
};

use serde::{Deserialize, Serialize};

use super::{
    check::Violation,
    clock::Clock,
    count::Counts,
    fleet::{Config, Fleet, SemiSyncSource, ServerNo, ServerSpec, Thread},
    net::End,
    node::Node,
    operator::Operation,
    real::Tier,
    scenario::Scenario,
    world::{Sim, World},
};

/// What MySQL and MariaDB take at most as a semi-sync time-out, milliseconds.
const TIMEOUT_MAX_MS: u64 = 4_294_967_295;
/// How often a healed run is looked at, whether it is at rest, milliseconds.
const LOOK_MS: usize = 1_000;
/// The run's one cluster.
const CLUSTER: &str = "c-1";

/// What a run brought.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// Simulated time, milliseconds.
    pub simulated_ms: u64,
    /// Faults that took effect.
    pub faults: usize,
    /// Interesting states.
    pub counts: Counts,
    /// Everything that happened, a line each.
    pub lines: Vec<String>,
    /// Polls of tasks.
    pub polls: u64,
}

/// Runs a scenario. `keep`: with the lines of what happened; without, only where a promise was broken.
pub fn run(seed: u64, scenario: &Scenario, keep: bool) -> Report {
    let runtime = Clock::runtime(scenario.tier);
    let sim = runtime.block_on(async {
        let sim = Sim::new(seed, scenario.tier);
        sim.with(|world| build(world, scenario));
        sim.start(adopt(sim.clone(), scenario.clone()));
        live(&sim, scenario).await;
        sim.with(World::settle);
        sim
    });
    let mut world = sim.end();
    drop(runtime);
    world.polls += world.nodes.values().map(Node::polls).sum::<u64>();
    let mut lines: Vec<String> = match keep || !world.violations.is_empty() {
        true => world.trace.lines().collect(),
        false => Vec::new(),
    };
    if !world.violations.is_empty() {
        lines.extend(
            servers_in_words(&world).into_iter().map(|(at, said)| format!("in the end server {at}: {said}")),
        );
    }
    Report {
        seed,
        violations: std::mem::take(&mut world.violations),
        simulated_ms: world.now,
        faults: world.faults.took,
        counts: std::mem::take(&mut world.counts),
        lines,
        polls: world.polls,
    }
}

/// Until its end, or until it has come to rest after the faults. Tier B's is played in full: its own log of proposals and
/// barriers never rests.
async fn live(sim: &Sim, scenario: &Scenario) {
    if scenario.tier == Tier::A {
        for at in (scenario.faulty_until..scenario.end).step_by(LOOK_MS) {
            sim.run_until(at).await;
            if at > scenario.faulty_until && sim.with(|world| world.is_at_rest()) {
                return;
            }
        }
    }
    sim.run_until(scenario.end).await;
}

fn build(world: &mut World, scenario: &Scenario) {
    (world.net.near_ms, world.net.far_ms, world.net.jitter_ms) = scenario.ways_ms;
    world.group.timing = scenario.timing;
    world.kind = scenario.kind;
    build_servers(world, scenario);
    for (at, plan) in scenario.nodes.iter().enumerate() {
        let id = at as u64 + 1;
        let mut node = Node::new(format!("i{id}"), scenario.snapshot_every);
        (node.apply_lag_ms, node.sync_ms, node.drift) = (plan.apply_lag_ms, plan.sync_ms, plan.drift);
        world.nodes.insert(id, node);
        world.net.place(End::Node(id), plan.datacenter);
    }
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    if world.tier == Tier::A {
        world.group.first = 1;
        world.found_group(&ids);
    }
    for id in ids {
        world.start_node(id);
    }
    if world.tier == Tier::B {
        world.make_group();
    }
    for (number, pause_ms) in scenario.clients.iter().enumerate() {
        let number = number as u32;
        world
            .net
            .place(End::Client(number), scenario.nodes[number as usize % scenario.nodes.len()].datacenter);
        world.start_client(number, 0, *pause_ms);
    }
    world.plan_faults(scenario.faults.clone());
    for (at, operation) in scenario.operations.clone() {
        world.at(at, move |world| {
            let again = world.rng.chance(30);
            world.operate(operation, again);
        });
    }
    world.at(scenario.faulty_until, World::heal_everything);
    for after in [500, 3_000, 20_000, 30_000, 40_000] {
        // What a person does when all is well again.
        world.at(scenario.faulty_until + after, World::calm_down);
    }
}

fn build_servers(world: &mut World, scenario: &Scenario) {
    let spec = |(at, plan): (usize, &super::scenario::ServerPlan)| {
        let ordinary = ServerSpec::ordinary(scenario.flavor, at as u32 + 1);
        let source = SemiSyncSource {
            timeout_ms: TIMEOUT_MAX_MS,
            wait_no_replica: true,
            wait_for: scenario.semi_sync.unwrap_or(1),
        };
        let config = Config {
            read_only: plan.read_only,
            super_read_only: plan.read_only && scenario.flavor == Flavor::MySql,
            semi_sync_source: scenario.semi_sync.filter(|_| at == 0).map(|_| source),
            semi_sync_replica: scenario.semi_sync.is_some() && at != 0,
            ..ordinary.config.clone()
        };
        ServerSpec { config, apply_ms: plan.apply_ms, sync_binlog: plan.sync_binlog, ..ordinary }
    };
    world.fleet = Fleet::new(scenario.servers.iter().enumerate().map(spec));
    world.fleet.set_read_only(ServerNo(0), false, 0);
    for (at, plan) in scenario.servers.iter().enumerate() {
        world.net.place(End::Server(at), plan.datacenter);
        if let Some(source) = plan.source {
            world.fleet.follow(ServerNo(at), ServerNo(source), scenario.policy.heartbeat_ms, 1);
            if source != 0 {
                world.chained.insert(ServerNo(at));
            }
        }
    }
}

/// The name that Quorate has for a server.
pub fn server_id(spec: &ServerSpec) -> ServerId {
    ServerId(spec.uuid.clone().unwrap_or_else(|| format!("mdb-{}", spec.server_id)))
}

/// Takes the cluster under care and sets the policy, as an operator would; tried until it is done.
async fn adopt(sim: Sim, scenario: Scenario) {
    let members: Vec<Member> = sim.with(|world| {
        let member = |(at, plan): (usize, &super::scenario::ServerPlan)| {
            let spec = &world.fleet.server(ServerNo(at)).spec;
            Member {
                server: server_id(spec),
                identity: spec.identity(),
                address: spec.address.clone(),
                version: spec.version.text.clone(),
                source: plan.source.map(|source| server_id(&world.fleet.server(ServerNo(source)).spec)),
                channel: String::new(),
                channels: u32::from(plan.source.is_some()),
                datacenter: Some(format!("dc{}", plan.datacenter)),
                state: MemberState::Normal,
            }
        };
        scenario.servers.iter().enumerate().map(member).collect()
    });
    let durability = sim.with(|world| {
        let now = world.now;
        let read =
            |(at, member): (usize, &Member)| (member.server.clone(), world.fleet.read(ServerNo(at), now));
        let facts = members.iter().enumerate().map(read).collect();
        durability::observed(&members[0].server, &members, &facts)
    });
    let adopt = Change::AdoptCluster {
        cluster: ClusterId(CLUSTER.into()),
        alias: None,
        flavor: scenario.flavor,
        primary: Some(members[0].server.clone()),
        members,
        durability: durability.expect("every server was read"),
    };
    let policy = Change::SetPolicy { version: 1, policy: Box::new(scenario.policy.clone()) };
    for (number, change) in [policy, adopt].into_iter().enumerate() {
        loop {
            sim.clock().sleep(Duration::from_millis(200)).await;
            let leader = sim.try_with(|world| {
                let leader = world.leader()?;
                let process = world.process(leader)?;
                Some((process.tasks.clone(), process.actors.clone()?))
            });
            let Some(leader) = leader else { return };
            let Some((tasks, actors)) = leader else { continue };
            let request = Some(format!("setup-{number}"));
            match tasks.serve(actors.tools.group.submit(change.clone(), "setup", request)).await {
                Some(Ok((_, Outcome::Refused(refusal)))) => panic!("the set-up is refused: {refusal}"),
                Some(Ok(_)) => break,
                Some(Err(_)) | None => {}
            }
        }
    }
}

impl World {
    /// After the faults, what a person does: acknowledges, lifts what was forbidden.
    fn calm_down(&mut self) {
        for operation in [
            Operation::Recoveries(true),
            Operation::Downtime(0),
            Operation::Maintenance(0),
            Operation::Acknowledge,
        ] {
            self.operate(operation, false);
        }
        self.set_switches();
        self.set_going();
        self.choose_the_loss();
    }

    /// An old primary that lost what it wrote is not opened again: the record says so, and to promote another, or to open it
    /// by hand.
    fn choose_the_loss(&mut self) {
        let said = |recovery: &Recovery| {
            recovery.running()
                && recovery.steps.iter().any(|s| s.step == "unfence" && s.outcome.contains("it lacks"))
        };
        let Some(recovery) = self.group.state.recoveries.values().find(|recovery| said(recovery)) else {
            return;
        };
        let (tried, old) = (recovery.kind == Kind::Forced, recovery.old_primary.address.clone());
        match self.fleet.server_at(&old).filter(|_| tried) {
            // Nobody could be promoted.
            Some(no) => {
                self.fleet.set_read_only(no, false, self.now);
                self.tell_of(format!("a person sets read_only=false on server {}", no.0));
            }
            None => self.operate(Operation::Force, false),
        }
    }

    /// A recovery that was given up says which replicas it could not set going again.
    fn set_going(&mut self) {
        let state = &self.group.state;
        if state.clusters.values().any(|cluster| cluster.slot.is_some()) {
            return;
        }
        let said = state.recoveries.values().filter_map(|r| r.reason.split_once("could not be undone"));
        let said: Vec<String> = said.map(|(_, what)| what.to_owned()).collect();
        for no in (0..self.fleet.servers().len()).map(ServerNo) {
            let server = self.fleet.server(no);
            let address = server.spec.address.to_string();
            let stopped = server.channels.iter().any(|channel| channel.receiver.stream().is_none());
            let named = said.iter().any(|what| what.contains(&address));
            if server.runs() && stopped && named && self.primary() != Some(no) {
                self.fleet.start_threads(no, Thread::Receiver, self.now);
                self.tell_of(format!("a person starts the receiver of server {}", no.0));
            }
            let point = format!("point on {address} ");
            let primary = self.primary().filter(|primary| *primary != no);
            if let Some(primary) = primary.filter(|_| said.iter().any(|what| what.contains(&point))) {
                self.point_back(no, primary);
            }
        }
    }

    /// Where nothing that was received would be thrown away.
    fn point_back(&mut self, no: ServerNo, primary: ServerNo) {
        let server = self.fleet.server(no);
        let source = &self.fleet.server(primary).spec.address;
        let elsewhere = server.channels.iter().any(|c| c.options.source != *source && c.relay.is_empty());
        if server.runs() && elsewhere {
            let heartbeat_ms = self.group.state.policy.heartbeat_ms;
            self.fleet.stop_threads(no, Thread::Both, self.now);
            self.fleet.follow(no, primary, heartbeat_ms, 1);
            self.tell_of(format!("a person points server {} back at server {}", no.0, primary.0));
        }
    }

    /// A server that was started anew has the switches of its configuration file; Quorate shows that and leaves it to
    /// people, where no standing order is about that server.
    fn set_switches(&mut self) {
        let state = &self.group.state;
        let Some(cluster) = state.clusters.values().next().filter(|cluster| cluster.slot.is_none()) else {
            return;
        };
        let mut set = Vec::new();
        let in_service =
            |member: &&Member| matches!(member.state, MemberState::Normal | MemberState::Changed { .. });
        for member in cluster.members.values().filter(in_service) {
            let Some(no) = self.fleet.server_at(&member.address) else { continue };
            let ordered = state.orders.values().any(|order| order.target.server == member.server);
            if self.restarted.contains(&no) && !ordered {
                set.push((no, cluster.primary.as_ref() != Some(&member.server)));
            }
        }
        let acknowledged = self.primary().is_some_and(|no| self.fleet.server(no).semi.source_enabled);
        for (no, read_only) in set {
            let semi = &self.fleet.server(no).semi;
            let receives = self.fleet.server(no).channels.iter().any(|c| c.receiver.stream().is_some());
            if acknowledged && read_only && receives && !semi.replica_enabled {
                self.fleet.let_acknowledge(no, self.now);
                self.tell_of(format!("a person makes server {} a semi-sync replica", no.0));
            }
            if self.fleet.server(no).switches.read_only != read_only {
                self.fleet.set_read_only(no, read_only, self.now);
                self.tell_of(format!("a person sets read_only={read_only} on server {}", no.0));
            }
        }
    }

    /// The end of a run: states are compared, every check says its last word.
    fn settle(&mut self) {
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.compare_now(node);
        }
        self.check_end();
    }
}

/// States of servers, for a reader.
pub fn servers_in_words(world: &World) -> BTreeMap<usize, String> {
    let say = |(at, server): (usize, &super::fleet::SimServer)| {
        let channels: Vec<String> = server
            .channels
            .iter()
            .map(|c| format!("from {} ({:?}, applier {})", c.options.source, c.receiver, c.applier_running))
            .collect();
        let state = format!(
            "{:?}{}, read_only {}, executed {}, {}",
            server.process,
            if server.frozen { " frozen" } else { "" },
            server.switches.read_only,
            server.log.executed(),
            channels.join("; ")
        );
        (at, state)
    };
    world.fleet.servers().iter().enumerate().map(say).collect()
}
