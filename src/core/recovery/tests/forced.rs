//! A forced failover passes the same gate as an automatic one, but for what is waived by name.

use super::*;
use crate::core::replicated::recovery::Waiver;

fn forced(world: &World, waived: &[Waiver]) -> Change {
    let cluster = &world.state.clusters[&ClusterId("c".into())];
    let primary = cluster.primary.clone().unwrap();
    let others = cluster.members.values().filter(|m| m.server != primary && m.server != id(1));
    Change::StartRecovery(Box::new(StartRecovery {
        kind: Kind::Forced,
        cluster: cluster.id.clone(),
        class: Class::Primary,
        code: None,
        epoch: cluster.epoch,
        generation: cluster.generation,
        subject: primary.clone(),
        evidence: vec![],
        revoked: others.map(|m| Revoked { target: m.target(), channel: String::new() }).collect(),
        semi_sync: None,
        waived: waived.to_vec(),
        to: None,
        kill_writers: false,
    }))
}

#[test]
fn a_block_holds_a_forced_failover_too_unless_it_is_waived_or_acknowledged() {
    let mut world = World::new(Kind::Failover, None);
    assert!(world.run(false));
    let recovery = world.recovery().id;
    let blocked = world.commit(forced(&world, &[Waiver::Verdict, Waiver::Disabled, Waiver::Loss]));
    assert!(
        matches!(blocked, Outcome::Refused(Refusal::ClusterBlocked { recovery: by, .. }) if by == recovery),
        "{blocked:?}"
    );
    let mut acknowledged = world.state.clone();
    let started = world.commit(forced(&world, &[Waiver::Verdict, Waiver::Block]));
    assert!(matches!(started, Outcome::Done { .. }), "{started:?}");

    std::mem::swap(&mut world.state, &mut acknowledged);
    let scope = crate::core::replicated::command::AckScope::Recovery(recovery);
    world.commit(Change::Acknowledge { scope, comment: "looked".into() });
    let started = world.commit(forced(&world, &[Waiver::Verdict]));
    assert!(matches!(started, Outcome::Done { .. }), "{started:?}");
}

/// What paces automatic attempts holds no person up.
#[test]
fn back_off_and_breaker_hold_only_automatic_ones() {
    let mut world = World::new(Kind::Failover, None);
    world.fence = StepEnd::Done(StepReport::default());
    assert!(world.run(false));
    assert_eq!(world.recovery().ending, Some(Ending::Cancelled));
    world.state.policy.breaker_recoveries = 1;
    let cluster = &world.state.clusters[&ClusterId("c".into())];
    assert!(world.state.automatic_rate(cluster, Class::Primary).is_some());
    let started = world.commit(forced(&world, &[Waiver::Verdict]));
    assert!(matches!(started, Outcome::Done { .. }), "{started:?}");
}
