//! What the product's own functions made of the same values before. Worlds differ mostly in where steps and servers are;
//! machines and replicated states are few, and the same everywhere: each is made once, and each move of one as well.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    hash::Hash,
    rc::Rc,
};

use quorate::core::{
    plan::{choose::Sets, step::Step},
    recovery::{Context, Effect, Event, Machine, StepId},
    replicated::{Change, Command, EventKind, Kind, Outcome, Phase, Refusal, State},
};

use crate::{
    fingerprint, samples,
    servers::{Ended, Held},
    world::World,
};

/// A value of the product, with a number of its own and its fingerprint, which is made once per instant.
#[derive(Debug)]
pub struct Kept<T> {
    pub value: T,
    pub number: u32,
    print: Cell<(u64, u64)>,
}

/// What happens to a machine, told shortly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    Begin { resumed: bool },
    Step { id: StepId, end: Ended },
    Fence { node: usize, end: Ended },
    Committed { done: bool },
    Answers,
    Cancel,
    Tick,
}

/// What a machine wants done.
#[derive(Debug)]
pub enum Wanted {
    Run { id: StepId, step: Rc<Step>, mark: u64, deadline_ms: u64 },
    FenceEverywhere { step: Rc<Step>, mark: u64, deadline_ms: u64 },
    Propose(Rc<Kept<Change>>),
    Over,
}

/// A machine's move.
#[derive(Debug)]
pub struct Moved {
    pub machine: Rc<Kept<Machine>>,
    pub wanted: Vec<Wanted>,
}

/// An entry's effect.
#[derive(Debug)]
pub struct Applied {
    pub state: Rc<Kept<State>>,
    pub outcome: Outcome,
    /// A promise of the log alone that it broke.
    pub broken: Option<String>,
}

/// What the model asks of a state all the time.
#[derive(Debug, Clone, Default)]
pub struct Brief {
    pub primary: usize,
    pub running: Option<Running>,
    /// Standing orders: id and server.
    pub orders: Vec<(u64, usize)>,
    pub blocked: bool,
    pub enabled: bool,
    /// A client's wish was applied.
    pub asked: bool,
}

/// The running recovery in short.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    pub id: u64,
    pub kind: Kind,
    pub phase: Phase,
    pub undoing: bool,
    pub unproven: bool,
    pub old: usize,
}

type Table<K, V> = HashMap<K, Rc<V>>;
/// Machine, state, what happened, what was known, node, time.
type MoveKey = (u32, u32, Input, Held, usize, u64);
/// State, command, node, term, whether it is a client's, time.
type EntryKey = (u32, u32, usize, u64, bool, u64);

