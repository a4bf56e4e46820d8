//! Whether a cluster's semi-sync is what P6 means by it, from observations of its primary and replicas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    core::replicated::cluster::{Durability, Member},
    mistake::{Mistake, planted},
    model::{
        facts::{Receiver, ServerFacts},
        server::ServerId,
    },
};

/// A time-out from which on a source never gives up waiting in practice: 4 000 000 s. MySQL's maximum is 4294967295 ms
/// (about 50 days, manual 19.4.10.3); MariaDB's is larger.
pub const FOREVER_MS: u64 = 4_000_000_000;

/// Durability as it is observed of a cluster with this primary and these members. `facts` of all of them that were read
/// lately; nothing is concluded about the others.
pub fn observed<'a>(
    primary: &ServerId,
    members: impl IntoIterator<Item = &'a Member>,
    facts: &BTreeMap<ServerId, Arc<ServerFacts>>,
) -> Option<Durability> {
    let semi = &facts.get(primary)?.semi_sync;
    let replicas: Vec<&ServerId> =
        members.into_iter().filter(|m| m.source.as_ref() == Some(primary)).map(|m| &m.server).collect();
    let acknowledges = |s: &ServerId| facts.get(s).is_some_and(|f| f.semi_sync.replica_enabled == Some(true));
    // In an order of their own: who lists the members, a discovery or the state, makes no difference.
    let ackers: BTreeSet<&ServerId> =
        replicas.iter().copied().filter(|server| acknowledges(server)).collect();
    let ackers: Vec<ServerId> = ackers.into_iter().cloned().collect();
    if semi.source_enabled != Some(true) {
        // Promoted with too few ackers, or switched off by hand: whoever set it up does not expect that.
        return Some(match ackers.len() {
            0 => Durability::Async,
            n => Durability::Unprotected {
                why: format!("semi-sync is off on the primary, though {n} of its replicas would acknowledge"),
            },
        });
    }
    if !replicas.iter().all(|server| facts.contains_key(*server)) {
        return None;
    }
    let acks = semi.source_wait_for.unwrap_or(1);
    let unprotected = |why: String| Some(Durability::Unprotected { why });
    if semi.source_status != Some(true) {
        return unprotected("the semi-sync source has fallen back to asynchronous".into());
    }
    match semi.source_timeout_ms {
        Some(ms) if ms >= FOREVER_MS || planted(Mistake::SemiSyncTimeoutIgnored) => {}
        Some(ms) => {
            return unprotected(format!(
                "the semi-sync time-out is {ms} ms: the source gives up waiting and acknowledges; set it to its maximum"
            ));
        }
        None => return unprotected("the semi-sync time-out is not known".into()),
    }
    if semi.source_wait_no_replica == Some(false) {
        return unprotected(
            "wait_no_replica is off: with no acker connected the source acknowledges at once".into(),
        );
    }
    if ackers.len() < acks as usize {
        return unprotected(format!(
            "a commit waits for {acks} acknowledgements and {} ackers are there",
            ackers.len()
        ));
    }
    Some(Durability::SemiSync { acks, ackers })
}

/// Who is on record as an acker and would not be by what is observed now. What they acknowledged before may be nowhere else: they
/// stay on record until the others hold it ([`hold_all`]).
pub fn leaving(before: &Durability, now: &Durability) -> Vec<ServerId> {
    let (Durability::SemiSync { ackers: before, .. }, Durability::SemiSync { ackers: now, .. }) =
        (before, now)
    else {
        return Vec::new();
    };
    before.iter().filter(|server| !now.contains(server)).cloned().collect()
}

/// Whether a server may acknowledge what `primary` commits, by its facts: it receives from it, and its switch is on.
pub fn acknowledges(facts: &ServerFacts, primary: &Member) -> bool {
    let receives = facts
        .channel_from(&primary.identity, &primary.address, "")
        .is_some_and(|channel| channel.receiver != Receiver::Stopped);
    receives && facts.semi_sync.replica_enabled != Some(false)
}

