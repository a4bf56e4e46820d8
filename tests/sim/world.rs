//! The world of one run: what is true at this moment, and what happens next. One queue, ordered by time and then by
//! when it was asked for: nothing else decides an order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use tokio::{sync::Notify, task::yield_now, time::Instant};

use quorate::{
    core::replicated::{Change, Command},
    model::address::Address,
};

use super::{
    agenda::Agenda,
    check::{Check, Violation, account::changed},
    client::Clients,
    clock::Clock,
    count::Counts,
    fault::Faults,
    fleet::{Account, Dialled, Fleet, ServerNo, SessionNo, Statement, Ticket},
    host::Tasks,
    lines::Lines,
    net::{End, Harm, Net, Select},
    node::Node,
    prober::Probers,
    raft::Group,
    real::{Calls, Members, Tier, Trap, Wires},
    rng::Rng,
    scenario::Kind,
    stranger::Strangers,
    trace::{Event, Trace},
};

/// A lock of the simulation is held by one thread and never across a panic that is survived.
pub const POISON: &str = "one thread, and a panic ends the run";

/// More calls at one moment than any history needs: something goes round in circles.
const STIRS_MAX: u64 = 200_000;

/// Something that happens at a time.
pub type Due = Box<dyn FnOnce(&mut World) + Send>;

/// Everything.
pub struct World {
    /// True time, milliseconds since the run began.
    pub now: u64,
    /// The same as tokio has it.
    pub instant: Instant,
    agenda: Agenda<Due>,
    /// What the engine sleeps until, in tier B.
    asleep_until: u64,
    must_wake: bool,
    /// When anything last happened but acknowledgements.
    pub stirred_at: u64,
    /// Calls since time last went on.
    stirs: u64,
    /// The run's.
    pub seed: u64,
    /// To hand to tasks and answers.
    pub handle: Sim,
    /// Chance in what goes on (delays, losses); the scenario has generators of its own.
    pub rng: Rng,
    /// Who reaches whom.
    pub net: Net,
    /// Quorate's nodes.
    pub nodes: BTreeMap<u64, Node>,
    /// What the nodes agreed on, as an onlooker knows it.
    pub group: Group,
    /// Which Raft they have.
    pub tier: Tier,
    /// Connections between them, where it is the product's.
    pub wires: Wires,
    /// Calls over them.
    pub calls: Calls,
    /// What operators do to the group.
    pub members: Members,
    /// Losses of power that wait for a sync.
    pub traps: Vec<Trap>,
    /// The database servers.
    pub fleet: Fleet,
    /// Connections to them.
    pub lines: Lines,
    /// Who looks at them.
    pub probers: Probers,
    /// Who writes to them.
    pub clients: Clients,
    /// What is done to them all.
    pub faults: Faults,
    /// Servers that hold rows which nobody else may ever hold, since when.
    pub errant: BTreeMap<ServerNo, u64>,
    /// Replicas that were set up to follow another one.
    pub chained: BTreeSet<ServerNo>,
    /// Servers that stand at an address that is another's.
    pub strangers: Strangers,
    /// When each recovery was published.
    pub published: BTreeMap<u64, u64>,
    /// Servers whose process began anew: their switches are as their configuration files have them.
    pub restarted: BTreeSet<ServerNo>,
    /// When starts, decisions and publications were proposed: by node, term and log time.
    pub proposed: BTreeMap<(u64, u64, u64), u64>,
    /// Operators' requests that were answered.
    pub answered: BTreeSet<String>,
    /// The node that is being replaced: one at a time.
    pub replacing: Option<u64>,
    /// Requests of operators so far.
    pub operations: u64,
    /// Interesting states it came by.
    pub counts: Counts,
    /// What the run is about.
    pub kind: Kind,
    /// What happened.
    pub trace: Trace,
    /// What must never happen.
    pub checks: Vec<Box<dyn Check>>,
    /// What did.
    pub violations: Vec<Violation>,
    /// Polls of tasks of processes that are gone.
    pub polls: u64,
}

/// The network as the servers use it among themselves: a lost packet is a late one.
struct Ways<'a> {
    net: &'a mut Net,
    rng: &'a mut Rng,
}

impl super::fleet::Net for Ways<'_> {
    fn path(&mut self, from: ServerNo, to: ServerNo) -> Option<u64> {
        self.net.late(End::Server(from.0), End::Server(to.0), self.rng)
    }
}

impl World {
    /// A start or a decision is judged by what was known when it was proposed, however late it is committed.
    pub fn note_proposal(&mut self, node: u64, term: u64, command: &Command) {
        let judged = matches!(
            command.change,
            Change::StartRecovery(_)
                | Change::DecidePromotion { .. }
                | Change::NextCandidate { .. }
                | Change::Publish { .. }
                | Change::AdvanceOrder { .. }
        );
        if judged {
            self.proposed.insert((node, term, command.at_ms), self.now);
        }
    }

