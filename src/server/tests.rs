//! The actors against ports that a test holds in its hand: what may go wrong between a commit and the actor that hears of it.

mod delegations;
mod night;
mod refusals;
mod verdicts;
mod world;

use tokio::{
    sync::oneshot,
    time::{Duration, Instant, timeout},
};

use self::world::{World, start};
use super::{
    actors,
    driver::{self, Driven},
    leader::{Message, StartError},
    tools::Tools,
};
use crate::{
    core::replicated::{Change, Kind, Outcome},
    raft::ProposeError,
};

/// An operator's switchover, as the API hands it to the leader.
async fn ask(leader: &super::leader::LeaderHandle) -> Result<u64, StartError> {
    let (reply, answer) = oneshot::channel();
    let start = Box::new(start(Kind::Switchover));
    let (by, request_id) = ("dba".to_owned(), Some("r1".to_owned()));
    leader.tell(Message::Operator { start, by, request_id, reply }).await;
    answer.await.expect("the leader answers")
}

/// Nobody is told that nothing was started, who may find that something was.
#[tokio::test(start_paused = true)]
async fn a_start_of_unknown_fate_is_not_called_refused() {
    let world = World::new();
    let actors = actors::start(world.ports());
    world.lose("start_recovery");
    let answer = ask(&actors.leader).await;
    assert!(matches!(answer, Err(StartError::NotCommitted(ProposeError::Unknown { .. }))), "{answer:?}");
}

/// P4. The operator's client hears of no answer, sends its request again, and meets the node in its next term: the answer is the
/// recovery that the first one started, and that is another term's until it is taken over.
#[tokio::test(start_paused = true)]
async fn a_request_sent_again_starts_nothing_that_was_not_taken_over() {
    let world = World::new();
    let actors = actors::start(world.ports());
    let first = ask(&actors.leader).await.expect("started");
    world.sees(&format!("driver of {first} in term 1")).await;

    world.hold("take_over");
    world.leads_in(2);
    assert_eq!(ask(&actors.leader).await, Ok(first));
    // Whatever the answer set going has had its time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (all, foreign) = world.begun();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(all.iter().all(|what| what.ends_with("in term 1")), "{all:?}");

    world.let_go();
    world.sees(&format!("driver of {first} in term 2")).await;
    assert_eq!(world.begun().1, Vec::<String>::new());
    assert_eq!(world.recovery(first).owner, (world::ME, 2));
}

/// Its driver, in term 1, of a failover that the log has just begun.
fn driven(world: &std::sync::Arc<World>) -> (u64, Driven) {
    let Outcome::Done { id, .. } = world.commit(Change::StartRecovery(Box::new(start(Kind::Failover))))
    else {
        panic!("not started")
    };
    let tools = Tools::new(world.ports());
    (id, driver::drive(tools, world.recovery(id), (1, Instant::now()), Default::default(), false))
}

/// P1. Where nothing happens to it, the driver goes on to the drain.
#[tokio::test(start_paused = true)]
async fn what_the_log_gives_to_this_node_is_driven() {
    let world = World::new();
    let (id, _driven) = driven(&world);
    world.sees(&format!("drain of {id}")).await;
    assert_eq!(world.begun().1, Vec::<String>::new());
}

/// P1. This node led until a moment ago: that covers the sessions it had then. Behind one that it opens for a step it asks
/// anew who leads.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_opened_for_a_step_is_confirmed_anew() {
    let world = World::new();
    world.opens_anew();
    let (_, mut driven) = driven(&world);
    world.led_by(2, 2);
    let ended = timeout(Duration::from_secs(30), &mut driven.task).await;
    assert!(ended.is_ok(), "it goes on: {:?}", world.begun());
    assert_eq!(world.ran(), Vec::<String>::new());

    let world = World::new();
    world.opens_anew();
    let (id, _driven) = self::driven(&world);
    world.sees(&format!("drain of {id}")).await;
}

/// P1. Right behind the decision another node takes the recovery over. The driver hears that its decision was committed, and is
/// not yet told that it is nobody's: it sends nothing more.
#[tokio::test(start_paused = true)]
async fn what_the_log_gives_to_another_is_left_alone_at_once() {
    let world = World::new();
    let (id, mut driven) = driven(&world);
    world.commit_behind("decide_promotion", Change::TakeOver { recovery: id, evidence: vec![] });
    let ended = timeout(Duration::from_secs(30), &mut driven.task).await;
    assert!(ended.is_ok(), "it goes on: {:?}", world.begun());
    let (all, foreign) = world.begun();
    assert_eq!(world.recovery(id).owner, (2, 2));
    assert!(all.iter().any(|what| what.starts_with("stop_receiver")), "{all:?}");
    assert!(foreign.is_empty(), "{foreign:?}");
}
