//! Every rule of the choice: each case breaks one for one replica, and the other is chosen, or nobody.

use super::*;
use crate::{
    core::{
        replicated::{Durability, Member, MemberState, recovery::Revoked, state::Pause},
        samples::{self, id, set},
    },
    model::{
        facts::Channel,
        server::{ClusterId, Flavor},
    },
};

const PRIMARY: &str = "00000000-0000-0000-0000-000000000001";

fn member(n: u32) -> Member {
    samples::member(Flavor::MySql, n)
}

fn facts(n: u32) -> ServerFacts {
    let all = set(&format!("{PRIMARY}:1-10"));
    let channel = Channel { received: all.clone(), ..samples::channel(Flavor::MySql, 1) };
    ServerFacts { executed: all, channels: vec![channel], ..samples::facts(Flavor::MySql, n) }
}

/// A silent primary db1 and its replicas db2 (who would be promoted), db3 and db4.
struct Case {
    state: State,
    sets: Sets,
}

impl Case {
    fn new() -> Self {
        let mut state = State::default();
        let cluster = samples::cluster(Flavor::MySql, 4);
        state.clusters.insert(cluster.id.clone(), cluster);
        let facts = (2..=4).map(|n| (id(n), facts(n))).collect();
        Self { state, sets: Sets { facts, marks: samples::caught_up(2..=4), ..Sets::default() } }
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.state.clusters.get_mut(&ClusterId("c".into())).unwrap()
    }

    fn member(&mut self, n: u32) -> &mut Member {
        self.cluster().members.get_mut(&id(n)).unwrap()
    }

    fn facts(&mut self, n: u32) -> &mut ServerFacts {
        self.sets.facts.get_mut(&id(n)).unwrap()
    }

    fn channel(&mut self, n: u32) -> &mut Channel {
        &mut self.facts(n).channels[0]
    }

    fn semi_sync(&mut self, acks: u32, ackers: &[u32]) {
        let ackers = ackers.iter().map(|n| id(*n)).collect();
        self.cluster().durability = Durability::SemiSync { acks, ackers };
    }

    fn choose(&self) -> Result<(ServerId, ServerId), Refusal> {
        let cluster = &self.state.clusters[&ClusterId("c".into())];
        let semi_sync = match &cluster.durability {
            Durability::SemiSync { acks, ackers } => Some((*acks, ackers.clone())),
            _ => None,
        };
        let revoked =
            (2..=4).map(|n| Revoked { target: member(n).target(), channel: String::new() }).collect();
        let wish =
            Wish { kind: Kind::Failover, to: None, waived: vec![], kill_writers: false, revoked, semi_sync };
        choose(&self.state, cluster, &wish, &self.sets)
    }
}

#[test]
fn one_is_chosen_and_never_the_preferred_candidate() {
    assert_eq!(Case::new().choose().unwrap(), (id(3), id(2)));
    // Whoever is preferred is spared, whatever its place.
    let mut case = Case::new();
    case.facts(3).executed = set(&format!("{PRIMARY}:1-20"));
    assert_eq!(case.choose().unwrap(), (id(2), id(3)));
    // Nobody but the candidate is left.
    let mut case = Case::new();
    for n in [3, 4] {
        case.cluster().members.remove(&id(n));
        case.sets.facts.remove(&id(n));
    }
    let refused = case.choose().unwrap_err();
    assert!(refused.to_string().contains("db2:3306: it is the preferred candidate"), "{refused}");
}

#[test]
fn one_that_acknowledges_nothing_comes_first_and_k_acks_are_left() {
    let mut case = Case::new();
    case.semi_sync(1, &[2, 3]);
    assert_eq!(case.choose().unwrap(), (id(4), id(2)), "it costs the clients nothing");
    let mut case = Case::new();
    case.semi_sync(2, &[2, 3, 4]);
    assert_eq!(case.choose().unwrap().0, id(3), "two are left");
    let mut case = Case::new();
    case.semi_sync(3, &[2, 3, 4]);
    let refused = case.choose().unwrap_err().to_string();
    let why = "a commit waits for 3 acknowledgements, and 2 ackers would be left";
    assert!(refused.contains(&format!("db3:3306: {why}; db4:3306: {why}")), "{refused}");
}

/// What is against db3; db4 is then chosen. With the same against both, nobody is, and it is said of each.
#[test]
fn each_rule_passes_a_replica_over() {
    type Break = fn(&mut Case, u32);
    let rules: [(Break, &str); 11] = [
        (|case, n| case.channel(n).applier_running = false, "its applier does not run"),
        (|case, n| case.channel(n).applier_error = Some((1062, "dup".into())), "its applier does not run"),
        (|case, n| case.channel(n).received = set(&format!("{PRIMARY}:1-11")), "it has not applied all"),
        (|case, n| case.channel(n).receiver = Receiver::Connecting, "its receiver does not run"),
        (|case, n| case.channel(n).receiver = Receiver::Stopped, "its receiver does not run"),
        (|case, n| case.facts(n).channels.clear(), "it replicates from nobody"),
        (|case, n| drop(case.sets.facts.remove(&id(n))), "not reached"),
        (|case, n| case.member(n).source = Some(id(2)), "it is no direct replica of the primary"),
        (|case, n| case.member(n).channels = 2, "it is not in service, or has several sources"),
        (
            |case, n| case.member(n).state = MemberState::Changed { what: "server_id".into() },
            "it is not in service, or has several sources",
        ),
        (
            |case, n| {
                let pause = Pause { by: "a".into(), why: "b".into(), until_ms: u64::MAX };
                case.state.downtimes.insert(id(n), pause);
            },
            "it is in downtime",
        ),
    ];
    for (breaks, why) in rules {
        let mut case = Case::new();
        // Whatever happens to the others, db2 is preferred.
        case.facts(2).executed = set(&format!("{PRIMARY}:1-20"));
        breaks(&mut case, 3);
        assert_eq!(case.choose().unwrap(), (id(4), id(2)), "{why}");
        breaks(&mut case, 4);
        let refused = case.choose().unwrap_err().to_string();
        for address in ["db3:3306", "db4:3306"] {
            assert!(refused.contains(&format!("{address}: {why}")), "{refused}");
        }
    }
}

/// One at most: the record refuses a second call until the first was settled and the primary heard since.
#[test]
fn a_second_witness_is_refused_by_the_record() {
    let mut case = Case::new();
    let witness = |settled, answered| crate::core::replicated::Witness {
        id: 9,
        target: member(3).target(),
        channel: String::new(),
        owner: (1, 1),
        at_ms: 0,
        settled,
        answered,
    };
    for (settled, answered, allowed) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
    {
        case.cluster().witness = Some(witness(settled, answered));
        let cluster = &case.state.clusters[&ClusterId("c".into())];
        let refused = case.state.witness_allowed(cluster, 3_600_000);
        assert_eq!(refused.is_none(), allowed, "settled {settled}, answered {answered}: {refused:?}");
    }
    // Nor before its pause is over.
    let cluster = &case.state.clusters[&ClusterId("c".into())];
    assert!(case.state.witness_allowed(cluster, case.state.policy.witness_pause_ms - 1).is_some());
}

#[test]
fn where_nobody_could_be_promoted_nobody_is_asked() {
    let mut case = Case::new();
    for n in 2..=4 {
        case.facts(n).log_bin = false;
    }
    assert!(matches!(case.choose(), Err(Refusal::NoSafeCandidate { .. })));
}