    /// Lets something happen at `at`, or now if that is past.
    pub fn at(&mut self, at: u64, due: impl FnOnce(&mut World) + Send + 'static) {
        let at = at.max(self.now);
        self.agenda.push(at, Box::new(due));
        if at < self.asleep_until {
            self.must_wake = true;
        }
    }

    /// Lets something happen after `ms`.
    pub fn after(&mut self, ms: u64, due: impl FnOnce(&mut World) + Send + 'static) {
        self.at(self.now + ms, due);
    }

    /// Lets something arrive at `to` from `from`; lost where the way is cut, late where it is slow. Returns whether it
    /// is on its way.
    pub fn travel(&mut self, from: End, to: End, due: impl FnOnce(&mut World) + Send + 'static) -> bool {
        let Some(delay) = self.net.delay(from, to, &mut self.rng) else { return false };
        self.after(delay, due);
        true
    }

    /// When a recovery was published, true time.
    pub fn published_at(&self, recovery: u64) -> Option<u64> {
        self.published.get(&recovery).copied()
    }

    /// Notes what happened, and shows it to the checks.
    pub fn note(&mut self, event: Event) {
        if let Some((Change::Publish { recovery }, _)) = changed(&event) {
            self.published.insert(*recovery, self.now);
        }
        self.stir_by(&event);
        self.check(&event);
        self.count(&event);
        self.trace.push(self.now, event);
    }

    /// Tells what happened, in words.
    pub fn tell_of(&mut self, what: impl Into<String>) {
        self.note(Event::Told(what.into()));
    }

    /// Harms a way from now on.
    pub fn harm(&mut self, from: Select, to: Select, harm: Harm) -> u64 {
        let rule = self.net.harm(from, to, harm);
        self.fleet.paths_changed(self.now);
        rule
    }

    /// Takes a harm away; returns how often it met something.
    pub fn heal(&mut self, rule: u64) -> u64 {
        let hits = self.net.heal(rule);
        self.fleet.paths_changed(self.now);
        hits
    }

    /// Who listens there.
    pub fn server_at(&self, address: &Address) -> Option<ServerNo> {
        self.fleet.server_at(address)
    }

    /// A connection request has come to a server.
    pub fn connect_server(&mut self, server: ServerNo, account: Account, from: End) -> Dialled {
        let host = match from {
            End::Node(node) => format!("node{node}"),
            End::Client(client) => format!("client{client}"),
            End::Server(server) => format!("db{server}"),
        };
        self.fleet.connect(server, &host, account, self.now)
    }

    /// Statements have come to a server.
    pub fn send_to_session(&mut self, session: SessionNo, statements: Vec<Statement>) -> Ticket {
        self.fleet.send(session, statements, self.now)
    }

    /// The end of a connection has come to a server.
    pub fn end_session(&mut self, session: SessionNo) {
        self.fleet.hang_up(session, self.now);
    }

    fn assert_time_goes_on(&self) {
        if self.stirs > STIRS_MAX {
            let last = self.trace.last_lines(30).join("\n");
            let words = |(id, node): (&u64, &Node)| {
                let live = &node.process.as_ref()?.raft;
                Some(format!("node {id}: {}", live.in_words(&node.disk)))
            };
            let nodes: Vec<String> = self.nodes.iter().filter_map(words).collect();
            let nodes = nodes.join("\n");
            panic!("time stands still at {} ms; what happened last:\n{last}\n{nodes}", self.now);
        }
    }

    /// Whether something of the servers is due.
    fn fleet_due(&self) -> bool {
        self.fleet.next_ms().is_some_and(|at| at <= self.now)
    }

    /// When something is due next; no later than `end`.
    fn next(&self, end: u64) -> u64 {
        let next = self.agenda.next().map_or(end, |at| at.min(end));
        self.fleet.next_ms().map_or(next, |at| at.min(next))
    }

    fn advance_fleet(&mut self) {
        self.fleet.advance(self.now, &mut Ways { net: &mut self.net, rng: &mut self.rng });
        for happened in self.fleet.take_done() {
            self.server_said(happened);
        }
    }
}

/// The world, as its parts share it.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<Option<World>>,
    /// What was left to be done by those who may hold the world already.
    left: Mutex<Vec<Due>>,
    /// Ends the engine's sleep, in tier B.
    wake: Notify,
    clock: Clock,
    /// What is of no node's process: operators.
    people: Arc<Tasks>,
}

