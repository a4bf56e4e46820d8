//! The model log: Raft in a few hundred lines, over the simulated network. It stands for openraft: the same promises to
//! the actors, the same ways in which a proposal may be late, lost or of unknown fate, at a hundredth of the cost.
//!
//! What it leaves out is tier B's: unsynced writes lost at a crash, joint membership, chunked snapshots.

mod disk;
mod elect;
mod members;
mod port;
mod replicate;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use quorate::{
    core::replicated::{Outcome, State},
    raft::{Committed, Image, Leadership, ProposeError},
};
use tokio::sync::oneshot;

pub use self::{
    disk::{Config, Disk, Entry, Load, Snapshot},
    port::SimLog,
};
use super::{told::Told, trace::Event, world::World};

/// Timings of a group, as the product's profiles have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Longest silence before an election; half of it in the best case.
    pub election_max_ms: u64,
}

impl Timing {
    /// After this long a proposal's fate is unknown, and a read barrier has failed.
    pub fn answer_ms(self) -> u64 {
        self.election_max_ms * 5
    }

    /// Whether these are the product's profile `lan`; else they are `wan`.
    pub fn is_lan(self) -> bool {
        self == Self::default()
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 100, election_max_ms: 400 }
    }
}

/// What an onlooker knows of the group.
#[derive(Default)]
pub struct Group {
    /// Timings.
    pub timing: Timing,
    /// The committed sequence; nothing in it ever changes.
    pub committed: Vec<Arc<Entry>>,
    /// The state that it makes.
    pub state: State,
    /// Who led in each term: one at most.
    pub leaders: BTreeMap<u64, u64>,
    /// Every incarnation that was ever a member, by id.
    pub members_ever: BTreeMap<u64, String>,
    /// Index of the first of them.
    pub first: u64,
    /// Newest index of which anybody was told that it is in the log for good.
    pub acknowledged: u64,
}

/// What of a node's part others see without waiting.
pub struct Replica {
    /// The state as applied here.
    pub state: Mutex<State>,
    /// Its index.
    pub applied: Told<u64>,
    /// Who leads.
    pub leadership: Told<Leadership>,
    /// Newest membership in the log.
    pub config: Mutex<Config>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

/// A follower as its leader knows it.
#[derive(Debug, Clone, Default)]
struct Progress {
    matched: u64,
    next: u64,
    acked_seq: u64,
    acked_ms: u64,
    snapshot_ms: Option<u64>,
}

/// Who waits for a read index.
enum Asker {
    Here(oneshot::Sender<Option<u64>>),
    Node { node: u64, boot: u64, id: u64 },
}

struct Barrier {
    seq: u64,
    index: u64,
    asker: Asker,
}

type Answer = oneshot::Sender<Result<Committed, ProposeError>>;

/// A node's part in the group while its process lives.
pub struct Live {
    /// Shared with its actors.
    pub replica: Arc<Replica>,
    role: Role,
    leader: Option<u64>,
    commit: u64,
    applied: u64,
    applying: bool,
    heard_ms: u64,
    election_at: u64,
    timer_armed: bool,
    votes: BTreeSet<u64>,
    pre: bool,
    peers: BTreeMap<u64, Progress>,
    seq: u64,
    led_from: u64,
    barriers: Vec<Barrier>,
    asked: BTreeMap<u64, oneshot::Sender<Option<u64>>>,
    next_ask: u64,
    pending: BTreeMap<u64, (u64, Answer)>,
}

impl Live {
    /// As a restart finds it: the snapshot, and the rest of the log not yet known to be committed.
    pub fn restore(disk: &Disk, now: u64) -> Self {
        let (state, applied) = match &disk.snapshot {
            Some(snapshot) => (decode(&snapshot.bytes), snapshot.index),
            None => (State::default(), 0),
        };
        let leadership = Leadership { term: disk.term, leader: None, is_leader: false };
        let replica = Replica {
            state: Mutex::new(state),
            applied: Told::new(applied),
            leadership: Told::new(leadership),
            config: Mutex::new(disk.config().clone()),
        };
        Self {
            replica: Arc::new(replica),
            role: Role::Follower,
            leader: None,
            commit: applied,
            applied,
            applying: false,
            heard_ms: now,
            election_at: 0,
            timer_armed: false,
            votes: BTreeSet::new(),
            pre: false,
            peers: BTreeMap::new(),
            seq: 0,
            led_from: 0,
            barriers: Vec::new(),
            asked: BTreeMap::new(),
            next_ask: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Whether it believes that it leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    /// Proposals without an answer.
    fn proposals(&self) -> usize {
        self.pending.len()
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// For the reader of a run that came to a stop.
    pub fn in_words(&self, disk: &Disk) -> String {
        let peer = |(id, p): (&u64, &Progress)| format!("{id}: matched {}, next {}", p.matched, p.next);
        let peers: Vec<String> = self.peers.iter().map(peer).collect();
        let (last, base) = (disk.log.last(), disk.log.base());
        format!(
            "{:?} in term {}, log from {base} to {last:?}, commit {}, applied {}, {} barriers; {}",
            self.role,
            disk.term,
            self.commit,
            self.applied,
            self.barriers.len(),
            peers.join("; ")
        )
    }
}

fn encode(state: &State) -> Vec<u8> {
    Image::of(state.clone(), BTreeMap::new()).encode().expect("the state serialises").to_vec()
}

fn decode(bytes: &[u8]) -> State {
    Image::decode(bytes).expect("what was encoded decodes").state
}

impl Group {
    /// Index that the next committed entry has: the model log counts from 1, openraft from 0.
    pub fn next_index(&self) -> u64 {
        self.first + self.committed.len() as u64
    }

    /// A committed entry.
    pub fn entry(&self, index: u64) -> Option<&Arc<Entry>> {
        self.committed.get(index.checked_sub(self.first)? as usize)
    }
}

impl World {
    /// An entry was found committed by a node of the model log: by the first that knows, for the onlooker.
    fn note_model_committed(&mut self, index: u64, entry: &Arc<Entry>) {
        match self.group.entry(index) {
            Some(before) => assert!(
                Arc::ptr_eq(before, entry),
                "the model log lost committed entry {index}: a fault of the rig"
            ),
            None => self.note_committed(index, entry),
        }
    }

    /// An entry is committed, as an onlooker sees it.
    pub fn note_committed(&mut self, index: u64, entry: &Arc<Entry>) {
        assert_eq!(index, self.group.next_index(), "entries are committed in order");
        self.group.committed.push(entry.clone());
        let outcome = apply(&mut self.group.state, index, entry);
        if let Load::Config(config) = &entry.load {
            self.group.members_ever.extend(config.named());
        }
        self.note(Event::Committed { index, entry: entry.clone(), outcome });
    }
}

/// One entry on one state, as the product's state machine does it.
fn apply(state: &mut State, index: u64, entry: &Entry) -> Option<Outcome> {
    match &entry.load {
        Load::Blank => None,
        Load::Command(command) => Some(state.apply(index, command)),
        Load::Config(config) => {
            state.set_voters(config.named());
            None
        }
    }
}
