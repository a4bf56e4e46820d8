//! A candidate that does not apply in time what it received.

use super::*;
use crate::model::policy::DrainPolicy;

fn slow() -> StepEnd {
    StepEnd::Unknown { why: "still applying".into() }
}

/// db2 is chosen and does not drain.
fn world(policy: DrainPolicy, semi_sync: bool) -> World {
    let mut world = World::new(Kind::Failover, semi_sync.then(|| (1, vec![id(2), id(3), id(4)])));
    world.ends.insert(("drain", id(2)), slow());
    world.state.policy.drain_policy = policy;
    restart(&mut world);
    world
}

/// A machine for the recovery as it is committed now.
fn restart(world: &mut World) {
    world.machine = Machine::new(world.recovery().clone(), world.state.policy.clone(), world.now_ms);
}

fn received(n: u32, to: u32) -> ServerFacts {
    facts(n, &format!("{OLD}:1-10"), &format!("{OLD}:1-{to}"))
}

fn promoted(world: &World) -> Option<ServerId> {
    world.state.clusters[&ClusterId("c".into())].primary.clone()
}

#[test]
fn the_next_candidate_takes_its_place_by_a_committed_decision() {
    for semi_sync in [false, true] {
        let mut world = world(DrainPolicy::NextCandidate, semi_sync);
        assert!(world.run(false));
        assert_eq!(promoted(&world), Some(id(3)), "{:?}", world.trace);
        let order = ["decide_promotion", "drain db2", "next_candidate", "drain db3", "record_intent"];
        let places: Vec<usize> = order.iter().map(|what| world.position(what)).collect();
        assert!(places.is_sorted(), "{:?}", world.trace);
        let recovery = world.recovery();
        assert_eq!(recovery.passed_over.len(), 1);
        assert_eq!(recovery.passed_over[0].server, id(2));
        let decision = recovery.decision.as_ref().unwrap();
        let passed = decision.considered.iter().find(|c| c.server == id(2)).unwrap();
        assert!(!passed.chosen && passed.why.contains("within 10000 ms"), "{}", passed.why);
        assert!(world.trace.contains(&"point db2".to_owned()), "it follows with the others");
        assert_eq!(recovery.ending, Some(Ending::Succeeded));
    }
}

#[test]
fn nobody_is_chosen_twice() {
    let mut world = world(DrainPolicy::NextCandidate, false);
    world.ends.insert(("drain", id(3)), slow());
    assert!(world.run(false));
    assert_eq!(promoted(&world), Some(id(4)), "{:?}", world.trace);
    assert_eq!(world.trace.iter().filter(|t| *t == "drain db2").count(), 1);
    let passed: Vec<&ServerId> = world.recovery().passed_over.iter().map(|p| &p.server).collect();
    assert_eq!(passed, [&id(2), &id(3)]);
}

/// P6, and in asynchronous mode no larger loss: where nobody else holds as much, the chosen one is waited for.
#[test]
fn one_that_holds_less_is_not_the_next_and_the_first_is_waited_for() {
    for semi_sync in [false, true] {
        let mut world = world(DrainPolicy::NextCandidate, semi_sync);
        world.facts.insert(id(2), received(2, 12));
        world.facts.insert(id(3), received(3, 11));
        assert!(!run_until(&mut world, "next_candidate", 40));
        assert!(world.trace.iter().filter(|t| *t == "drain db2").count() > 5, "{:?}", world.trace);
        world.ends.clear();
        assert!(go_on(&mut world));
        assert_eq!(promoted(&world), Some(id(2)));
        assert!(world.recovery().decision.as_ref().unwrap().lost.is_empty());
    }
}

/// Whoever was wished for by name is never silently replaced.
#[test]
fn an_operators_wish_is_waited_for() {
    let mut world = world(DrainPolicy::NextCandidate, false);
    let recovery = world.recovery().id;
    world.state.recoveries.get_mut(&recovery).unwrap().to = Some(id(2));
    restart(&mut world);
    assert!(!run_until(&mut world, "next_candidate", 40));
    assert!(world.trace.contains(&"drain db2".to_owned()));
}

#[test]
fn the_other_policies_choose_nobody_else() {
    let mut waiting = world(DrainPolicy::Wait, false);
    assert!(!run_until(&mut waiting, "next_candidate", 40));
    waiting.ends.clear();
    assert!(go_on(&mut waiting));
    assert_eq!(promoted(&waiting), Some(id(2)));

    let mut refusing = world(DrainPolicy::Refuse, false);
    assert!(refusing.run(false));
    assert_eq!(refusing.recovery().ending, Some(Ending::Cancelled));
    assert_eq!(promoted(&refusing), Some(id(1)));
}