impl Sim {
    /// An empty world; time begins now.
    pub fn new(seed: u64, tier: Tier) -> Self {
        let clock = Clock::new(tier);
        let instant = clock.instant(0);
        let people = Arc::new(Tasks::new(clock.clone()));
        let (left, wake) = (Mutex::default(), Notify::new());
        let shared = Shared { world: Mutex::new(None), left, wake, clock, people };
        let sim = Self { shared: Arc::new(shared) };
        let world = World {
            now: 0,
            instant,
            agenda: Agenda::default(),
            asleep_until: 0,
            must_wake: false,
            stirred_at: 0,
            stirs: 0,
            seed,
            handle: sim.clone(),
            rng: Rng::new(seed, "world"),
            net: Net::default(),
            nodes: BTreeMap::new(),
            group: Group::default(),
            tier,
            wires: Wires::default(),
            calls: Calls::default(),
            members: Members::default(),
            traps: Vec::new(),
            fleet: Fleet::default(),
            lines: Lines::default(),
            probers: Probers::default(),
            clients: Clients::default(),
            faults: Faults::default(),
            counts: Counts::default(),
            kind: Kind::Storm,
            published: BTreeMap::new(),
            restarted: BTreeSet::new(),
            proposed: BTreeMap::new(),
            answered: BTreeSet::new(),
            replacing: None,
            operations: 0,
            errant: BTreeMap::new(),
            chained: BTreeSet::new(),
            strangers: Strangers::default(),
            trace: Trace::default(),
            checks: super::check::all(),
            violations: Vec::new(),
            polls: 0,
        };
        *sim.shared.world.lock().expect(POISON) = Some(world);
        sim
    }

    /// Looks at the world or changes it. Never from within itself.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut locked = self.shared.world.lock().expect(POISON);
        let world = locked.as_mut().expect("the run is not over");
        let now = self.shared.clock.now_ms();
        if now == world.now {
            world.stirs += 1;
        } else {
            (world.now, world.instant, world.stirs) = (now, self.shared.clock.instant(now), 0);
        }
        world.assert_time_goes_on();
        let result = act(world);
        let fleet_waits = world.fleet.next_ms().is_some_and(|at| at < world.asleep_until);
        if std::mem::take(&mut world.must_wake) || fleet_waits {
            self.shared.wake.notify_one();
        }
        result
    }

    /// The same, if the run is not over.
    pub fn try_with<T>(&self, act: impl FnOnce(&mut World) -> T) -> Option<T> {
        let over = self.shared.world.lock().expect(POISON).is_none();
        (!over).then(|| self.with(act))
    }

    /// Leaves something to be done at once, from wherever: the caller may hold the world.
    pub fn leave(&self, due: impl FnOnce(&mut World) + Send + 'static) {
        self.shared.left.lock().expect(POISON).push(Box::new(due));
        self.shared.wake.notify_one();
    }

    /// True time, and waits for it.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Starts a task that is of no node's process.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.shared.people.task(Box::pin(work)));
    }

    /// Lets the world go on until `end`, true milliseconds.
    pub async fn run_until(&self, end: u64) {
        match self.shared.clock.is_turned() {
            true => self.turn_clock_until(end).await,
            false => self.sleep_until(end).await,
        }
    }

    /// What is due, then the tasks until none can go on, and so on; then straight to the next moment of either.
    async fn turn_clock_until(&self, end: u64) {
        let clock = &self.shared.clock;
        loop {
            self.turn(end);
            if clock.take_stirred() {
                yield_now().await;
            }
            let next = self.next(end);
            if next <= clock.now_ms() {
                continue;
            }
            clock.turn_to(next);
            if next >= end {
                return;
            }
        }
    }

    /// When anything is due next: now, where it was left to be done.
    fn next(&self, end: u64) -> u64 {
        if !self.shared.left.lock().expect(POISON).is_empty() {
            return 0;
        }
        let next = self.with(|world| world.next(end));
        self.shared.clock.next_ms().map_or(next, |at| at.min(next))
    }

    /// The same where tokio turns the clock.
    async fn sleep_until(&self, end: u64) {
        loop {
            let next = self.turn(end);
            let until = self.shared.clock.instant(next);
            tokio::select! {
                biased;
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {
                    if next >= end {
                        return;
                    }
                }
            }
        }
    }

    /// Everything that is due now; returns when the next is.
    fn turn(&self, end: u64) -> u64 {
        let left = std::mem::take(&mut *self.shared.left.lock().expect(POISON));
        self.with(|world| {
            left.into_iter().for_each(|due| due(world));
            loop {
                if world.fleet_due() {
                    world.advance_fleet();
                    continue;
                }
                let Some(due) = world.agenda.take_due(world.now) else { break };
                due(world);
                world.stirs += 1;
                world.assert_time_goes_on();
            }
            let next = world.next(end);
            world.asleep_until = next;
            world.must_wake = false;
            next
        })
    }

    /// Ends the world and breaks its circles.
    pub fn end(&self) -> World {
        self.shared.world.lock().expect(POISON).take().expect("it ends once")
    }
}
