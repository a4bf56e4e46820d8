//! How old a leader finds what it was told.

use tokio::time::{Duration, sleep};

use super::world::World;
use crate::{
    core::{analysis::Verdict, samples},
    server::{actors, leader::Message},
};

/// Found by the simulation (seed 9219343): the monotonic clock stands still while a machine is suspended, and a verdict of a
/// node that had died meanwhile was counted as 1.3 s old after nine.
#[tokio::test(start_paused = true)]
async fn what_was_said_before_its_machine_was_suspended_is_too_old() {
    let world = World::new();
    let leader = actors::start(world.ports()).leader;
    let says = async |node, sequence| {
        let verdict = Verdict { sequence, ..samples::dead(node).verdict };
        let judged_ms = Some(world.ports().host.boottime_ms());
        leader.tell(Message::Verdict { verdict, judged_ms }).await;
        sleep(Duration::from_millis(500)).await;
    };
    says(2, 1).await;
    world.was_suspended(9_000);
    says(3, 1).await;
    assert_eq!(world.running(), None, "of two one is nine seconds old");
    says(2, 2).await;
    assert!(world.running().is_some(), "both have said it within a second");
}