/// A broken applier is looked at again, not hammered; and with another candidate at hand not waited for.
#[test]
fn a_refused_drain_is_tried_again_after_a_pause() {
    let refused = StepEnd::Refused { why: "the applier stopped".into() };
    let mut world = world(DrainPolicy::Wait, false);
    world.ends.insert(("drain", id(2)), refused.clone());
    let effects = world.feed(Event::Begin { resumed: false });
    world.settle(effects);
    world.wait(900);
    assert_eq!(world.trace.iter().filter(|t| *t == "drain db2").count(), 1);
    world.ends.clear();
    world.wait(1_000);
    assert_eq!(promoted(&world), Some(id(2)));
}

/// P4: the leader dies before or after the second decision; the next one goes by what is committed.
#[test]
fn a_successor_goes_by_the_decision_that_counts() {
    for (point, drained_first) in [("next_candidate", true), ("record_intent", false)] {
        let mut world = world(DrainPolicy::NextCandidate, true);
        world.dies_before = Some(point);
        assert!(!world.run(false), "{point} was never reached");
        world.dies_before = None;
        let recovery = world.recovery().id;
        (world.node, world.term) = (2, 2);
        world.commit(Change::TakeOver { recovery, evidence: vec![] });
        restart(&mut world);
        world.trace.clear();
        assert!(world.run(true), "{point}");
        assert_eq!(promoted(&world), Some(id(3)), "{point}: {:?}", world.trace);
        assert_eq!(world.trace.contains(&"drain db2".to_owned()), drained_first, "{point}");
        assert_eq!(world.recovery().passed_over.len(), 1, "{point}");
    }
}

/// The log refuses what would give something up, whoever proposes it (P6), and what comes too late.
#[test]
fn a_second_decision_that_gives_something_up_is_refused() {
    for semi_sync in [false, true] {
        let mut world = world(DrainPolicy::NextCandidate, semi_sync);
        world.dies_before = Some("drain");
        assert!(!world.run(false));
        let recovery = world.recovery().id;
        let first = world.recovery().decision.clone().unwrap();
        let next = |decision: &Decision| Change::NextCandidate {
            recovery,
            why: "slow".into(),
            decision: Box::new(decision.clone()),
        };
        assert!(matches!(world.commit(next(&first)), Outcome::Refused(Refusal::Invalid(_))), "the same one");
        let mut less = Decision { candidate: member(3).target(), ..first.clone() };
        match semi_sync {
            true => less.must_hold = set(&format!("{OLD}:1-9")),
            false => less.lost = set(&format!("{OLD}:10")),
        }
        assert!(matches!(world.commit(next(&less)), Outcome::Refused(Refusal::Invalid(_))));
        assert_eq!(world.recovery().decision, Some(first.clone()));

        let same = Decision { candidate: member(3).target(), ..first.clone() };
        assert!(matches!(world.commit(next(&same)), Outcome::Done { .. }));
        assert!(
            matches!(world.commit(next(&first)), Outcome::Refused(Refusal::Invalid(_))),
            "back to the first"
        );
        world.commit(Change::RecordIntent { recovery });
        let late = Decision { candidate: member(4).target(), ..first };
        assert!(matches!(world.commit(next(&late)), Outcome::Refused(Refusal::WrongPhase { .. })));
    }
}

/// What a predecessor may have moved for a candidate that was passed over is moved back with the rest.
#[test]
fn an_undo_after_a_takeover_points_everybody_back() {
    let mut world = world(DrainPolicy::NextCandidate, true);
    world.dies_before = Some("record_intent");
    assert!(!world.run(false));
    world.dies_before = None;
    let recovery = world.recovery().id;
    (world.node, world.term) = (2, 2);
    world.commit(Change::TakeOver { recovery, evidence: vec![] });
    restart(&mut world);
    world.trace.clear();
    assert!(world.feed(Event::Cancel { why: "operator".into() }).is_empty());
    assert!(world.run(true));
    for replica in ["point db2", "point db3", "point db4"] {
        assert!(world.trace.contains(&replica.to_owned()), "{:?}", world.trace);
    }
}

/// Begins, answers `most` effects, and says whether `command` was proposed.
fn run_until(world: &mut World, command: &str, most: usize) -> bool {
    let mut queue: VecDeque<Effect> = world.feed(Event::Begin { resumed: false }).into();
    for _ in 0..most {
        let Some(effect) = queue.pop_front() else { break };
        let effects = world.answer(effect);
        queue.extend(effects);
    }
    world.left = queue;
    world.trace.iter().any(|t| t == command)
}

/// Goes on from there to the end.
fn go_on(world: &mut World) -> bool {
    for _ in 0..1_000 {
        match world.left.pop_front() {
            Some(effect) => {
                let effects = world.answer(effect);
                world.left.extend(effects);
            }
            None if world.machine.stage() == Stage::Over => return true,
            None => {
                world.now_ms += 50;
                let effects = world.feed(Event::Tick);
                world.left.extend(effects);
            }
        }
    }
    false
}
