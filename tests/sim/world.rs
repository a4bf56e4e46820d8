//! The world of one run: what is true at this moment, and what happens next. One queue, ordered by time and then by
//! when it was asked for: nothing else decides an order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    net::{End, Net},
    node::Node,
    raft::Group,
    rng::Rng,
    trace::{Event, Trace},
};

/// A lock of the simulation is held by one thread and never across a panic that is survived.
pub const POISON: &str = "one thread, and a panic ends the run";

/// Something that happens at a time.
pub type Due = Box<dyn FnOnce(&mut World) + Send>;

struct Slot {
    at: u64,
    order: u64,
    due: Due,
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Slot {}
impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Slot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Everything.
pub struct World {
    /// True time, milliseconds since the run began.
    pub now: u64,
    queue: BinaryHeap<Reverse<Slot>>,
    order: u64,
    /// What the engine sleeps until.
    asleep_until: u64,
    must_wake: bool,
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
    /// What happened.
    pub trace: Trace,
}

impl World {
    /// Lets something happen at `at`, or now if that is past.
    pub fn at(&mut self, at: u64, due: impl FnOnce(&mut World) + Send + 'static) {
        let at = at.max(self.now);
        self.order += 1;
        self.queue.push(Reverse(Slot { at, order: self.order, due: Box::new(due) }));
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

    /// Notes what happened.
    pub fn note(&mut self, event: Event) {
        self.trace.push(self.now, event);
    }
}

/// The world, as its parts share it.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<Option<World>>,
    wake: Notify,
    began: Instant,
}

impl Sim {
    /// An empty world; time begins now.
    pub fn new(seed: u64) -> Self {
        let shared = Shared { world: Mutex::new(None), wake: Notify::new(), began: Instant::now() };
        let sim = Self { shared: Arc::new(shared) };
        let world = World {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            asleep_until: 0,
            must_wake: false,
            handle: sim.clone(),
            rng: Rng::new(seed, "world"),
            net: Net::default(),
            nodes: BTreeMap::new(),
            group: Group::default(),
            trace: Trace::default(),
        };
        *sim.shared.world.lock().expect(POISON) = Some(world);
        sim
    }

    /// Looks at the world or changes it. Never from within itself.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut locked = self.shared.world.lock().expect(POISON);
        let world = locked.as_mut().expect("the run is not over");
        world.now = self.shared.began.elapsed().as_millis() as u64;
        world.net.now = world.now;
        let result = act(world);
        if std::mem::take(&mut world.must_wake) {
            self.shared.wake.notify_one();
        }
        result
    }

    /// Lets the world go on until `end`, true milliseconds.
    pub async fn run_until(&self, end: u64) {
        loop {
            let next = self.turn(end);
            let until = self.shared.began + Duration::from_millis(next.min(end));
            tokio::select! {
                biased;
                () = self.shared.wake.notified() => {}
                () = sleep_until(until) => {
                    if self.with(|world| world.now >= end) {
                        return;
                    }
                }
            }
        }
    }

    /// Everything that is due now; returns when the next is.
    fn turn(&self, end: u64) -> u64 {
        self.with(|world| {
            while let Some(Reverse(slot)) = world.queue.peek() {
                if slot.at > world.now {
                    break;
                }
                let Some(Reverse(slot)) = world.queue.pop() else { break };
                (slot.due)(world);
            }
            let next = world.queue.peek().map_or(end, |Reverse(slot)| slot.at);
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
