//! A fence that may still land: what is given up stays open until nothing can come of it any more.

use super::*;
use crate::core::plan::marks::Mark;

fn frozen() -> StepEnd {
    StepEnd::Unknown { why: "no answer within 1500 ms".into() }
}

/// A failover that is given up (nobody who received everything is left) while its fence ended unknown.
fn given_up_on_a_frozen_primary() -> World {
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2), id(3)])));
    world.fence = frozen();
    world.ends.insert(("stop_receiver", id(3)), frozen());
    let no_session = StepEnd::Refused { why: "no session to db1 in time".into() };
    world.ends.insert(("kill_predecessors", id(1)), no_session);
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    world
}

#[test]
fn a_recovery_whose_fence_may_still_land_stays_open_until_the_primary_was_seen_open() {
    let mut world = given_up_on_a_frozen_primary();
    world.wait(3_600_000);
    assert_eq!(world.machine.stage(), Stage::Undo);
    assert!(world.recovery().fence_unknown());
    assert!(world.trace.contains(&"start_receiver db2".to_owned()), "the replicas wait for nobody");
    assert!(!world.trace.contains(&"unfence db1".to_owned()), "old sessions are not seen gone");
    // It thaws: the old sessions are gone. The value is read by the last step over the new session, and not before.
    world.ends.insert(("unfence", id(1)), frozen());
    world.ends.remove(&("kill_predecessors", id(1)));
    world.wait(2_000);
    assert!(world.recovery().fence_unknown(), "what was not read back is not known");
    world.ends.remove(&("unfence", id(1)));
    let effects = world.feed(Event::PrimaryAnswers { how: "node 2".into() });
    world.settle(effects);
    assert_eq!(world.machine.stage(), Stage::Over, "{:?}", world.trace);
    let recovery = world.recovery();
    assert_eq!(recovery.ending, Some(Ending::Cancelled));
    assert!(!recovery.fence_unknown());
    assert!(recovery.reason.contains("db1:3306 was seen open"), "{}", recovery.reason);
    assert_eq!(world.state.clusters[&ClusterId("c".into())].failed_attempts, 1, "counted once");
}

/// A power failure took what its replicas received of it: opened, it would give those numbers to other transactions.
#[test]
fn an_old_primary_that_lacks_its_own_stays_closed_until_a_person_opens_it() {
    let mut world = given_up_on_a_frozen_primary();
    world.ends.remove(&("kill_predecessors", id(1)));
    world.facts.insert(id(1), facts(1, &format!("{OLD}:1-9"), ""));
    world.wait(60_000);
    assert_eq!(world.machine.stage(), Stage::Undo);
    let facts = world.facts.get_mut(&id(1)).unwrap();
    (facts.read_only, facts.super_read_only) = (false, Some(false));
    world.wait(5_000);
    assert_eq!(world.machine.stage(), Stage::Over, "{:?}", world.trace);
}

/// What only the memory of a voter says it held counts, too.
#[test]
fn what_the_old_primary_was_seen_to_hold_it_must_hold_to_be_opened() {
    let mut world = given_up_on_a_frozen_primary();
    world.ends.remove(&("kill_predecessors", id(1)));
    let held = Mark { held: set(&format!("{OLD}:1-12")), caught_up: BTreeSet::new() };
    world.known.marks.insert(id(1), held);
    world.wait(60_000);
    assert_eq!(world.machine.stage(), Stage::Undo);
    world.facts.insert(id(1), facts(1, &format!("{OLD}:1-12"), ""));
    world.wait(5_000);
    assert_eq!(world.machine.stage(), Stage::Over, "{:?}", world.trace);
}

/// What stands on a server that was set aside is not the cluster's.
#[test]
fn what_is_held_by_a_member_out_of_service_need_not_be_held() {
    let mut world = given_up_on_a_frozen_primary();
    world.ends.remove(&("kill_predecessors", id(1)));
    let held = Mark { held: set(&format!("{OLD}:1-12")), caught_up: BTreeSet::new() };
    world.known.marks.insert(id(4), held);
    world.wait(5_000);
    assert_eq!(world.machine.stage(), Stage::Undo, "it is in service yet");
    let cluster = world.state.clusters.get_mut(&ClusterId("c".into())).unwrap();
    cluster.members.get_mut(&id(4)).unwrap().state = MemberState::Replaced;
    world.wait(5_000);
    assert_eq!(world.machine.stage(), Stage::Over, "{:?}", world.trace);
}

/// A request to fence may still be on its way to another node when the primary was opened once: the last look comes
/// after the giving up is in the log and the longest fence is over.
#[test]
fn it_is_looked_at_again_once_no_node_can_begin_a_fence() {
    let mut world = given_up_on_a_frozen_primary();
    world.ends.remove(&("kill_predecessors", id(1)));
    let since = world.now_ms;
    while world.machine.stage() == Stage::Undo {
        world.wait(50);
        assert!(world.now_ms - since < 10_000, "{:?}", world.trace);
    }
    let opened = world.trace.iter().filter(|t| *t == "unfence db1").count();
    assert!(opened >= 2, "{:?}", world.trace);
    assert!(world.now_ms - since >= Policy::default().revoke_deadline_ms);
}

