//! What another node asks this one to do: the fence of a recovery that the log still gives to who asks, and nothing else.

use std::sync::Arc;

use tokio::time::Duration;

use super::world::{World, start};
use crate::{
    core::{
        plan::step::{Action, Step, StepEnd},
        replicated::{Change, Ending, Kind, Outcome},
        samples,
    },
    model::{gtid::GtidSet, server::Flavor},
    server::{actors, peer::Answers, ports::Delegation},
};

/// Node 1, which follows node 2, the leader of term 2; and the failover that this one has begun.
fn follower() -> (Arc<World>, Answers, u64) {
    let world = World::new();
    world.led_by(2, 2);
    let answers = actors::start(world.ports()).answers;
    let Outcome::Done { id, .. } = world.commit(Change::StartRecovery(Box::new(start(Kind::Failover))))
    else {
        panic!("not started")
    };
    (world, answers, id)
}

/// The fence of its old primary, as the leader of `term` asks for it.
fn fence(world: &World, recovery: u64, term: u64) -> Delegation {
    let target = world.recovery(recovery).old_primary;
    let step = Step { target, action: Action::Fence };
    Delegation { recovery, term, step, within: Duration::from_secs(1) }
}

/// Nothing was begun, and the asking node is told why.
async fn refused(world: &World, answers: &Answers, delegation: Delegation, words: &str) {
    let end = answers.delegate(delegation).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains(words)), "{end} instead of {words:?}");
    assert_eq!(world.begun().0, Vec::<String>::new());
}

fn give_up(recovery: u64) -> Change {
    Change::BeginUndo { recovery, why: "its client wants so".into(), fence_unknown: false }
}

#[tokio::test(start_paused = true)]
async fn the_fence_of_a_recovery_that_runs_is_sent() {
    let (world, answers, id) = follower();
    answers.delegate(fence(&world, id, 2)).await;
    assert_eq!(world.begun().0, [format!("fence of {id} in term 2")]);
}

/// Nobody but its owner: neither a leader whom the log passed over, nor one of whom it says nothing yet.
#[tokio::test(start_paused = true)]
async fn who_does_not_own_the_recovery_has_nothing_fenced() {
    let (world, answers, id) = follower();
    for term in [1, 3] {
        refused(&world, &answers, fence(&world, id, term), "belongs to term 2").await;
    }
    world.led_by(3, 3);
    let taken = world.commit(Change::TakeOver { recovery: id, evidence: vec![] });
    assert!(matches!(taken, Outcome::Done { .. }), "{taken:?}");
    refused(&world, &answers, fence(&world, id, 2), "belongs to term 3").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_or_has_ended_has_nothing_fenced() {
    let (world, answers, id) = follower();
    let delegation = fence(&world, id, 2);
    assert!(matches!(world.commit(give_up(id)), Outcome::Done { .. }));
    refused(&world, &answers, delegation.clone(), "was given up").await;
    let finish = Change::FinishRecovery {
        recovery: id,
        ending: Ending::Cancelled,
        reason: "undone".into(),
        left_behind: vec![],
        repointed: vec![],
        candidate_open: false,
    };
    assert!(matches!(world.commit(finish), Outcome::Done { .. }));
    refused(&world, &answers, delegation, "does not run").await;
}

/// It is given up while this node opens its session and asks whether what it knows is current.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_meanwhile_has_nothing_fenced() {
    let (world, answers, id) = follower();
    world.commit_behind("read_barrier", give_up(id));
    refused(&world, &answers, fence(&world, id, 2), "was given up").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_fence_of_the_old_primary_is_delegated() {
    let (world, answers, id) = follower();
    let fence = fence(&world, id, 2);
    let another = Step {
        target: samples::member(crate::model::server::Flavor::MySql, 2).target(),
        ..fence.step.clone()
    };
    let writable = Step {
        action: Action::MakeWritable { must_hold: GtidSet::empty(Flavor::MySql) },
        ..fence.step.clone()
    };
    for step in [another, writable] {
        let delegation = Delegation { step, ..fence.clone() };
        refused(&world, &answers, delegation, "only the fence of the old primary").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_applied_here_allows_nothing() {
    let (world, answers, id) = follower();
    let delegation = Delegation { recovery: id + 1, ..fence(&world, id, 2) };
    refused(&world, &answers, delegation, "has not applied").await;
}
