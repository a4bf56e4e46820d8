//! Connections between nodes: packets in order both ways, sent again until they arrive; a connection over which nothing
//! comes for too long is given up (HTTP/2's keep-alive), and dialled anew by whoever needs it. An idle one over a cut is
//! not noticed to be dead before it is used.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use crate::{net::End, world::World};

/// Pause before a packet is sent again, at first and at most, milliseconds.
const AGAIN_MS: u64 = 200;
const AGAIN_MAX_MS: u64 = 1_600;
/// A ping each so often, and so long for its answer, milliseconds.
const KEEP_ALIVE_MS: u64 = 500;

/// A connection.
pub type ConnNo = u64;

/// Which way on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who dialled.
    There,
    /// To who dialled.
    Back,
}

type Packet = Box<dyn FnOnce(&mut World) + Send>;

/// One way of a connection.
#[derive(Default)]
struct Lane {
    /// When the last packet arrives.
    last_at: u64,
    /// Packets that wait for one before them.
    out: VecDeque<Packet>,
    /// One was not let through, and is sent again.
    stuck: bool,
}

struct Conn {
    from: (u64, u64),
    to: (u64, u64),
    there: Lane,
    back: Lane,
    doubted: bool,
}

/// All connections between nodes.
#[derive(Default)]
pub struct Wires {
    conns: BTreeMap<ConnNo, Conn>,
    next: ConnNo,
}

impl Conn {
    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::There => &mut self.there,
            Way::Back => &mut self.back,
        }
    }

    /// Sender and receiver, each node and process.
    fn ends(&self, way: Way) -> ((u64, u64), (u64, u64)) {
        match way {
            Way::There => (self.from, self.to),
            Way::Back => (self.to, self.from),
        }
    }
}

impl World {
    /// Dials a node; `tell` hears how that ended, or nothing while no word comes.
    pub(super) fn dial_node(
        &mut self,
        from: (u64, u64),
        to: u64,
        tell: oneshot::Sender<Result<ConnNo, String>>,
    ) {
        let knock = move |world: &mut World| {
            let process = world.nodes.get(&to).and_then(|entry| entry.process.as_ref());
            let there = process.filter(|process| process.member.is_some()).map(|process| process.boot);
            let end = match there {
                Some(boot) => Ok(world.open_conn(from, (to, boot))),
                None => Err("connection refused".to_owned()),
            };
            let greet = move |world: &mut World| {
                world.as_process(from.0, from.1, move |_| {
                    // Whoever dialled may have given up.
                    let _ = tell.send(end);
                });
            };
            world.insist(End::Node(to), End::Node(from.0), 0, Box::new(greet));
        };
        self.insist(End::Node(from.0), End::Node(to), 0, Box::new(knock));
    }

    /// Sends a packet of no connection until it arrives, for half a minute.
    fn insist(&mut self, from: End, to: End, tries: u32, packet: Packet) {
        match self.net.late(from, to, &mut self.rng) {
            Some(delay) => self.after(delay, packet),
            None if tries < 20 => {
                self.after(again_ms(tries), move |world| world.insist(from, to, tries + 1, packet));
            }
            None => {}
        }
    }

    fn open_conn(&mut self, from: (u64, u64), to: (u64, u64)) -> ConnNo {
        self.wires.next += 1;
        let (there, back) = (Lane::default(), Lane::default());
        self.wires.conns.insert(self.wires.next, Conn { from, to, there, back, doubted: false });
        self.wires.next
    }

    /// Whether a connection is open, as far as anybody knows.
    pub(super) fn conn_open(&self, no: ConnNo) -> bool {
        self.wires.conns.contains_key(&no)
    }

    /// The node and process that a way leads to.
    pub(super) fn receiver(&self, no: ConnNo, way: Way) -> Option<(u64, u64)> {
        self.wires.conns.get(&no).map(|conn| conn.ends(way).1)
    }

    /// Sends something over a connection, to happen in the receiver's process; nothing, if the connection breaks before.
    pub(super) fn send_over(
        &mut self,
        no: ConnNo,
        way: Way,
        packet: impl FnOnce(&mut World) + Send + 'static,
    ) {
        let Some(conn) = self.wires.conns.get_mut(&no) else { return };
        conn.lane(way).out.push_back(Box::new(packet));
        if !conn.lane(way).stuck {
            self.push_on(no, way, 0);
        }
    }

    /// Sends what waits on one way, as far as the network lets it.
    fn push_on(&mut self, no: ConnNo, way: Way, tries: u32) {
        loop {
            let Some(conn) = self.wires.conns.get_mut(&no) else { return };
            let (from, to) = conn.ends(way);
            if conn.lane(way).out.is_empty() {
                conn.lane(way).stuck = false;
                return;
            }
            let Some(delay) = self.net.late(End::Node(from.0), End::Node(to.0), &mut self.rng) else {
                conn.lane(way).stuck = true;
                self.after(again_ms(tries), move |world| world.push_on(no, way, tries + 1));
                return self.doubt(no);
            };
            let lane = conn.lane(way);
            let packet = lane.out.pop_front().expect("it is not empty");
            lane.last_at = lane.last_at.max(self.now + delay);
            let at = lane.last_at;
            self.at(at, move |world| world.arrive(no, to, packet));
        }
    }

    fn arrive(&mut self, no: ConnNo, to: (u64, u64), packet: Packet) {
        if !self.conn_open(no) {
            return;
        }
        match self.lives(to.0, to.1) {
            true => self.as_process(to.0, to.1, packet),
            // Nobody acknowledges it.
            false => self.doubt(no),
        }
    }

    /// Something did not get through: unless that changes soon, the connection is given up.
    fn doubt(&mut self, no: ConnNo) {
        let Some(conn) = self.wires.conns.get_mut(&no) else { return };
        if std::mem::replace(&mut conn.doubted, true) {
            return;
        }
        let patience = KEEP_ALIVE_MS + self.rng.range(0, KEEP_ALIVE_MS);
        self.after(patience, move |world| {
            let Some(conn) = world.wires.conns.get_mut(&no) else { return };
            conn.doubted = false;
            let to = conn.to;
            if conn.there.stuck || conn.back.stuck || !world.lives(to.0, to.1) {
                world.break_conn(no);
            }
        });
    }

    /// It is over; those who wait for an answer hear so.
    fn break_conn(&mut self, no: ConnNo) {
        self.wires.conns.remove(&no);
        self.calls_lost(no);
    }

    /// A process is gone. Where its machine lives, the others' connections are closed by it; where not, nobody answers
    /// their pings, and whoever waits for an answer waits no longer than that.
    pub fn wires_of_dead(&mut self, node: u64, boot: u64, silent: bool) {
        let own: Vec<ConnNo> = self.conns_where(|conn| conn.from == (node, boot));
        for no in own {
            self.break_conn(no);
        }
        for no in self.conns_where(|conn| conn.to == (node, boot)) {
            let other = self.wires.conns[&no].from.0;
            if silent {
                self.doubt(no);
                continue;
            }
            self.insist(End::Node(node), End::Node(other), 0, Box::new(move |world| world.break_conn(no)));
        }
    }

    fn conns_where(&self, which: impl Fn(&Conn) -> bool) -> Vec<ConnNo> {
        self.wires.conns.iter().filter(|(_, conn)| which(conn)).map(|(no, _)| *no).collect()
    }
}

fn again_ms(tries: u32) -> u64 {
    (AGAIN_MS << tries.min(3)).min(AGAIN_MAX_MS)
}
