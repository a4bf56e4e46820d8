//! Faults: what is done to whom, and how it is undone. One counts only if it met something.

use super::{
    fleet::{
        Kill, ServerNo, Thread,
        channel::{Channel, Receiver},
    },
    net::{End, Harm, Select},
    node::Hold,
    real::{Tier, fault::RaftFault},
    stranger::Guise,
    trace::Event,
    world::World,
};

/// How long a person waits who would start a receiver while a recovery runs, milliseconds.
const PERSON_WAITS_MS: u64 = 500;

/// A server, by its part at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The primary on record.
    Primary,
    /// Of the others, the one at this place (counted round).
    Other(usize),
    /// Of all, in the fleet's order.
    Server(usize),
}

/// A node, by its part at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoNode {
    /// The leader.
    Leader,
    /// Of the others, the one at this place (counted round).
    Other(usize),
}

/// One harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server's process or machine dies; it starts again at the end.
    KillServer(Who, Kill),
    /// A clean SHUTDOWN; it starts again at the end.
    ShutDown(Who),
    /// SIGSTOP, SIGCONT at the end.
    FreezeServer(Who),
    /// Its disk takes no writes.
    StallServer(Who),
    /// All its connections are taken.
    SaturateServer(Who),
    /// Its applier waits for a row lock.
    HoldApplier(Who),
    /// Somebody stops its receiver by hand, and starts it at the end.
    StopReceiver(Who),
    /// Somebody writes to a replica past `read_only`.
    WriteErrant(Who),
    /// Somebody makes the semi-sync time-out finite.
    SemiSyncTimeout(Who),
    /// Another server answers at its address; at the end it is back.
    Stranger(Who, Guise),
    /// Two replicas stand at each other's address until the end.
    SwapServers(Who, Who),
    /// The node's process dies; it starts again at the end.
    KillNode(WhoNode),
    /// SIGSTOP, SIGCONT at the end.
    PauseNode(WhoNode),
    /// The node's machine sleeps.
    SuspendNode(WhoNode),
    /// Its wall clock is set, by hours.
    SetWall(WhoNode, i64),
    /// Its disk is slow, up to so many milliseconds an entry.
    SlowDisk(WhoNode, u64),
    /// A start of a recovery comes to its Raft so many milliseconds after it was decided on: the thread that carries it is
    /// held up, and other proposals overtake it.
    HoldStarts(WhoNode, u64),
    /// It loses its data directory and comes back with another, under its old id; then it is replaced under a new one.
    WipeNode(WhoNode),
    /// It is taken out and another put in.
    ReplaceNode(WhoNode),
    /// No other node reaches it, nor it them.
    IsolateNode(WhoNode),
    /// One way between two nodes.
    CutNodes(WhoNode, WhoNode),
    /// A node's way to a server.
    CutNodeServer(WhoNode, Who),
    /// A server's way to a node: what it says does not arrive.
    CutServerNode(Who, WhoNode),
    /// A majority of the nodes loses the server; its replicas do not.
    CutMajority(Who),
    /// A replica and the server it replicates from, both ways.
    CutServers(Who, Who),
    /// A server and everybody.
    IsolateServer(Who),
    /// Two servers and everybody but each other and the clients.
    Aside(Who, Who),
    /// A datacenter and the rest.
    CutDatacenter(u8),
    /// So many percent of everything are lost.
    Loss(u64),
    /// Everything takes longer, milliseconds.
    Delay(u64),
    /// A server and everybody, up and down with this period, milliseconds.
    FlapServer(Who, u64),
    /// A node's way to a server, up and down.
    FlapNodeServer(WhoNode, Who, u64),
    /// No node reaches any other.
    Apart,
    /// Of Raft itself (tier B).
    Raft(RaftFault),
}

/// When it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this true time.
    At(u64),
    /// So long after a recovery has reached this point for the first time.
    After(Point, u64),
}

/// A point in a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Its start is proposed.
    Proposed,
    /// Its start is committed.
    Started,
    /// A step of this name begins.
    Step(&'static str),
    /// The candidate is fixed.
    Decided,
    /// Past the point of no return.
    Intent,
    /// Published.
    Published,
}

/// A fault of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When it comes.
    pub when: When,
    /// How long it lasts, milliseconds.
    pub for_ms: u64,
    /// What it is.
    pub fault: Fault,
}

/// How a fault in force is undone; returns whether it met something.
pub type Undo = Box<dyn FnOnce(&mut World) -> bool + Send>;

