//! The network: who reaches whom, how late, and what is lost on the way. Ways are directed: a cut may be one-way, and
//! may leave a third party that reaches both.

use std::collections::BTreeMap;

use super::rng::Rng;

/// Pause before a lost packet of a connection is sent again, milliseconds.
const RESEND_MS: u64 = 200;

/// An end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A node of Quorate.
    Node(u64),
    /// A database server, by its number in the fleet.
    Server(usize),
    /// A client of the servers.
    Client(u32),
}

impl End {
    /// Its kind, and its number among those.
    fn numbered(self) -> (usize, usize) {
        match self {
            Self::Node(number) => (0, number as usize),
            Self::Server(number) => (1, number),
            Self::Client(number) => (2, number as usize),
        }
    }
}

/// Which ends a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// One.
    One(End),
    /// All of a datacenter.
    Datacenter(u8),
    /// All that are in another.
    OutOf(u8),
    /// All nodes.
    Nodes,
    /// Everyone.
    All,
}

/// What a rule does to what it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Nothing passes.
    Cut,
    /// So many percent are lost.
    Loss(u64),
    /// So much later, milliseconds; and up to the same again.
    Delay(u64),
}

/// A rule in force.
#[derive(Debug, Clone)]
struct Rule {
    from: Select,
    to: Select,
    harm: Harm,
    hits: u64,
}

/// The network.
#[derive(Default)]
pub struct Net {
    /// Datacenters of nodes, servers and clients, by their numbers.
    places: [Vec<u8>; 3],
    rules: BTreeMap<u64, Rule>,
    next: u64,
    /// One way within a datacenter, milliseconds.
    pub near_ms: u64,
    /// One way between two, milliseconds.
    pub far_ms: u64,
    /// Added to each, up to this.
    pub jitter_ms: u64,
}

impl Net {
    /// Puts an end into a datacenter.
    pub fn place(&mut self, end: End, datacenter: u8) {
        let (kind, number) = end.numbered();
        let places = &mut self.places[kind];
        places.resize(places.len().max(number + 1), 0);
        places[number] = datacenter;
    }

    /// Where an end is.
    pub fn datacenter(&self, end: End) -> u8 {
        let (kind, number) = end.numbered();
        self.places[kind].get(number).copied().unwrap_or(0)
    }

    /// Harms a way from now on; the number takes it away again.
    pub fn harm(&mut self, from: Select, to: Select, harm: Harm) -> u64 {
        self.next += 1;
        self.rules.insert(self.next, Rule { from, to, harm, hits: 0 });
        self.next
    }

    /// Takes a harm away; returns how often it met something.
    pub fn heal(&mut self, rule: u64) -> u64 {
        self.rules.remove(&rule).map_or(0, |rule| rule.hits)
    }

    /// Whether no way is harmed.
    pub fn is_calm(&self) -> bool {
        self.rules.is_empty()
    }

    /// Takes all harms away.
    pub fn heal_all(&mut self) {
        self.rules.clear();
    }

    /// How long something takes from one end to another; `None`: it does not arrive.
    pub fn delay(&mut self, from: End, to: End, rng: &mut Rng) -> Option<u64> {
        if from == to {
            return Some(0);
        }
        let (here, there) = (self.datacenter(from), self.datacenter(to));
        let mut delay = if here == there { self.near_ms } else { self.far_ms };
        if self.jitter_ms > 0 {
            delay += rng.range(0, self.jitter_ms + 1);
        }
        let mut passes = true;
        for rule in self.rules.values_mut() {
            let meets = meets(&rule.from, from, here) && meets(&rule.to, to, there);
            if !meets {
                continue;
            }
            let harmed = match rule.harm {
                Harm::Cut => {
                    passes = false;
                    true
                }
                Harm::Loss(percent) => {
                    let lost = rng.chance(percent);
                    passes &= !lost;
                    lost
                }
                Harm::Delay(ms) => {
                    delay += ms + rng.range(0, ms + 1);
                    true
                }
            };
            rule.hits += u64::from(harmed);
        }
        passes.then_some(delay)
    }

    /// The same on a connection: what is lost is sent again. `None` only where the way is cut.
    pub fn late(&mut self, from: End, to: End, rng: &mut Rng) -> Option<u64> {
        for again in 0..8 {
            if let Some(delay) = self.delay(from, to, rng) {
                return Some(delay + again * RESEND_MS);
            }
            if !self.open(from, to) {
                return None;
            }
        }
        Some(8 * RESEND_MS)
    }

    /// Whether something would pass now, losses aside.
    pub fn open(&self, from: End, to: End) -> bool {
        let (here, there) = (self.datacenter(from), self.datacenter(to));
        !self
            .rules
            .values()
            .any(|rule| rule.harm == Harm::Cut && meets(&rule.from, from, here) && meets(&rule.to, to, there))
    }
}

fn meets(select: &Select, end: End, datacenter: u8) -> bool {
    match select {
        Select::One(one) => *one == end,
        Select::Datacenter(at) => *at == datacenter,
        Select::OutOf(at) => *at != datacenter,
        Select::Nodes => matches!(end, End::Node(_)),
        Select::All => true,
    }
}
