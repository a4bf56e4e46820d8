//! What the leader refuses is told to people once, and is not lost where the log has no majority at that moment.

use std::sync::Arc;

use tokio::time::{Duration, sleep};

use super::world::World;
use crate::{
    core::{
        analysis::Verdict,
        replicated::{Change, Ending, Outcome},
        samples,
    },
    model::server::Flavor,
    server::{
        actors,
        leader::{LeaderHandle, Message},
    },
};

/// The leader of one cluster whose primary nodes 2 and 3 call dead; node 1 leads.
struct Night {
    world: Arc<World>,
    leader: LeaderHandle,
    sequence: u64,
}

impl Night {
    fn new() -> Self {
        let world = World::new();
        let leader = actors::start(world.ports()).leader;
        Self { world, leader, sequence: 1 }
    }

    fn automatic(&self, enabled: bool) {
        let cluster = Some(samples::cluster(Flavor::MySql, 4).id);
        let done = self.world.commit(Change::SetRecoveries { cluster, enabled, why: "a test".into() });
        assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    }

    /// Both say it again, for a second; time is virtual.
    async fn said_again(&mut self) {
        for _ in 0..10 {
            self.sequence += 1;
            for node in [2, 3] {
                let verdict = Verdict { sequence: self.sequence, ..samples::dead(node).verdict };
                let judged_ms = Some(self.world.ports().host.boottime_ms());
                self.leader.tell(Message::Verdict { verdict, judged_ms }).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_whose_note_was_lost_is_told_again_and_then_no_more() {
    let mut night = Night::new();
    night.automatic(false);
    night.world.lose("note");
    night.said_again().await;
    assert_eq!(night.world.refusals(), Vec::<String>::new());
    night.world.let_go();
    night.said_again().await;
    let told = night.world.refusals();
    assert!(matches!(&told[..], [one] if one.starts_with("RECOVERIES_DISABLED")), "{told:?}");
    night.said_again().await;
    assert_eq!(night.world.refusals(), told);
}

#[tokio::test(start_paused = true)]
async fn after_a_recovery_the_same_refusal_is_news() {
    let mut night = Night::new();
    night.automatic(false);
    night.said_again().await;
    assert_eq!(night.world.refusals().len(), 1);

    night.automatic(true);
    night.said_again().await;
    let recovery = night.world.running().expect("a recovery runs");
    let why = "its primary answers again".to_owned();
    night.world.commit(Change::BeginUndo { recovery, why: why.clone(), fence_unknown: false });
    night.automatic(false);
    let done = night.world.commit(Change::FinishRecovery {
        recovery,
        ending: Ending::Cancelled,
        reason: why,
        left_behind: vec![],
        repointed: vec![],
        candidate_open: false,
    });
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    night.said_again().await;
    assert_eq!(night.world.refusals().len(), 2);
}