/// Whether these hold all that the primary had executed when it was read, before them.
pub fn hold_all(primary: &ServerFacts, ackers: &[ServerFacts]) -> bool {
    let executed = primary.executed.position();
    ackers.iter().all(|acker| acker.in_hand().contains(&executed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::samples, model::server::Flavor};

    /// A primary in semi-sync as it should be, with two ackers; `change` breaks something.
    fn judged(change: impl FnOnce(&mut BTreeMap<ServerId, ServerFacts>)) -> Option<Durability> {
        let cluster = samples::cluster(Flavor::MySql, 3);
        let mut facts: BTreeMap<ServerId, ServerFacts> =
            (1..=3).map(|n| (samples::id(n), samples::facts(Flavor::MySql, n))).collect();
        for (server, facts) in &mut facts {
            let source = *server == samples::id(1);
            facts.semi_sync.source_enabled = Some(source);
            facts.semi_sync.source_status = Some(source);
            facts.semi_sync.replica_enabled = Some(!source);
            facts.semi_sync.source_timeout_ms = Some(FOREVER_MS);
            facts.semi_sync.source_wait_no_replica = Some(true);
            facts.semi_sync.source_wait_for = Some(2);
        }
        change(&mut facts);
        let facts = facts.into_iter().map(|(server, facts)| (server, Arc::new(facts))).collect();
        observed(&samples::id(1), cluster.members.values(), &facts)
    }

    fn why(judged: Option<Durability>) -> String {
        match judged {
            Some(Durability::Unprotected { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_acker_that_leaves_is_told_from_one_that_stays() {
        let semi = |ackers: &[u32]| Durability::SemiSync {
            acks: 1,
            ackers: ackers.iter().map(|n| samples::id(*n)).collect(),
        };
        assert_eq!(leaving(&semi(&[2, 3]), &semi(&[3, 4])), [samples::id(2)]);
        assert_eq!(leaving(&semi(&[2]), &Durability::Async), [], "asynchronous rules hold from now on");
        assert_eq!(semi(&[3, 4]).with([samples::id(2)]), semi(&[2, 3, 4]));
        assert_eq!(Durability::Async.with([samples::id(2)]), Durability::Async);
    }

    #[test]
    fn whoever_receives_with_its_switch_on_may_acknowledge() {
        let primary = samples::member(Flavor::MySql, 1);
        let mut facts = samples::facts(Flavor::MySql, 2);
        for (receiver, switch, may) in [
            (Receiver::Running, Some(true), true),
            (Receiver::Connecting, Some(true), true),
            (Receiver::Running, None, true),
            (Receiver::Running, Some(false), false),
            (Receiver::Stopped, Some(true), false),
        ] {
            facts.channels[0].receiver = receiver;
            facts.semi_sync.replica_enabled = switch;
            assert_eq!(acknowledges(&facts, &primary), may, "{receiver:?} {switch:?}");
        }
        facts.channels.clear();
        assert!(!acknowledges(&facts, &primary));
    }

    #[test]
    fn the_others_hold_what_the_primary_had_when_it_was_read() {
        let mut primary = samples::facts(Flavor::MySql, 1);
        let of = |to: u32| samples::set(&format!("00000000-0000-0000-0000-000000000001:1-{to}"));
        primary.executed = of(10);
        let acker = |n, to| {
            let mut facts = samples::facts(Flavor::MySql, n);
            facts.channels[0].received = of(to);
            facts
        };
        assert!(hold_all(&primary, &[acker(2, 10), acker(3, 12)]));
        assert!(!hold_all(&primary, &[acker(2, 10), acker(3, 9)]));
    }

    #[test]
    fn only_a_source_that_waits_for_ever_for_enough_ackers_protects() {
        let primary = samples::id(1);
        let ackers = vec![samples::id(2), samples::id(3)];
        assert_eq!(judged(|_| {}), Some(Durability::SemiSync { acks: 2, ackers }));
        let broken = |change: &dyn Fn(&mut ServerFacts)| {
            why(judged(|facts| change(facts.get_mut(&primary).expect("the primary"))))
        };
        assert!(broken(&|f| f.semi_sync.source_status = Some(false)).contains("fallen back"));
        assert!(broken(&|f| f.semi_sync.source_timeout_ms = Some(10_000)).contains("10000 ms"));
        assert!(broken(&|f| f.semi_sync.source_timeout_ms = None).contains("not known"));
        assert!(broken(&|f| f.semi_sync.source_wait_no_replica = Some(false)).contains("wait_no_replica"));
        assert!(broken(&|f| f.semi_sync.source_wait_for = Some(3)).contains("2 ackers are there"));
        assert!(broken(&|f| f.semi_sync.source_enabled = Some(false)).contains("2 of its replicas"));
    }

    #[test]
    fn nothing_is_concluded_about_whoever_was_not_read() {
        assert_eq!(judged(|facts| drop(facts.remove(&samples::id(1)))), None);
        assert_eq!(judged(|facts| drop(facts.remove(&samples::id(3)))), None);
    }

    #[test]
    fn without_semi_sync_anywhere_it_is_asynchronous() {
        let off = |facts: &mut BTreeMap<ServerId, ServerFacts>| {
            facts.values_mut().for_each(|f| f.semi_sync = Default::default());
        };
        assert_eq!(judged(off), Some(Durability::Async));
    }
}
