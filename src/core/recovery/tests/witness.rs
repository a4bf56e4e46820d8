//! A failover after a witness was called: whom revocation waits for, and whose sessions go first.

use super::*;

/// Server `n` was called as a witness, by that node in that term; its receiver was seen started again, or not.
fn with_witness(n: u32, owner: (u64, u64), settled: bool, semi_sync: Option<(u32, Vec<ServerId>)>) -> World {
    let mut world = World::new(Kind::Failover, semi_sync);
    let cluster = world.state.clusters.get_mut(&ClusterId("c".into())).unwrap();
    cluster.witness = Some(crate::core::replicated::Witness {
        id: 9,
        target: member(n).target(),
        channel: String::new(),
        owner,
        at_ms: 0,
        settled,
        answered: false,
    });
    world
}

/// Begins it; what that server is asked to do is given back, and takes longer than everybody else's.
fn begun_without(world: &mut World, slow: &ServerId) -> Vec<Effect> {
    let effects = world.feed(Event::Begin { resumed: false });
    let is_slow = |effect: &Effect| matches!(effect, Effect::Run { step, .. } if step.target.server == *slow);
    let (held, rest): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(is_slow);
    world.settle(rest);
    world.wait(200);
    held
}

/// It was chosen on readings that were seconds old: what it held more than the others was lost with it (simulation, seed
/// 22931).
#[test]
fn a_witness_that_may_hold_more_than_the_others_is_waited_for() {
    type Holds = fn(&mut World);
    let cases: [(&str, Holds); 2] = [
        ("it was seen to hold more", |world| {
            world.known.marks.get_mut(&id(4)).unwrap().held = set(&format!("{OLD}:1-12"));
        }),
        ("something would be lost", |world| world.known.old_primary = Some(set(&format!("{OLD}:1-12")))),
    ];
    for (name, holds) in cases {
        let mut world = with_witness(4, (1, 1), true, None);
        holds(&mut world);
        world.facts.insert(id(4), facts(4, &format!("{OLD}:1-10"), &format!("{OLD}:1-12")));
        let held = begun_without(&mut world, &id(4));
        assert!(!world.trace.contains(&"decide_promotion".to_owned()), "{name}: {:?}", world.trace);
        world.settle(held);
        world.wait(200);
        let decision = world.recovery().decision.as_ref().unwrap();
        assert_eq!((&decision.candidate.server, decision.lost.is_empty()), (&id(4), true), "{name}");
    }
}

/// Found by the simulation (seed 4112094): a person replaced a primary that was alive, and what it had just sent the witness was
/// lost, unnamed.
#[test]
fn in_a_forced_failover_the_witness_is_waited_for() {
    for by in [None, Some("a person".to_owned())] {
        let mut world = with_witness(4, (1, 1), true, None);
        world.machine.recovery.requested_by = by.clone();
        let held = begun_without(&mut world, &id(4));
        assert_eq!(world.trace.contains(&"decide_promotion".to_owned()), by.is_none(), "{:?}", world.trace);
        world.settle(held);
        world.wait(200);
        assert!(world.trace.contains(&"decide_promotion".to_owned()), "{:?}", world.trace);
    }
}

#[test]
fn a_slow_witness_is_not_waited_for_unless_it_may_have_acknowledged() {
    for semi_sync in [None, Some((1, vec![id(2), id(3), id(4)]))] {
        let mut world = with_witness(4, (1, 1), true, semi_sync.clone());
        let held = begun_without(&mut world, &id(4));
        assert_eq!(
            world.trace.contains(&"decide_promotion".to_owned()),
            semi_sync.is_none(),
            "{:?}",
            world.trace
        );
        world.settle(held);
        world.wait(200);
        assert_eq!(world.recovery().ending, Some(Ending::Succeeded), "{:?}", world.trace);
    }
}

/// A leader that lost its term may have a restart under way: its session is gone before anything is stopped there.
#[test]
fn another_leaders_witness_is_cleared_before_revocation() {
    let mut world = with_witness(3, (3, 0), false, None);
    assert!(world.run(false));
    assert!(world.position("kill_predecessors db3") < world.position("stop_receiver"), "{:?}", world.trace);
    assert_eq!(world.recovery().ending, Some(Ending::Succeeded));
}
