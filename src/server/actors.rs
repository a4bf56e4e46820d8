//! One node's actors, made from its ports: the only place that knows who tells whom. The daemon and the simulation both
//! start a node with it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    discovery::Discovery,
    fencer::Fencer,
    leader::{self, LeaderHandle},
    observer::{self, ObserverHandle},
    peer::Answers,
    ports::Ports,
    reporter,
    tools::Tools,
};

/// Sightings under way to the reporter.
const SIGHTINGS: usize = 1_024;

/// The actors of a node at work. They end with the tasks that [`super::ports::Host::task`] made of them.
#[derive(Clone)]
pub struct Actors {
    /// What they work with.
    pub tools: Tools,
    /// Sees.
    pub observer: ObserverHandle,
    /// Proposes and drives while this node leads.
    pub leader: LeaderHandle,
    /// Reads servers that nobody knows yet.
    pub discovery: Arc<Discovery>,
    /// Answers other nodes.
    pub answers: Answers,
}

/// Starts them.
pub fn start(ports: Ports) -> Actors {
    let tools = Tools::new(ports.clone());
    let discovery = Arc::new(Discovery::new(ports));
    let (sightings, seen) = mpsc::channel(SIGHTINGS);
    let observer = observer::observe(tools.clone(), sightings);
    let leader = leader::lead(tools.clone(), observer.clone(), discovery.clone());
    reporter::report(tools.clone(), leader.clone(), Fencer::new(tools.clone()), seen);
    let answers = Answers { tools: tools.clone(), observer: observer.clone(), leader: leader.clone() };
    Actors { tools, observer, leader, discovery, answers }
}