/// The faults of a run.
#[derive(Default)]
pub struct Faults {
    waiting: Vec<(usize, Planned)>,
    undo: Vec<(usize, Undo)>,
    /// How many took effect.
    pub took: usize,
    /// Which kinds did, for the summary.
    pub kinds: std::collections::BTreeSet<String>,
    over: bool,
}

impl World {
    /// Plans the faults of a run.
    pub fn plan_faults(&mut self, faults: Vec<Planned>) {
        for (number, planned) in faults.into_iter().enumerate() {
            match planned.when {
                When::At(at) => self.at(at, move |world| world.install(number, planned)),
                When::After(..) => self.faults.waiting.push((number, planned)),
            }
        }
    }

    /// A recovery has reached a point: faults that wait for it come.
    pub fn point_reached(&mut self, point: Point) {
        let meets =
            |(_, planned): &mut (usize, Planned)| matches!(planned.when, When::After(at, _) if at == point);
        let due: Vec<_> = self.faults.waiting.extract_if(.., meets).collect();
        for (number, planned) in due {
            let When::After(_, ms) = planned.when else { continue };
            self.after(ms, move |world| world.install(number, planned));
        }
    }

    fn install(&mut self, number: usize, planned: Planned) {
        if self.faults.over {
            return;
        }
        let Planned { fault, for_ms, .. } = planned;
        self.note(Event::Fault { number, what: format!("{fault:?} for {for_ms} ms") });
        let kind = format!("{fault:?}");
        let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
        match self.do_harm(fault, for_ms) {
            None => self.note(Event::FaultOver { number, took: false }),
            Some(undo) => {
                self.faults.undo.push((number, undo));
                self.after(for_ms, move |world| {
                    if world.lift(number) {
                        world.faults.kinds.insert(kind);
                    }
                });
            }
        }
    }

    fn lift(&mut self, number: usize) -> bool {
        let Some(at) = self.faults.undo.iter().position(|(n, _)| *n == number) else { return false };
        let (_, undo) = self.faults.undo.remove(at);
        let took = undo(self);
        self.faults.took += usize::from(took);
        self.note(Event::FaultOver { number, took });
        took
    }