#[test]
fn a_primary_that_no_fence_can_have_reached_is_left_alone() {
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2), id(3)])));
    world.ends.insert(("stop_receiver", id(3)), frozen());
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    assert!(!world.trace.contains(&"unfence db1".to_owned()), "{:?}", world.trace);
}

#[test]
fn a_successor_undoes_on_and_never_promotes() {
    let mut world = given_up_on_a_frozen_primary();
    (world.node, world.term) = (2, 2);
    let id = world.recovery().id;
    world.commit(Change::TakeOver { recovery: id, evidence: vec![] });
    world.ends.clear();
    world.trace.clear();
    world.machine = Machine::new(world.recovery().clone(), Policy::default(), world.now_ms);
    assert!(world.run(true));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    assert!(world.trace.iter().all(|t| t != "decide_promotion"), "{:?}", world.trace);
    assert!(world.trace.contains(&"unfence db1".to_owned()));
}

/// The primary froze, the failover was given up, and now it really is dead: the open undoing stands in nobody's way but a
/// switchover's, and what it left unknown is not forgotten.
#[test]
fn a_failover_supersedes_one_that_is_being_undone_and_inherits_its_fence() {
    let mut world = given_up_on_a_frozen_primary();
    let first = world.recovery().id;
    world.wait(6_000);
    let start = |kind| {
        Change::StartRecovery(Box::new(StartRecovery {
            kind,
            cluster: ClusterId("c".into()),
            class: Class::Primary,
            code: None,
            epoch: 1,
            generation: 1,
            subject: id(1),
            evidence: vec![dead(1), dead(2)],
            revoked: (2..=4)
                .map(|n| Revoked { target: member(n).target(), channel: String::new() })
                .collect(),
            semi_sync: Some((1, vec![id(2), id(3)])),
            waived: vec![],
            to: None,
            kill_writers: false,
        }))
    };
    assert!(matches!(world.commit(start(Kind::Switchover)), Outcome::Refused(Refusal::SlotHeld { .. })));
    let Outcome::Done { id: second, .. } = world.commit(start(Kind::Failover)) else { panic!("refused") };
    let old = &world.state.recoveries[&first];
    assert_eq!(old.ending, Some(Ending::Cancelled));
    assert!(old.reason.contains(&format!("superseded by recovery {second}")), "{}", old.reason);
    assert_eq!(world.state.recoveries[&second].supersedes, Some(first));
    // The first one's process is told so when it next wants something.
    assert!(matches!(
        world.commit(Change::BeginUndo { recovery: first, why: String::new(), fence_unknown: true }),
        Outcome::Refused(_)
    ));
    // The second one's fence is refused (the host is gone): given up as well, it still does not know of the first one's.
    let machine = |world: &World| {
        Machine::new(world.state.recoveries[&second].clone(), Policy::default(), world.now_ms)
    };
    world.fence = StepEnd::Refused { why: "connection refused".into() };
    world.machine = machine(&world);
    let effects = world.feed(Event::Begin { resumed: false });
    // Found by the model: whoever undid the first one may still start a receiver that the second one stops.
    let clears =
        |e: &Effect| matches!(e, Effect::Run { step, .. } if step.action == Action::KillPredecessors);
    assert!(effects.len() == 3 && effects.iter().all(clears), "{effects:?}");
    world.settle(effects);
    assert!(world.state.recoveries[&second].fence_unknown());
    // Where it can promote, it ends: the standing order deals with whatever comes back.
    let mut world = given_up_on_a_frozen_primary();
    world.wait(6_000);
    world.ends.remove(&("stop_receiver", id(3)));
    let Outcome::Done { id: second, .. } = world.commit(start(Kind::Failover)) else { panic!("refused") };
    world.machine = Machine::new(world.state.recoveries[&second].clone(), Policy::default(), world.now_ms);
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    world.wait(1_000);
    assert_eq!(world.state.recoveries[&second].ending, Some(Ending::Succeeded));
    assert_eq!(world.state.orders.len(), 1);
}

#[test]
fn a_switchover_whose_read_only_may_still_land_stays_open_too() {
    let mut world = World::new(Kind::Switchover, None);
    world.ends.insert(("make_read_only", id(1)), frozen());
    world.ends.insert(("unfence", id(1)), frozen());
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    world.wait(60_000);
    assert!(world.recovery().fence_unknown());
    world.ends.remove(&("unfence", id(1)));
    world.wait(2_000);
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
}

