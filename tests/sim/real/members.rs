//! What operators do to the group itself: make it, take nodes in and out, put one in another's place, hand the leader's
//! office over. Each asks the product on the node that leads, as `quorate nodes` does, until it is done.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use quorate::raft::{ChangeError, Membership, NodeInfo, Raft};

use crate::{
    host::Tasks,
    net::End,
    node::Node,
    world::{Sim, World},
};

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(300);
/// Attempts before an operator gives up.
const TRIES: u32 = 300;

/// Operators' changes of the group.
#[derive(Default)]
pub struct Members {
    /// One at a time.
    busy: bool,
    /// The newest id: none is used twice, not even a learner's.
    newest: u64,
}

/// A change that an operator wants.
type Wish = Box<dyn for<'a> Fn(&'a Raft) -> BoxFuture<'a, Result<(), ChangeError>> + Send + Sync>;

impl World {
    /// The first membership: `quorate init` on the first node, as soon as all of them run.
    pub fn make_group(&mut self) {
        let sim = self.handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN / 10).await;
                let Some(all) = sim.try_with(|world| world.everybody()) else { return };
                let Some((first, members)) = all else { continue };
                match first.init(members).await {
                    Ok(()) => return,
                    Err(error) => panic!("the group cannot be made: {error}"),
                }
            }
        });
    }

    fn everybody(&mut self) -> Option<(Raft, BTreeMap<u64, NodeInfo>)> {
        let raft = |node: &Node| Some(node.process.as_ref()?.member.as_ref()?.raft.clone());
        let all: Option<Vec<Raft>> = self.nodes.values().map(raft).collect();
        let all = all?;
        let members = all.iter().map(|raft| (raft.node_id(), raft.own_info())).collect();
        Some((all.into_iter().next()?, members))
    }

    /// One change of the group at a time: whether this one may begin.
    pub(super) fn begin_change(&mut self) -> bool {
        !std::mem::replace(&mut self.members.busy, true)
    }

    /// Another node, which belongs to nothing yet and stands where `beside` does.
    pub(super) fn new_node(&mut self, beside: u64) -> u64 {
        let newest = self.nodes.keys().max().copied().unwrap_or_default().max(self.members.newest);
        self.members.newest = newest + 1;
        let new = newest + 1;
        let snapshot_every = self.nodes[&beside].snapshot_every;
        self.nodes.insert(new, Node::new(format!("i{new}"), snapshot_every));
        let datacenter = self.net.datacenter(End::Node(beside));
        self.net.place(End::Node(new), datacenter);
        self.start_node(new);
        new
    }

    /// Puts a new node in the place of `old`, which leaves for good.
    pub(super) fn replace(&mut self, old: u64) {
        let new = self.new_node(old);
        let info = self.info(new);
        let wish: Wish = Box::new(move |raft| {
            let info = info.clone();
            Box::pin(async move {
                let members = settled(raft).await?;
                match (members.voters.contains(&new), members.nodes.contains_key(&old)) {
                    (true, false) => Ok(()),
                    (true, true) => raft.remove(old).await,
                    (false, _) => raft.replace(old, new, info).await,
                }
            })
        });
        self.ask_leader(format!("replace node {old} by {new}"), wish, move |world, done| {
            if done {
                world.counts.reach("node replaced");
                world.retire_node(old);
            }
            world.members.busy = false;
        });
    }

    /// Takes a new node in, as a learner or with a vote.
    pub(super) fn take_in(&mut self, new: u64, vote: bool) {
        let info = self.info(new);
        let wish: Wish = Box::new(move |raft| {
            let info = info.clone();
            Box::pin(async move {
                let members = settled(raft).await?;
                if !members.nodes.contains_key(&new) {
                    raft.add_learner(new, info).await?;
                }
                match vote && !members.voters.contains(&new) {
                    true => raft.make_voter(new).await,
                    false => Ok(()),
                }
            })
        });
        self.ask_leader(format!("take node {new} in (with a vote: {vote})"), wish, move |world, done| {
            if done {
                world.counts.reach(if vote { "voter added" } else { "learner added" });
            }
        });
    }

    /// Takes a node out again; it leaves for good.
    pub(super) fn take_out(&mut self, node: u64) {
        let wish: Wish = Box::new(move |raft| {
            Box::pin(async move {
                match settled(raft).await?.nodes.contains_key(&node) {
                    true => raft.remove(node).await,
                    false => Ok(()),
                }
            })
        });
        self.ask_leader(format!("take node {node} out"), wish, move |world, done| {
            if done {
                world.counts.reach("node removed");
                world.retire_node(node);
            }
            world.members.busy = false;
        });
    }

    /// Hands the leader's office over.
    pub(super) fn hand_over(&mut self, to: u64) -> bool {
        let Some(leader) = self.leader().filter(|leader| *leader != to) else { return false };
        let Some((tasks, raft)) = self.raft_of_leader(leader) else { return false };
        let sim = self.handle.clone();
        tokio::spawn(async move {
            let end = tasks.serve(raft.transfer_leader(to)).await.unwrap_or_else(lost);
            sim.try_with(|world| {
                match &end {
                    Ok(()) => world.counts.reach("leader's office handed over"),
                    Err(_) => world.counts.reach("hand-over that did not come about"),
                }
                world.tell_of(format!("the leader's office is handed to node {to}: {end:?}"));
            });
        });
        true
    }

    fn info(&self, node: u64) -> NodeInfo {
        NodeInfo {
            node_addr: format!("node{node}:1"),
            client_addr: format!("node{node}:2"),
            incarnation: self.nodes[&node].incarnation.to_string(),
            datacenter: None,
        }
    }

    fn raft_of_leader(&self, leader: u64) -> Option<(Arc<Tasks>, Raft)> {
        let process = self.nodes.get(&leader)?.process.as_ref()?;
        Some((process.tasks.clone(), process.member.as_ref()?.raft.clone()))
    }

    fn retire_node(&mut self, node: u64) {
        self.kill_node(node);
        self.nodes.remove(&node);
    }

    /// Asks whoever leads, again and again; then `after` hears whether it was done.
    fn ask_leader(
        &mut self,
        what: String,
        wish: Wish,
        after: impl FnOnce(&mut World, bool) + Send + 'static,
    ) {
        let sim = self.handle.clone();
        tokio::spawn(async move {
            let done = insist(&sim, &what, wish).await;
            sim.try_with(|world| after(world, done));
        });
    }
}

