//! A semi-sync cluster whose new primary would have fewer ackers than a commit waits for.

use super::*;
use crate::{
    core::replicated::{EventKind, recovery::Waiver},
    model::policy::TooFewAckers,
};

/// The candidate was the only acker.
fn world(policy: TooFewAckers, waived: &[Waiver]) -> World {
    let mut world = World::new(Kind::Failover, Some((1, vec![id(2)])));
    world.state.policy.on_too_few_ackers = policy;
    let recovery = world.recovery().id;
    world.state.recoveries.get_mut(&recovery).unwrap().waived = waived.to_vec();
    world.machine = Machine::new(world.recovery().clone(), world.state.policy.clone(), world.now_ms);
    world
}

#[test]
fn it_is_promoted_without_semi_sync_and_said_loudly() {
    for world in
        [&mut world(TooFewAckers::PromoteUnprotected, &[]), &mut world(TooFewAckers::Refuse, &[Waiver::Loss])]
    {
        assert!(world.run(false));
        let recovery = world.recovery();
        assert_eq!(recovery.ending, Some(Ending::Succeeded), "{}", recovery.reason);
        assert!(recovery.reason.contains("unprotected"), "{}", recovery.reason);
        let decision = recovery.decision.as_ref().unwrap();
        assert!(decision.semi_sync_acks.is_none() && decision.ackers.is_empty());
        // Nothing that follows may rest on what held before (simulation, seed 107899).
        let durability = &world.state.clusters[&ClusterId("c".into())].durability;
        assert!(matches!(durability, Durability::Unprotected { .. }), "{durability}");
        let why = decision.unprotected.as_ref().unwrap();
        assert!(why.contains("waited for 1") && why.contains("0 ackers"), "{why}");
        let alerts: Vec<&str> = world
            .state
            .audit
            .iter()
            .filter(|e| e.kind == EventKind::Alert && e.recovery == Some(recovery.id))
            .map(|e| e.text.as_str())
            .collect();
        assert_eq!(alerts, [why.as_str()]);
        assert!(world.trace.iter().all(|t| !t.starts_with("enable_semi_sync_source")));
    }
}

#[test]
fn where_policy_refuses_nobody_is_promoted_and_all_is_undone() {
    let mut world = world(TooFewAckers::Refuse, &[]);
    assert!(world.run(false));
    let recovery = world.recovery();
    assert_eq!(recovery.ending, Some(Ending::Cancelled));
    assert!(recovery.reason.contains("0 ackers are left"), "{}", recovery.reason);
    assert!(world.trace.iter().all(|t| !t.starts_with("make_writable")));
    assert!(world.trace.contains(&"start_receiver db2".to_owned()));
}

#[test]
fn with_enough_of_them_the_policy_has_no_say() {
    for policy in [TooFewAckers::PromoteUnprotected, TooFewAckers::Refuse] {
        let mut world = world(policy, &[]);
        let recovery = world.recovery().id;
        let semi_sync = Some((1, vec![id(2), id(3)]));
        world.state.recoveries.get_mut(&recovery).unwrap().semi_sync = semi_sync;
        world.machine = Machine::new(world.recovery().clone(), world.state.policy.clone(), world.now_ms);
        assert!(world.run(false));
        let recovery = world.recovery();
        assert_eq!(recovery.ending, Some(Ending::Succeeded));
        assert_eq!(recovery.decision.as_ref().unwrap().unprotected, None);
    }
}