#[derive(Default)]
struct Memo {
    next: u32,
    machines: Table<(u64, u64, u64), Kept<Machine>>,
    states: Table<(u64, u64), Kept<State>>,
    changes: Table<u64, Kept<Change>>,
    briefs: Table<u32, Brief>,
    moves: Table<MoveKey, Moved>,
    entries: Table<(u64, EntryKey), Applied>,
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

impl<T: Debug> Kept<T> {
    /// Its fingerprint at an instant.
    pub fn print(&self, now_ms: u64, make: impl FnOnce(&T) -> u64) -> u64 {
        match self.print.get() {
            (at, print) if at == now_ms => print,
            _ => {
                let print = make(&self.value);
                self.print.set((now_ms, print));
                print
            }
        }
    }
}

fn keep<K: Hash + Eq, T>(
    table: &mut Table<K, Kept<T>>,
    next: &mut u32,
    key: K,
    print: (u64, u64),
    value: T,
) -> Rc<Kept<T>> {
    let fresh = || {
        *next += 1;
        Rc::new(Kept { value, number: *next, print: Cell::new(print) })
    };
    table.entry(key).or_insert_with(fresh).clone()
}

/// How many machines, states and moves of machines there were.
pub fn sizes() -> (usize, usize, usize) {
    MEMO.with_borrow(|memo| (memo.machines.len(), memo.states.len(), memo.moves.len()))
}

/// Forgets everything: another exploration begins.
pub fn forget() {
    MEMO.with_borrow_mut(|memo| *memo = Memo { next: memo.next, ..Memo::default() });
}

pub fn machine(machine: Machine, now_ms: u64) -> Rc<Kept<Machine>> {
    let (print, names) = fingerprint::with_names(now_ms, &machine);
    MEMO.with_borrow_mut(|memo| {
        keep(&mut memo.machines, &mut memo.next, (print, names, now_ms), (now_ms, print), machine)
    })
}

pub fn state(state: State, now_ms: u64) -> Rc<Kept<State>> {
    let print = fingerprint::of_state(now_ms, &state);
    MEMO.with_borrow_mut(|memo| {
        keep(&mut memo.states, &mut memo.next, (print, now_ms), (now_ms, print), state)
    })
}

pub fn change(change: Change) -> Rc<Kept<Change>> {
    let print = fingerprint::of(0, &change);
    MEMO.with_borrow_mut(|memo| keep(&mut memo.changes, &mut memo.next, print, (0, print), change))
}

/// The state in short.
pub fn brief(state: &Kept<State>) -> Rc<Brief> {
    let found = MEMO.with_borrow(|memo| memo.briefs.get(&state.number).cloned());
    found.unwrap_or_else(|| {
        let made = Rc::new(Brief::of(&state.value));
        MEMO.with_borrow_mut(|memo| memo.briefs.insert(state.number, made.clone()));
        made
    })
}

/// `Machine::advance`.
pub fn advance(
    machine: &Kept<Machine>,
    state: &Kept<State>,
    input: Input,
    known: Held,
    (node, fencers): (usize, usize),
    now_ms: u64,
) -> Rc<Moved> {
    let key = (machine.number, state.number, input, known, node, now_ms);
    let found = MEMO.with_borrow(|memo| memo.moves.get(&key).cloned());
    found.unwrap_or_else(|| {
        let known =
            Sets { old_primary: Some(samples::set(known)), marks: samples::caught_up(), ..Sets::default() };
        let fencers: BTreeSet<u64> = (0..fencers).map(World::node_id).collect();
        let context = Context {
            state: &state.value,
            known: &known,
            node: World::node_id(node),
            fencers: &fencers,
            now_ms,
        };
        let mut moved = machine.value.clone();
        let effects = moved.advance(input.event(now_ms), &context);
        let wanted = effects.into_iter().filter_map(wanted).collect();
        let made = Rc::new(Moved { machine: self::machine(moved, now_ms), wanted });
        MEMO.with_borrow_mut(|memo| memo.moves.insert(key, made.clone()));
        made
    })
}

fn wanted(effect: Effect) -> Option<Wanted> {
    let mark = |step: &Step| fingerprint::of(0, &step.action);
    Some(match effect {
        Effect::Run { id, step, deadline_ms } => {
            Wanted::Run { id, mark: mark(&step), step: Rc::new(step), deadline_ms }
        }
        Effect::FenceEverywhere { step, deadline_ms } => {
            Wanted::FenceEverywhere { mark: mark(&step), step: Rc::new(step), deadline_ms }
        }
        Effect::Propose(change) => Wanted::Propose(self::change(change)),
        Effect::Record(_) => return None,
        Effect::Over => Wanted::Over,
    })
}

impl Input {
    fn event(self, now_ms: u64) -> Event {
        match self {
            Self::Begin { resumed } => Event::Begin { resumed },
            Self::Step { id, end } => Event::StepEnded { id, end: end.told(), began_ms: now_ms },
            Self::Fence { node, end } => Event::FenceEnded { node: World::node_id(node), end: end.told() },
            Self::Committed { done: true } => {
                Event::Committed { outcome: Outcome::Done { id: 0, acknowledged: Vec::new() } }
            }
            Self::Committed { done: false } => {
                Event::Committed { outcome: Outcome::Refused(Refusal::Invalid("refused".into())) }
            }
            Self::Answers => Event::PrimaryAnswers { how: "model".into() },
            Self::Cancel => Event::Cancel { why: "model".into() },
            Self::Tick => Event::Tick,
        }
    }
}

/// `State::apply` of the log's entry `index`.
pub fn apply(
    index: u64,
    state: &Kept<State>,
    change: &Kept<Change>,
    node: usize,
    term: u64,
    request_id: Option<&str>,
    now_ms: u64,
) -> Rc<Applied> {
    let key = (index, (state.number, change.number, node, term, request_id.is_some(), now_ms));
    let found = MEMO.with_borrow(|memo| memo.entries.get(&key).cloned());
    found.unwrap_or_else(|| {
        let command = Command {
            at_ms: now_ms,
            wall_ms: 0,
            node: World::node_id(node),
            term,
            by: "model".into(),
            request_id: request_id.map(str::to_owned),
            change: change.value.clone(),
        };
        let mut after = state.value.clone();
        let outcome = after.apply(index, &command);
        let audit = std::mem::take(&mut after.audit);
        let ended =
            audit.iter().filter(|a| a.kind == EventKind::RecoveryEnded).filter_map(|a| a.recovery).collect();
        let broken = crate::promises::of_the_log(&state.value, &after, &command, &outcome, ended).err();
        let made = Rc::new(Applied { state: self::state(after, now_ms), outcome, broken });
        MEMO.with_borrow_mut(|memo| memo.entries.insert(key, made.clone()));
        made
    })
}

impl Brief {
    fn of(state: &State) -> Self {
        let cluster = samples::cluster(state);
        let running = state.recoveries.values().find(|r| r.running()).map(|r| Running {
            id: r.id,
            kind: r.kind,
            phase: r.phase,
            undoing: r.undoing(),
            unproven: r.phase == Phase::Started
                && !r.side_effects
                && !r.undoing()
                && r.kind == Kind::Failover,
            old: samples::number(&r.old_primary.server),
        });
        Self {
            primary: samples::number(cluster.primary.as_ref().expect("it always has one")),
            running,
            orders: state.orders.values().map(|o| (o.id, samples::number(&o.target.server))).collect(),
            blocked: state.blocks.values().any(|block| block.lifted.is_none()),
            enabled: state.recoveries_switch.enabled,
            asked: !state.requests.is_empty(),
        }
    }
}
