//! Tier B: the product's own Raft. openraft and all of `src/raft`, from the storage trait to the gRPC service, over a disk,
//! ways and a process of this world (`quorate::raft::ports`). Only sled, TCP and the threads are not there.
//!
//! | file | stands for |
//! |---|---|
//! | `platter` | the disk: what is written, what is durable, what a crash leaves |
//! | `base` | sled, the mark's file and the syncing thread, over a platter |
//! | `wire`, `call`, `body` | TCP and HTTP/2 between nodes |
//! | `boot` | the daemon: opens Raft, starts the actors, is started again when Raft has stopped |
//! | `port` | the actors' log: the product's, watched |
//! | `onlooker`, `words` | reads disks and answers, for the checks |
//! | `members`, `fault` | what operators do to the group; what befalls disks and ways |
//! | `trap` | losses of power that wait for their moment |

mod base;
mod body;
mod boot;
mod call;
pub mod fault;
mod members;
mod onlooker;
mod platter;
mod port;
mod trap;
mod wire;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use quorate::{
    core::replicated::State,
    raft::{GrpcService, Raft, ports::Tree},
};

pub use self::{
    boot::begin,
    call::Calls,
    members::Members,
    platter::{Crash, Lost, Platter},
    trap::Trap,
    wire::Wires,
};
use super::world::{POISON, World};

/// Which Raft the nodes of a run have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier {
    /// The model log (`raft`).
    #[default]
    A,
    /// The product's.
    B,
}

impl Tier {
    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Tier::A => "a",
            Tier::B => "b",
        }
    }
}

/// What a node keeps over a restart.
#[derive(Default)]
pub struct Home {
    /// Its disk.
    pub platter: Arc<Platter>,
    /// Members as it last knew them, with the incarnation each is bound to.
    known: BTreeMap<u64, String>,
    /// Newest term and index up to which it told a leader that it holds its log.
    acknowledged: Option<(u64, u64)>,
}

/// A process' part in the group, once it is open.
pub struct Member {
    /// The product's handle.
    pub raft: Raft,
    service: GrpcService,
    /// Newest index that the onlooker has seen applied here.
    seen: Option<u64>,
    /// The newest term in which it was seen to lead.
    led: u64,
}

impl World {
    /// Whether a node knows another as a member of that incarnation.
    pub fn admits(&self, node: u64, other: u64, incarnation: &str) -> bool {
        match (self.tier, self.nodes.get(&node)) {
            (Tier::A, Some(entry)) => {
                entry.disk.config().voters.get(&other).is_some_and(|bound| **bound == *incarnation)
            }
            _ => self.known_members(node).get(&other).is_some_and(|bound| bound == incarnation),
        }
    }

    /// The members of the group as a node knows them, with the incarnation each is bound to.
    pub fn known_members(&self, node: u64) -> BTreeMap<u64, String> {
        let Some(entry) = self.nodes.get(&node) else { return BTreeMap::new() };
        match (self.tier, entry.process.as_ref().and_then(|process| process.member.as_ref())) {
            (Tier::A, _) => entry.disk.config().named(),
            (Tier::B, Some(member)) => member.members(),
            (Tier::B, None) => entry.home.known.clone(),
        }
    }

    /// Index of the last entry that a node has applied; 0 where it does not run.
    pub fn applied(&self, node: u64) -> u64 {
        let process = self.nodes.get(&node).and_then(|entry| entry.process.as_ref());
        match (self.tier, process) {
            (Tier::A, Some(process)) => process.raft.applied(),
            (Tier::B, Some(process)) => process.member.as_ref().map_or(0, Member::applied),
            (_, None) => 0,
        }
    }

    /// What a node that runs has applied.
    pub fn reads<T>(&self, node: u64, reader: impl FnOnce(&State) -> T) -> Option<T> {
        let process = self.nodes.get(&node)?.process.as_ref()?;
        match self.tier {
            Tier::A => Some(reader(&process.raft.replica.state.lock().expect(POISON))),
            Tier::B => process.member.as_ref().map(|member| member.raft.read(reader)),
        }
    }

    /// Who leads in the newest term, if that node still runs and believes it.
    pub fn leader(&self) -> Option<u64> {
        let term = |id: &u64| self.leads_in(*id);
        self.nodes.keys().filter_map(|id| Some((term(id)?, *id))).max().map(|(_, id)| id)
    }

    /// The term in which a node believes that it leads.
    fn leads_in(&self, node: u64) -> Option<u64> {
        let entry = &self.nodes[&node];
        let process = entry.process.as_ref()?;
        match self.tier {
            Tier::A => process.raft.leads().then_some(entry.disk.term),
            Tier::B => {
                let now = *process.member.as_ref()?.raft.leadership().borrow();
                now.is_leader.then_some(now.term)
            }
        }
    }
}

impl Home {
    /// The term of the vote that its disk has; 0 where there is none.
    pub fn term_on_disk(&self) -> u64 {
        self.platter.get(Tree::Meta, b"vote").map_or(0, |value| words::vote(&value).0)
    }
}

impl Member {
    fn members(&self) -> BTreeMap<u64, String> {
        let nodes = self.raft.membership().nodes;
        nodes.into_iter().map(|(id, info)| (id, info.incarnation)).collect()
    }

    fn applied(&self) -> u64 {
        *self.raft.applied().borrow()
    }
}