    /// Everything is well from now on: whoever is down starts, whoever is stopped goes on.
    pub fn heal_everything(&mut self) {
        self.faults.over = true;
        self.faults.waiting.clear();
        while let Some((number, _)) = self.faults.undo.last() {
            let number = *number;
            self.lift(number);
        }
        self.net.heal_all();
        self.fleet.paths_changed(self.now);
        let now = self.now;
        for no in (0..self.fleet.servers().len()).map(ServerNo) {
            self.fleet.thaw(no, now);
            self.fleet.unstall(no, now);
            self.fleet.restart(no, now);
        }
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.resume_node(node, 1_000, false);
            self.start_node(node);
        }
        self.tell_of("EVERYTHING IS HEALED");
    }

    /// The server that plays this part.
    pub fn who(&self, who: Who) -> Option<ServerNo> {
        let count = self.fleet.servers().len();
        let primary = self.primary();
        match who {
            Who::Primary => primary,
            Who::Server(at) => Some(ServerNo(at % count)),
            Who::Other(at) => {
                let others: Vec<usize> = (0..count).filter(|no| Some(ServerNo(*no)) != primary).collect();
                others.get(at % others.len().max(1)).copied().map(ServerNo)
            }
        }
    }

    /// The primary on record.
    pub fn primary(&self) -> Option<ServerNo> {
        let cluster = self.group.state.clusters.values().next()?;
        self.server_at(&cluster.primary_member()?.address)
    }

    pub fn who_node(&self, who: WhoNode) -> Option<u64> {
        let leader = self.leader();
        match who {
            WhoNode::Leader => leader,
            WhoNode::Other(at) => {
                let members = self.group.state.voters.keys().filter(|id| Some(**id) != leader);
                let others: Vec<u64> = members.copied().collect();
                others.get(at % others.len().max(1)).copied()
            }
        }
    }

    fn do_harm(&mut self, fault: Fault, for_ms: u64) -> Option<Undo> {
        let now = self.now;
        match fault {
            Fault::KillServer(who, how) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.kill(no, how, now);
                self.restarted.insert(no);
                Some(Box::new(move |world| {
                    world.fleet.restart(no, world.now);
                    true
                }))
            }
            Fault::ShutDown(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.shut_down(no, 500, now);
                self.restarted.insert(no);
                Some(Box::new(move |world| {
                    world.fleet.restart(no, world.now);
                    true
                }))
            }
            Fault::FreezeServer(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.freeze(no, now);
                Some(Box::new(move |world| {
                    world.fleet.thaw(no, world.now);
                    true
                }))
            }
            Fault::StallServer(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.stall(no, now);
                Some(Box::new(move |world| {
                    world.fleet.unstall(no, world.now);
                    true
                }))
            }
            Fault::SaturateServer(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.saturate(no, now);
                Some(Box::new(move |world| {
                    world.fleet.occupy(no, 0, world.now);
                    true
                }))
            }
            Fault::HoldApplier(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.hold_applier(no, true, now);
                Some(Box::new(move |world| {
                    world.fleet.hold_applier(no, false, world.now);
                    true
                }))
            }
            Fault::StopReceiver(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                let stands = |channel: &Channel| channel.receiver == Receiver::Stopped;
                if self.fleet.server(no).channels.iter().all(stands) {
                    return None;
                }
                self.fleet.stop_threads(no, Thread::Receiver, now);
                Some(Box::new(move |world| {
                    world.person_starts_receiver(no);
                    true
                }))
            }
            Fault::WriteErrant(who) => {
                let no = self.who(who).filter(|no| self.serves(*no) && Some(*no) != self.primary())?;
                self.fleet.write_errant(no, 1_000_000 + now, now);
                self.errant.entry(no).or_insert(now);
                Some(Box::new(|_| true))
            }
            Fault::SemiSyncTimeout(who) => {
                let no = self.who(who).filter(|no| self.serves(*no))?;
                self.fleet.set_semi_sync_timeout(no, 1_000, now);
                Some(Box::new(|_| true))
            }
            Fault::Stranger(who, guise) => self.put_stranger(who, guise),
            Fault::SwapServers(a, b) => self.swap_servers(a, b),
            Fault::Raft(fault) => self.do_harm_to_raft(fault),
            other => self.do_harm_to_nodes(other, for_ms),
        }
    }

    /// A person starts a receiver again that he stopped; while a recovery runs he waits: it may rest on that receiver standing.
    fn person_starts_receiver(&mut self, no: ServerNo) {
        let busy = self.group.state.clusters.values().any(|cluster| cluster.slot.is_some());
        if busy {
            self.after(PERSON_WAITS_MS, move |world| world.person_starts_receiver(no));
        } else if self.serves(no) && Some(no) != self.primary() {
            self.fleet.start_threads(no, Thread::Receiver, self.now);
        }
    }

    fn do_harm_to_nodes(&mut self, fault: Fault, for_ms: u64) -> Option<Undo> {
        match fault {
            Fault::KillNode(who) => {
                let node = self.who_node(who)?;
                self.kill_node(node).then_some(())?;
                Some(Box::new(move |world| {
                    world.start_node(node);
                    true
                }))
            }
            Fault::PauseNode(who) | Fault::SuspendNode(who) => {
                let suspended = matches!(fault, Fault::SuspendNode(_));
                let node = self.who_node(who)?;
                self.pause_node(node).then_some(())?;
                Some(Box::new(move |world| {
                    world.resume_node(node, for_ms, suspended);
                    true
                }))
            }
            Fault::SetWall(who, hours) => {
                let node = self.who_node(who)?;
                self.process(node)?.clocks.set_wall(hours * 3_600_000);
                Some(Box::new(|_| true))
            }
            Fault::SlowDisk(who, ms) => {
                let node = self.who_node(who)?;
                let before = std::mem::replace(&mut self.nodes.get_mut(&node)?.sync_ms, ms);
                Some(Box::new(move |world| {
                    if let Some(entry) = world.nodes.get_mut(&node) {
                        entry.sync_ms = before;
                    }
                    true
                }))
            }
            Fault::HoldStarts(who, ms) => {
                let node = self.who_node(who)?;
                self.nodes.get_mut(&node)?.hold = Some(Hold { ms, met: false });
                Some(Box::new(move |world| {
                    let hold = world.nodes.get_mut(&node).and_then(|entry| entry.hold.take());
                    hold.is_some_and(|hold| hold.met)
                }))
            }
            Fault::WipeNode(who) if self.tier == Tier::B => self.do_harm_to_raft(RaftFault::Wipe(who)),
            Fault::ReplaceNode(who) if self.tier == Tier::B => self.do_harm_to_raft(RaftFault::Replace(who)),
            Fault::WipeNode(who) => {
                let node = self.who_node(who)?;
                self.wipe_node(node).then_some(())?;
                Some(Box::new(move |world| {
                    world.replace_node(node);
                    true
                }))
            }
            Fault::ReplaceNode(who) => {
                let node = self.who_node(who)?;
                self.replace_node(node).then_some(())?;
                Some(Box::new(|_| true))
            }
            other => self.do_harm_to_ways(other),
        }
    }

    fn do_harm_to_ways(&mut self, fault: Fault) -> Option<Undo> {
        let one = |no: ServerNo| Select::One(End::Server(no.0));
        let node = |id: u64| Select::One(End::Node(id));
        let both = |a: Select, b: Select| vec![(a.clone(), b.clone()), (b, a)];
        let ways = match fault {
            Fault::IsolateNode(who) => both(node(self.who_node(who)?), Select::Nodes),
            Fault::CutNodes(a, b) => vec![(node(self.who_node(a)?), node(self.who_node(b)?))],
            Fault::CutNodeServer(a, b) => vec![(node(self.who_node(a)?), one(self.who(b)?))],
            Fault::CutServerNode(a, b) => vec![(one(self.who(a)?), node(self.who_node(b)?))],
            Fault::CutMajority(who) => {
                let server = one(self.who(who)?);
                let voters: Vec<u64> = self.group.state.voters.keys().copied().collect();
                let most = voters.len() / 2 + 1;
                voters.into_iter().take(most).flat_map(|id| both(node(id), server.clone())).collect()
            }
            Fault::CutServers(a, b) => both(one(self.who(a)?), one(self.who(b)?)),
            Fault::IsolateServer(who) => both(one(self.who(who)?), Select::All),
            Fault::Aside(a, b) => {
                let aside = [self.who(a)?, self.who(b)?];
                let servers = (0..self.fleet.servers().len()).map(ServerNo);
                let rest = servers.filter(|no| !aside.contains(no)).map(one).chain([Select::Nodes]);
                rest.flat_map(|rest| aside.into_iter().flat_map(move |no| both(one(no), rest.clone())))
                    .collect()
            }
            Fault::CutDatacenter(at) => both(Select::Datacenter(at), Select::OutOf(at)),
            Fault::Apart => vec![(Select::Nodes, Select::Nodes)],
            Fault::Loss(percent) => return self.harm_all(Harm::Loss(percent)),
            Fault::Delay(ms) => return self.harm_all(Harm::Delay(ms)),
            Fault::FlapServer(who, period) => {
                let ways = both(one(self.who(who)?), Select::All);
                return Some(self.flap(ways, period));
            }
            Fault::FlapNodeServer(a, b, period) => {
                let ways = both(node(self.who_node(a)?), one(self.who(b)?));
                return Some(self.flap(ways, period));
            }
            other => unreachable!("{other:?} harms no way"),
        };
        Some(self.cut(ways))
    }

    fn harm_all(&mut self, harm: Harm) -> Option<Undo> {
        let rule = self.harm(Select::All, Select::All, harm);
        Some(Box::new(move |world| world.heal(rule) > 0))
    }

    pub fn cut(&mut self, ways: Vec<(Select, Select)>) -> Undo {
        let rules: Vec<u64> = ways.into_iter().map(|(a, b)| self.harm(a, b, Harm::Cut)).collect();
        Box::new(move |world| rules.into_iter().map(|rule| world.heal(rule)).sum::<u64>() > 0)
    }

    fn flap(&mut self, ways: Vec<(Select, Select)>, period: u64) -> Undo {
        let on = std::sync::Arc::new(std::sync::Mutex::new((true, 0)));
        let shared = on.clone();
        self.flap_down(ways, period, shared);
        Box::new(move |_| {
            let mut shared = on.lock().expect(super::world::POISON);
            shared.0 = false;
            shared.1 > 0
        })
    }

    fn flap_down(
        &mut self,
        ways: Vec<(Select, Select)>,
        period: u64,
        shared: std::sync::Arc<std::sync::Mutex<(bool, u64)>>,
    ) {
        if !shared.lock().expect(super::world::POISON).0 {
            return;
        }
        let undo = self.cut(ways.clone());
        self.after(period, move |world| {
            let met = undo(world);
            shared.lock().expect(super::world::POISON).1 += u64::from(met);
            world.after(period, move |world| world.flap_down(ways, period, shared));
        });
    }

    /// Whether a server was started anew since it was made the primary, and its configuration file knows of no semi-sync:
    /// what it acknowledges until somebody switches that on is not protected.
    pub fn forgot_semi_sync(&self, no: ServerNo) -> bool {
        self.restarted.contains(&no) && !self.fleet.server(no).semi.source_enabled
    }

    /// Whether a server's process is up, whatever keeps it from answering.
    pub fn serves(&self, no: ServerNo) -> bool {
        self.fleet.server(no).runs()
    }
}
