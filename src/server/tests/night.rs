//! A leader that is told of a dead primary.

use std::sync::Arc;

use super::world::World;
use crate::{
    core::{analysis::Verdict, samples},
    server::{
        actors,
        leader::{LeaderHandle, Message},
    },
};

/// The leader of one cluster; it is node 1.
pub struct Night {
    pub world: Arc<World>,
    leader: LeaderHandle,
}

impl Night {
    pub fn new() -> Self {
        let world = World::new();
        let leader = actors::start(world.ports()).leader;
        Self { world, leader }
    }

    /// A node calls the primary dead now.
    pub async fn calls_it_dead(&self, node: u64, sequence: u64) {
        let verdict = Verdict { sequence, ..samples::dead(node).verdict };
        let judged_ms = Some(self.world.ports().host.boottime_ms());
        self.leader.tell(Message::Verdict { verdict, judged_ms }).await;
    }
}