/// Found by the model: every fence was refused while an attempt to open the old primary was under way; that attempt went on
/// after the end had been proposed, and sent its second step when the recovery was over.
#[test]
fn nothing_is_sent_to_the_old_primary_once_the_recovery_has_ended() {
    let mut world = World::new(Kind::Failover, None);
    world.feed(Event::Begin { resumed: false });
    let effects = world.feed(Event::Cancel { why: "withdrawn".into() });
    let opens = |e: &Effect| matches!(e, Effect::Run { step, .. } if step.action == Action::KillPredecessors);
    let (opening, rest): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(opens);
    world.settle(rest);
    for node in 1..=3 {
        let end = StepEnd::Refused { why: "nothing listens there".into() };
        world.feed(Event::FenceEnded { node, end });
    }
    let waits = world.feed(Event::Tick);
    assert!(waits.is_empty(), "it ends while a step on the old primary is under way: {waits:?}");
    world.settle(opening);
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled), "{:?}", world.trace);
    assert!(!world.trace.contains(&"unfence db1".to_owned()), "{:?}", world.trace);
}

/// Found by the simulation (tier B, seed 21828): what was superseded had pointed replicas at its candidate and could not point
/// them back; the next one, given up as well, started their receivers and left them where they were.
#[test]
fn whoever_a_superseded_recovery_may_have_pointed_is_pointed_back() {
    let mut world = given_up_on_a_frozen_primary();
    world.wait(20_000);
    let mut second = world.recovery().clone();
    (second.supersedes, second.undo) = (Some(second.id), None);
    world.machine = Machine::new(second, Policy::default(), world.now_ms);
    world.facts.get_mut(&id(2)).unwrap().channels[0].source = Address::new("db3", 3306);
    world.trace.clear();
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    for step in ["point db2", "point db3", "start_receiver db4"] {
        assert!(world.trace.contains(&step.to_owned()), "{step}: {:?}", world.trace);
    }
}

/// Found by the simulation (seed 2107543): the session on which a replica was pointed back was lost, and it was left behind its
/// former candidate though ten seconds were left.
#[test]
fn what_did_not_end_well_on_a_replica_is_tried_again_while_there_is_time() {
    let refused = StepEnd::Refused { why: "nothing listens there".into() };
    let lost = StepEnd::Unknown { why: "the connection has ended".into() };
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2), id(3)])));
    world.ends.insert(("stop_receiver", id(3)), frozen());
    world.ends.insert(("start_receiver", id(2)), lost);
    world.ends.insert(("start_receiver", id(3)), refused);
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    let starts = |world: &World, db: &str| {
        let start = format!("start_receiver {db}");
        world.trace.iter().filter(|step| **step == start).count()
    };
    assert_eq!((starts(&world, "db2"), starts(&world, "db4")), (1, 1));
    world.wait(1_000);
    assert!(starts(&world, "db2") > 1, "{:?}", world.trace);
    assert_eq!(starts(&world, "db4"), 1, "it was done");
    world.ends.remove(&("start_receiver", id(2)));
    world.wait(1_000);
    assert_eq!(world.machine.stage(), Stage::Undo, "db3 may yet be reached");
    world.wait(20_000);
    let reason = &world.recovery().reason;
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled), "{:?}", world.trace);
    assert!(reason.contains("start_receiver on db3:3306 refused"), "{reason}");
    assert!(!reason.contains("db2:3306"), "{reason}");
}

/// A node that was held up for longer than the replicas may take found that time over before it heard what had become of its
/// steps, and named none of them.
#[test]
fn a_step_of_the_undo_that_has_not_ended_in_time_is_named() {
    let mut world = World::new(Kind::Failover, None);
    let refused = StepEnd::Refused { why: "nothing listens there".into() };
    let (on_db2, _): (Vec<Effect>, Vec<Effect>) = world
        .feed(Event::Begin { resumed: false })
        .into_iter()
        .partition(|e| matches!(e, Effect::Run { step, .. } if step.target.server == id(2)));
    world.settle(on_db2);
    assert!(world.trace.contains(&"stop_receiver db2".to_owned()), "{:?}", world.trace);
    let undoes = |e: &Effect| matches!(e, Effect::Run { step, .. } if step.action.name() == "start_receiver");
    let effects = world.feed(Event::Cancel { why: "withdrawn".into() });
    let (held_up, rest): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(undoes);
    assert_eq!(held_up.len(), 3, "{held_up:?}");
    world.settle(rest);
    for node in 1..=3 {
        let effects = world.feed(Event::FenceEnded { node, end: refused.clone() });
        world.settle(effects);
    }
    world.wait(20_000);
    let recovery = world.recovery();
    assert_eq!(recovery.ending, Some(Ending::Cancelled), "{:?}", world.trace);
    assert!(recovery.reason.contains("start_receiver on db2:3306 has not ended"), "{}", recovery.reason);
}
