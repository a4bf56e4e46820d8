//! What the leader refuses is told to people once, and is not lost where the log has no majority at that moment.

use tokio::time::{Duration, sleep};

use super::night::Night;
use crate::{
    core::{
        replicated::{Change, Ending, Outcome},
        samples,
    },
    model::server::Flavor,
};

/// A leader whose cluster's primary nodes 2 and 3 call dead, again and again.
struct Told {
    night: Night,
    sequence: u64,
}

impl Told {
    fn new() -> Self {
        Self { night: Night::new(), sequence: 1 }
    }

    fn automatic(&self, enabled: bool) {
        let cluster = Some(samples::cluster(Flavor::MySql, 4).id);
        let done = self.night.world.commit(Change::SetRecoveries { cluster, enabled, why: "a test".into() });
        assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    }

    /// Both say it again, for a second; time is virtual.
    async fn said_again(&mut self) {
        for _ in 0..10 {
            self.sequence += 1;
            for node in [2, 3] {
                self.night.calls_it_dead(node, self.sequence).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_whose_note_was_lost_is_told_again_and_then_no_more() {
    let mut told = Told::new();
    told.automatic(false);
    told.night.world.lose("note");
    told.said_again().await;
    assert_eq!(told.night.world.refusals(), Vec::<String>::new());
    told.night.world.let_go();
    told.said_again().await;
    let refusals = told.night.world.refusals();
    assert!(matches!(&refusals[..], [one] if one.starts_with("RECOVERIES_DISABLED")), "{refusals:?}");
    told.said_again().await;
    assert_eq!(told.night.world.refusals(), refusals);
}

#[tokio::test(start_paused = true)]
async fn after_a_recovery_the_same_refusal_is_news() {
    let mut told = Told::new();
    told.automatic(false);
    told.said_again().await;
    assert_eq!(told.night.world.refusals().len(), 1);

    told.automatic(true);
    told.said_again().await;
    let recovery = told.night.world.running().expect("a recovery runs");
    let why = "its primary answers again".to_owned();
    told.night.world.commit(Change::BeginUndo { recovery, why: why.clone(), fence_unknown: false });
    told.automatic(false);
    let done = told.night.world.commit(Change::FinishRecovery {
        recovery,
        ending: Ending::Cancelled,
        reason: why,
        left_behind: vec![],
        repointed: vec![],
        candidate_open: false,
    });
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    told.said_again().await;
    assert_eq!(told.night.world.refusals().len(), 2);
}
