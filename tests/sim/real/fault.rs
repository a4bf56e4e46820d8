//! Faults of Raft itself: what befalls a node's disk, the ways between nodes, and what operators do to the group.

use super::{
    platter::{Crash, Trouble},
    trap::Spring,
};
use crate::{
    fault::{Undo, WhoNode},
    net::{End, Select},
    world::World,
};

/// One harm, or one wish of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftFault {
    /// The node's machine loses its power; it starts again at the end.
    PowerOff(WhoNode),
    /// Its machine loses its power in the middle of its next sync.
    PowerOffInSync(WhoNode),
    /// An election is called, and the machine of the first node that writes its vote down loses its power meanwhile.
    PowerOffInVote(WhoNode),
    /// Its process is killed in the middle of its next sync and started again at once; once it has
    /// acknowledged so many appends, its machine loses its power.
    KillThenPowerOff(WhoNode, u64),
    /// All machines of the group lose their power at once.
    PowerOffAll,
    /// Its disk's syncs fail: the process stops, and again whenever it is started.
    DiskErrors(WhoNode),
    /// Its disk is full.
    DiskFull(WhoNode),
    /// Its disk is nearly full: it should lead no more.
    DiskLow(WhoNode),
    /// Two nodes do not reach each other; others reach both.
    CutBoth(WhoNode, WhoNode),
    /// Nobody but this one reaches the leader.
    Bridge(WhoNode),
    /// One hears the others and is not heard.
    Mute(WhoNode),
    /// One is heard and hears nobody.
    Deaf(WhoNode),
    /// The leader's office is handed over.
    HandOver(WhoNode),
    /// A node is added that only follows; it leaves at the end.
    AddLearner,
    /// A node is added with a vote; it leaves at the end.
    AddVoter,
    /// A node is taken out at once and another put in its place.
    Replace(WhoNode),
    /// A node loses its directory and comes back under its old id; at the end it is replaced under a new one.
    Wipe(WhoNode),
}

impl World {
    /// Does it; `None` where it meets nothing.
    pub fn do_harm_to_raft(&mut self, fault: RaftFault) -> Option<Undo> {
        use RaftFault::{
            AddLearner, AddVoter, Bridge, CutBoth, Deaf, DiskErrors, DiskFull, DiskLow, HandOver,
            KillThenPowerOff, Mute, PowerOff, PowerOffAll, PowerOffInSync, PowerOffInVote, Replace, Wipe,
        };
        match fault {
            PowerOff(who) => self.power_off(vec![self.who_node(who)?]),
            KillThenPowerOff(who, acks) => {
                let node = self.who_node(who)?;
                Some(self.lay_trap(Spring::Killed(node, acks)))
            }
            PowerOffInSync(who) => {
                let node = self.who_node(who)?;
                Some(self.lay_trap(Spring::Sync(node)))
            }
            PowerOffInVote(to) => {
                let to = self.who_node(to)?;
                let undo = self.lay_trap(Spring::Vote);
                self.hand_over(to);
                Some(undo)
            }
            PowerOffAll => self.power_off(self.nodes.keys().copied().collect()),
            DiskErrors(who) => self.spoil(who, Trouble::Errors),
            DiskFull(who) => self.spoil(who, Trouble::Full),
            DiskLow(who) => self.spoil(who, Trouble::Low),
            CutBoth(..) | Bridge(_) | Mute(_) | Deaf(_) => self.cut_nodes(fault),
            HandOver(who) => {
                let to = self.who_node(who)?;
                self.hand_over(to).then(|| undone(|_| {}))
            }
            AddLearner => self.visit(false),
            AddVoter => self.visit(true),
            Replace(who) => {
                let old = self.who_node(who)?;
                self.begin_change().then_some(())?;
                self.replace(old);
                Some(undone(|_| {}))
            }
            Wipe(who) => {
                let node = self.who_node(who)?;
                self.begin_change().then_some(())?;
                self.wipe(node);
                Some(undone(move |world| world.replace(node)))
            }
        }
    }

    fn power_off(&mut self, nodes: Vec<u64>) -> Option<Undo> {
        let mut off = Vec::new();
        for node in nodes {
            if self.end_process(node, Crash::Power) {
                off.push(node);
            }
        }
        (!off.is_empty()).then(|| {
            undone(move |world| {
                for node in off {
                    world.start_node(node);
                }
            })
        })
    }

    fn spoil(&mut self, who: WhoNode, trouble: Trouble) -> Option<Undo> {
        let node = self.who_node(who)?;
        let platter = self.nodes.get(&node)?.home.platter.clone();
        platter.troubled().is_none().then_some(())?;
        platter.trouble(Some(trouble));
        Some(Box::new(move |_| platter.trouble(None)))
    }

    fn cut_nodes(&mut self, fault: RaftFault) -> Option<Undo> {
        let one = |id: u64| Select::One(End::Node(id));
        let ways = match fault {
            RaftFault::CutBoth(a, b) => {
                let (a, b) = (self.who_node(a)?, self.who_node(b)?);
                vec![(one(a), one(b)), (one(b), one(a))]
            }
            RaftFault::Bridge(who) => {
                let (leader, bridge) = (self.leader()?, self.who_node(who)?);
                let others = self.nodes.keys().filter(|id| **id != leader && **id != bridge);
                others.flat_map(|id| [(one(*id), one(leader)), (one(leader), one(*id))]).collect()
            }
            RaftFault::Mute(who) => vec![(one(self.who_node(who)?), Select::Nodes)],
            RaftFault::Deaf(who) => vec![(Select::Nodes, one(self.who_node(who)?))],
            other => unreachable!("{other:?} cuts nothing"),
        };
        Some(self.cut(ways))
    }

    /// A node is taken in for the time of the fault.
    fn visit(&mut self, vote: bool) -> Option<Undo> {
        let beside = self.leader()?;
        self.begin_change().then_some(())?;
        let new = self.new_node(beside);
        self.take_in(new, vote);
        Some(undone(move |world| world.take_out(new)))
    }
}

fn undone(undo: impl FnOnce(&mut World) + Send + 'static) -> Undo {
    Box::new(move |world| {
        undo(world);
        true
    })
}