/// The members, once no change of them is half done or may still be lost.
async fn settled(raft: &Raft) -> Result<Membership, ChangeError> {
    let members = raft.membership();
    raft.read_barrier().await.map_err(|_| ChangeError::NoQuorum)?;
    match members.changing || members != raft.membership() {
        true => Err(ChangeError::Busy),
        false => Ok(members),
    }
}

/// The node was killed while it was asked.
fn lost() -> Result<(), ChangeError> {
    Err(ChangeError::Unknown { what: "the connection was lost".to_owned() })
}

async fn insist(sim: &Sim, what: &str, wish: Wish) -> bool {
    for _ in 0..TRIES {
        tokio::time::sleep(AGAIN).await;
        let leader = sim.try_with(|world| {
            let leader = world.leader().filter(|leader| world.runs(*leader))?;
            world.raft_of_leader(leader)
        });
        let Some(leader) = leader else { return false };
        let Some((tasks, raft)) = leader else { continue };
        match tasks.serve(wish(&raft)).await.unwrap_or_else(lost) {
            Ok(()) => {
                sim.try_with(|world| world.tell_of(format!("operator: {what}: done")));
                return true;
            }
            Err(error) => {
                sim.try_with(|world| world.tell_of(format!("operator: {what}: {error}")));
            }
        }
    }
    false
}
