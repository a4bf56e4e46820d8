//! How old a leader finds what it was told.

use tokio::time::{Duration, sleep};

use super::night::Night;

/// A node calls the primary dead; half a second goes by.
async fn says(night: &Night, node: u64, sequence: u64) {
    night.calls_it_dead(node, sequence).await;
    sleep(Duration::from_millis(500)).await;
}

/// Found by the simulation (seed 9219343): the monotonic clock stands still while a machine is suspended, and a verdict of a
/// node that had died meanwhile was counted as 1.3 s old after nine.
#[tokio::test(start_paused = true)]
async fn what_was_said_before_its_machine_was_suspended_is_too_old() {
    let night = Night::new();
    says(&night, 2, 1).await;
    night.world.was_suspended(9_000);
    says(&night, 3, 1).await;
    assert_eq!(night.world.running(), None, "of two one is nine seconds old");
    says(&night, 2, 2).await;
    assert!(night.world.running().is_some(), "both have said it within a second");
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_commit_spans_a_suspension_is_late() {
    let night = Night::new();
    night.world.hold("start_recovery");
    says(&night, 2, 1).await;
    says(&night, 3, 1).await;
    assert_eq!(night.world.running(), None, "its commit waits");
    night.world.was_suspended(9_000);
    night.world.let_go();
    says(&night, 2, 2).await;
    assert!(night.world.running().is_some());
    assert_eq!(night.world.begun(), (vec![], vec![]), "of two verdicts one is nine seconds old");
    says(&night, 3, 2).await;
    assert!(!night.world.begun().0.is_empty(), "both have said it within a second");
}
