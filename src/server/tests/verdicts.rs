//! How old a leader finds what it was told.

use std::sync::Arc;

use tokio::time::{Duration, sleep};

use super::world::World;
use crate::{
    core::{analysis::Verdict, samples},
    server::{
        actors,
        leader::{LeaderHandle, Message},
    },
};

/// The leader of one cluster, and what it is told.
struct Night {
    world: Arc<World>,
    leader: LeaderHandle,
}

impl Night {
    fn new() -> Self {
        let world = World::new();
        let leader = actors::start(world.ports()).leader;
        Self { world, leader }
    }

    /// A node calls the primary dead now; half a second goes by.
    async fn says(&self, node: u64, sequence: u64) {
        let verdict = Verdict { sequence, ..samples::dead(node).verdict };
        let judged_ms = Some(self.world.ports().host.boottime_ms());
        self.leader.tell(Message::Verdict { verdict, judged_ms }).await;
        sleep(Duration::from_millis(500)).await;
    }
}

/// Found by the simulation (seed 9219343): the monotonic clock stands still while a machine is suspended, and a verdict of a
/// node that had died meanwhile was counted as 1.3 s old after nine.
#[tokio::test(start_paused = true)]
async fn what_was_said_before_its_machine_was_suspended_is_too_old() {
    let night = Night::new();
    night.says(2, 1).await;
    night.world.was_suspended(9_000);
    night.says(3, 1).await;
    assert_eq!(night.world.running(), None, "of two one is nine seconds old");
    night.says(2, 2).await;
    assert!(night.world.running().is_some(), "both have said it within a second");
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_commit_spans_a_suspension_is_late() {
    let night = Night::new();
    night.world.hold("start_recovery");
    night.says(2, 1).await;
    night.says(3, 1).await;
    assert_eq!(night.world.running(), None, "its commit waits");
    night.world.was_suspended(9_000);
    night.world.let_go();
    night.says(2, 2).await;
    assert!(night.world.running().is_some());
    assert_eq!(night.world.begun(), (vec![], vec![]), "of two verdicts one is nine seconds old");
    night.says(3, 2).await;
    assert!(!night.world.begun().0.is_empty(), "both have said it within a second");
}
