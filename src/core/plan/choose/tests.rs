//! Every rule of the choice of a new primary: who is passed over and why, who comes first, what is refused.

use super::*;
use crate::{
    core::{
        replicated::{recovery::PassedOver, state::Rule},
        samples::{self, id, set},
    },
    model::{address::Address, facts::Receiver, policy::PromotionRule, server::Flavor},
};

const PRIMARY: &str = "00000000-0000-0000-0000-000000000001";
const THIRD: &str = "00000000-0000-0000-0000-000000000003";

/// `db1` is dead; `db2`, `db3` and `db4` received and applied 1-10, their receivers stand.
struct Case {
    state: State,
    recovery: Recovery,
    sets: Sets,
}

fn maria(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, text).unwrap()
}

impl Case {
    fn new() -> Self {
        Self::of(Kind::Failover)
    }

    fn of(kind: Kind) -> Self {
        let mut state = State::default();
        let cluster = samples::cluster(Flavor::MySql, 4);
        state.clusters.insert(cluster.id.clone(), cluster);
        let all = set(&format!("{PRIMARY}:1-10"));
        let channel = Channel {
            receiver: Receiver::Stopped,
            received: all.clone(),
            ..samples::channel(Flavor::MySql, 1)
        };
        let facts = |n| ServerFacts {
            executed: all.clone(),
            channels: vec![channel.clone()],
            ..samples::facts(Flavor::MySql, n)
        };
        let sets = Sets {
            facts: (2..=4).map(|n| (id(n), facts(n))).collect(),
            old_primary: Some(all.clone()),
            marks: samples::caught_up(2..=4),
        };
        Self { state, recovery: Recovery { kind, ..samples::recovery(Flavor::MySql) }, sets }
    }

    /// MariaDB; each server has executed so much, and received up to that place.
    fn mariadb(sets: [(u32, &str, &str); 3]) -> Self {
        let mut case = Self::new();
        let cluster = samples::cluster(Flavor::MariaDb, 4);
        case.state.clusters.insert(cluster.id.clone(), cluster);
        case.recovery = samples::recovery(Flavor::MariaDb);
        for (n, executed, received) in sets {
            let channel = Channel { received: maria(received), ..samples::channel(Flavor::MariaDb, 1) };
            let facts = ServerFacts {
                executed: maria(executed),
                channels: vec![channel],
                ..samples::facts(Flavor::MariaDb, n)
            };
            case.sets.facts.insert(id(n), facts);
        }
        case
    }

    fn member(&mut self, n: u32) -> &mut Member {
        self.state.clusters.values_mut().next().unwrap().members.get_mut(&id(n)).unwrap()
    }

    fn facts(&mut self, n: u32) -> &mut ServerFacts {
        self.sets.facts.get_mut(&id(n)).unwrap()
    }

    fn channel(&mut self, n: u32) -> &mut Channel {
        &mut self.facts(n).channels[0]
    }

    /// Server `n` has received and applied 1-`to`.
    fn holds(&mut self, n: u32, to: u32) {
        let held = set(&format!("{PRIMARY}:1-{to}"));
        self.channel(n).received = held.clone();
        self.facts(n).executed = held;
    }

    /// Server `n` was seen to hold 1-`to`.
    fn held(&mut self, n: u32, to: u32) {
        self.sets.marks.get_mut(&id(n)).unwrap().held = set(&format!("{PRIMARY}:1-{to}"));
    }

    fn rule(&mut self, n: u32, rule: PromotionRule) {
        self.state.rules.insert(id(n), Rule { rule, by: "t".into(), until_ms: None });
    }

    fn semi_sync(&mut self, acks: u32, ackers: &[u32]) {
        self.recovery.semi_sync = Some((acks, ackers.iter().map(|n| id(*n)).collect()));
    }

    fn decide(&self) -> Result<Decision, Refusal> {
        decide(&self.state, &self.recovery, &self.sets)
    }

    fn chosen(&self) -> ServerId {
        self.decide().unwrap().candidate.server
    }

    fn why(&self, n: u32) -> String {
        let considered = match self.decide() {
            Ok(decision) => decision.considered,
            Err(Refusal::NoSafeCandidate { considered }) => considered,
            Err(other) => panic!("{other}"),
        };
        considered.into_iter().find(|c| c.server == id(n)).expect("each member has its sentence").why
    }
}

/// What is against db2, and the words that say so; db3 is then chosen, and with the same against all, nobody.
#[test]
fn each_hard_rule_passes_a_server_over_and_says_why() {
    type Breaks = fn(&mut Case, u32);
    let rules: [(&str, Breaks); 14] = [
        ("its identity changed (server_uuid)", |case, n| {
            case.member(n).state = MemberState::Changed { what: "server_uuid".into() };
        }),
        ("quarantined: holds x:1", |case, n| {
            case.member(n).state = MemberState::Quarantined { errant: "x:1".into(), why: "returned".into() };
        }),
        ("a replaced primary that has not returned", |case, n| {
            case.member(n).state = MemberState::Replaced;
        }),
        ("its promotion rule is must_not", |case, n| case.rule(n, PromotionRule::MustNot)),
        ("its receiver was not seen stopped: what it holds is unknown", |case, n| {
            drop(case.sets.facts.remove(&id(n)))
        }),
        ("it has 1 sources; multi-source servers are never promoted", |case, n| case.member(n).channels = 2),
        ("it replicates from nobody", |case, n| case.facts(n).channels.clear()),
        ("it is no direct replica of the old primary", |case, n| case.member(n).source = Some(id(9))),
        ("it does not replicate by GTID", |case, n| case.channel(n).by_gtid = false),
        ("it does not log what it applies", |case, n| case.facts(n).log_replica_updates = false),
        ("it has replication filters", |case, n| case.channel(n).filtered = true),
        ("its applier is broken: error 1062, duplicate", |case, n| {
            case.channel(n).applier_error = Some((1062, "duplicate".into()));
        }),
        ("it is delayed by 3600 s on purpose", |case, n| case.channel(n).delay_s = 3600),
        ("before and does not now", |case, n| {
            case.held(n, 11);
        }),
    ];
    for (words, breaks) in rules {
        let mut case = Case::new();
        breaks(&mut case, 2);
        assert_eq!(case.chosen(), id(3), "{words}");
        assert!(case.why(2).contains(words), "{words}: {}", case.why(2));
        breaks(&mut case, 3);
        breaks(&mut case, 4);
        let refused = case.decide().unwrap_err();
        assert!(matches!(refused, Refusal::NoSafeCandidate { .. }), "{words}: {refused}");
        assert!((2..=4).all(|n| case.why(n).contains(words)), "{words}: {refused}");
    }
}

#[test]
fn the_old_primary_is_never_its_own_successor() {
    let mut case = Case::new();
    let itself = samples::facts(Flavor::MySql, 1);
    case.sets.facts.insert(id(1), itself);
    let decision = case.decide().unwrap();
    assert!(decision.considered.iter().all(|c| c.server != id(1)));
}

/// Each later line is only a tie-break of the one before.
#[test]
fn completeness_comes_first_then_version_then_rule_then_datacenter_then_what_is_left_to_apply() {
    let mut case = Case::new();
    assert_eq!(case.chosen(), id(2), "the address is the last tie-break");
    case.facts(2).executed = set(&format!("{PRIMARY}:1-7"));
    assert_eq!(case.chosen(), id(3), "less to apply");
    case.state.policy.datacenters = [("db1", "dc1"), ("db3", "dc2"), ("db4", "dc2"), ("db2", "dc1")]
        .map(|(host, at)| (host.to_owned(), at.to_owned()))
        .into();
    assert_eq!(case.chosen(), id(2), "the old primary's datacenter");
    case.rule(4, PromotionRule::Prefer);
    assert_eq!(case.chosen(), id(4), "a promotion rule");
    assert_eq!(case.why(2), "its promotion rule is neutral, the chosen one's prefer");
    for n in [2, 3] {
        case.facts(n).version = "9.6.0".parse().unwrap();
    }
    case.facts(4).version = "9.7.1".parse().unwrap();
    assert_eq!(case.chosen(), id(2), "one that the others can follow");
    assert_eq!(
        case.why(4),
        "its version 9.7.1 is newer than that of db2:3306 (9.6.0), which may not be able to follow it"
    );
    case.holds(2, 9);
    case.holds(3, 9);
    assert_eq!(case.chosen(), id(4), "whoever received most");
    assert_eq!(case.why(2), format!("it lacks {PRIMARY}:10"));
    assert!(case.why(4).contains("everything that was received"), "{}", case.why(4));
    assert!(case.why(4).contains("newer than that of db2:3306 (9.6.0)"), "{}", case.why(4));
}

#[test]
fn patch_releases_of_one_series_follow_each_other() {
    let mut case = Case::new();
    case.rule(2, PromotionRule::Prefer);
    case.facts(2).version = "8.4.9".parse().unwrap();
    case.facts(3).version = "8.4.1".parse().unwrap();
    case.facts(4).version = "8.4.1".parse().unwrap();
    assert_eq!(case.chosen(), id(2));
}

#[test]
fn the_rules_stand_in_their_order() {
    use PromotionRule::{Must, Neutral, Prefer, PreferNot};
    for (better, worse) in [(Must, Prefer), (Prefer, Neutral), (Neutral, PreferNot)] {
        let mut case = Case::new();
        case.rule(2, worse);
        case.rule(3, worse);
        case.rule(4, better);
        assert_eq!(case.chosen(), id(4), "{better} before {worse}");
    }
}

#[test]
fn another_datacenter_is_passed_over_only_where_policy_says_so() {
    let mut case = Case::new();
    case.state.policy.datacenters = [("db1", "dc1"), ("db2", "dc2"), ("db3", "dc2"), ("db4", "dc2")]
        .map(|(host, at)| (host.to_owned(), at.to_owned()))
        .into();
    assert_eq!(case.chosen(), id(2));
    case.state.policy.allow_other_datacenter = false;
    assert_eq!(case.why(2), "policy forbids a primary in another datacenter");
    assert!(case.decide().is_err());
}

#[test]
fn errant_transactions_pass_a_server_over_and_are_not_called_lost() {
    let mut case = Case::new();
    case.rule(3, PromotionRule::Prefer);
    case.facts(3).executed = set(&format!("{PRIMARY}:1-10,{THIRD}:1-2"));
    let decision = case.decide().unwrap();
    assert_eq!(decision.candidate.server, id(2));
    assert_eq!(case.why(3), format!("it holds errant transactions: {THIRD}:1-2"));
    assert!(decision.lost.is_empty(), "{}", decision.lost);
}

/// What db3 wrote while it was primary before, and the others have, is no error of its.
#[test]
fn what_others_hold_as_well_is_not_errant() {
    let mut case = Case::new();
    case.rule(3, PromotionRule::Prefer);
    for n in 2..=4 {
        case.facts(n).executed = set(&format!("{PRIMARY}:1-10,{THIRD}:1-2"));
    }
    assert_eq!(case.chosen(), id(3));
}

#[test]
fn what_the_old_primary_had_and_nobody_received_is_named_as_lost() {
    let mut case = Case::new();
    case.sets.old_primary = Some(set(&format!("{PRIMARY}:1-12")));
    let decision = case.decide().unwrap();
    assert_eq!(decision.lost, set(&format!("{PRIMARY}:11-12")));
    assert_eq!(decision.must_hold, set(&format!("{PRIMARY}:1-10")));
    case.state.policy.allow_known_loss = false;
    assert_eq!(case.decide().unwrap_err().reason(), "POSSIBLE_DATA_LOSS");
    case.recovery.waived = vec![Waiver::Loss];
    assert_eq!(case.chosen(), id(2), "a person accepted it by name");
}

/// An incomplete server that alone may be promoted: the rest of what was received is lost, and named.
#[test]
fn what_only_a_passed_over_server_holds_is_lost_too() {
    let mut case = Case::new();
    case.holds(3, 12);
    case.rule(3, PromotionRule::MustNot);
    let decision = case.decide().unwrap();
    assert_eq!((decision.candidate.server, decision.lost), (id(2), set(&format!("{PRIMARY}:11-12"))));
}

#[test]
fn a_switchover_waits_for_all_that_the_fenced_primary_holds() {
    let mut case = Case::of(Kind::Switchover);
    case.sets.old_primary = Some(set(&format!("{PRIMARY}:1-12")));
    let decision = case.decide().unwrap();
    assert_eq!(decision.must_hold, set(&format!("{PRIMARY}:1-12")));
    assert!(decision.lost.is_empty());
    assert!(decision.siblings.iter().any(|s| s.target.server == id(1)), "the old primary becomes a replica");
}

#[test]
fn a_wish_is_granted_or_refused_by_name() {
    let mut case = Case::of(Kind::Forced);
    case.recovery.to = Some(id(4));
    assert_eq!(case.chosen(), id(4));
    case.holds(3, 11);
    assert!(case.decide().is_err(), "never silently replaced");
    assert_eq!(case.why(4), "it was asked for, but another server holds transactions that it lacks");
}

#[test]
fn one_that_was_passed_over_is_not_chosen_again() {
    let mut case = Case::new();
    let why = "it did not apply in time".to_owned();
    case.recovery.passed_over = vec![PassedOver { server: id(2), why }];
    assert_eq!(case.chosen(), id(3));
    assert_eq!(case.why(2), "it was chosen and passed over: it did not apply in time");
}

/// A commit waited for k of n ackers: with k of them out of reach a write may be on those alone.
#[test]
fn semi_sync_demands_all_ackers_but_k_minus_one() {
    for (acks, unreached, safe) in [(1, 0, true), (1, 1, false), (2, 1, true), (2, 2, false)] {
        let mut case = Case::new();
        case.semi_sync(acks, &[2, 3, 4]);
        case.state.policy.on_too_few_ackers = TooFewAckers::PromoteUnprotected;
        for n in 0..unreached {
            case.sets.facts.remove(&id(4 - n));
        }
        let decided = case.decide();
        assert_eq!(decided.is_ok(), safe, "k = {acks}, {unreached} unreached: {decided:?}");
        if let Err(refusal) = decided {
            assert_eq!(refusal.reason(), "POSSIBLE_DATA_LOSS");
            case.recovery.waived = vec![Waiver::Loss];
            assert_eq!(case.chosen(), id(2));
        }
    }
}

#[test]
fn an_acker_whose_set_shrank_counts_as_unreached() {
    let mut case = Case::new();
    case.semi_sync(1, &[2, 3]);
    case.held(3, 11);
    assert_eq!(case.decide().unwrap_err().reason(), "POSSIBLE_DATA_LOSS");
}

/// Found by the simulation (seed 2106587): another server had answered at its address; it stood there again and acknowledged
/// what the others had not received, and the record still called it changed.
#[test]
fn what_an_acker_holds_alone_is_not_lost_where_the_record_does_not_count_it() {
    let mut case = Case::new();
    case.semi_sync(1, &[2, 3, 4]);
    case.member(3).state = MemberState::Changed { what: "bound to a, now b".into() };
    assert!(case.decide().is_ok(), "it holds nothing that the others do not");
    case.holds(3, 12);
    let refusal = case.decide().unwrap_err().to_string();
    assert!(refusal.contains("db3:3306: it alone holds"), "{refusal}");
    case.recovery.waived = vec![Waiver::Loss];
    assert!(case.decide().is_ok(), "a person accepts that");
}

#[test]
fn an_acker_that_was_started_anew_counts_as_unreached_until_it_was_seen_caught_up() {
    let mut case = Case::new();
    case.semi_sync(1, &[2, 3]);
    case.facts(3).started_at_s = Some(5_000);
    let refusal = case.decide().unwrap_err();
    assert_eq!(refusal.reason(), "POSSIBLE_DATA_LOSS");
    assert!(refusal.to_string().contains("db3:3306: no node saw it hold all"), "{refusal}");
    case.recovery.semi_sync = None;
    assert_eq!(case.chosen(), id(2), "without semi-sync nothing was promised");
    case.semi_sync(1, &[2, 3]);
    case.sets.marks.get_mut(&id(3)).unwrap().caught_up.insert(5_000);
    assert_eq!(case.chosen(), id(2));
}

#[test]
fn under_semi_sync_only_a_complete_server_is_promoted() {
    let mut case = Case::new();
    case.semi_sync(1, &[2, 3, 4]);
    case.holds(3, 12);
    case.rule(3, PromotionRule::MustNot);
    let refusal = case.decide().unwrap_err();
    assert!(refusal.to_string().contains(&format!("db2:3306 lacks {PRIMARY}:11-12")), "{refusal}");
}

#[test]
fn with_too_few_ackers_left_policy_says_whether_it_goes_on_without() {
    let mut case = Case::new();
    case.semi_sync(2, &[2, 3]);
    case.state.policy.on_too_few_ackers = TooFewAckers::Refuse;
    assert_eq!(case.decide().unwrap_err().reason(), "TOO_FEW_ACKERS");
    case.state.policy.on_too_few_ackers = TooFewAckers::PromoteUnprotected;
    let decision = case.decide().unwrap();
    assert_eq!((decision.semi_sync_acks, decision.ackers.len()), (None, 0));
    assert!(decision.unprotected.unwrap().contains("1 ackers are left for db2:3306"));
}

#[test]
fn the_others_are_re_pointed_but_for_those_out_of_service() {
    let mut case = Case::new();
    case.member(4).state = MemberState::Quarantined { errant: "x:1".into(), why: "returned".into() };
    let decision = case.decide().unwrap();
    let siblings: Vec<&ServerId> = decision.siblings.iter().map(|s| &s.target.server).collect();
    assert_eq!(siblings, [&id(3)]);
}

/// Under writes no replica holds everything at any moment; a switchover waits for equality all the same.
#[test]
fn a_switchover_goes_by_the_rules_unless_the_preferred_lags() {
    let mut case = Case::of(Kind::Switchover);
    case.rule(4, PromotionRule::Prefer);
    case.holds(4, 8);
    assert_eq!(case.chosen(), id(4));
    assert_eq!(case.why(2), "its promotion rule is neutral, the chosen one's prefer");
    case.channel(4).lag_s = Some(60);
    assert_eq!(case.chosen(), id(2));
    assert_eq!(case.why(4), "it lags by 60 s");
    case.recovery.to = Some(id(4));
    assert_eq!(case.chosen(), id(4), "a wish is a wish");
}

/// MariaDB's sets name the last transaction of each server only: how far one is behind counts, not in how many places.
#[test]
fn of_two_incomplete_mariadb_servers_the_one_that_lacks_less_is_chosen() {
    let held = [(2, "0-1-100"), (3, "0-1-499"), (4, "0-1-500")];
    let mut case = Case::mariadb(held.map(|(n, held)| (n, held, held)));
    case.sets.old_primary = None;
    case.rule(2, PromotionRule::Prefer);
    case.rule(4, PromotionRule::MustNot);
    assert_eq!(case.chosen(), id(3), "whatever the rules say");
    assert_eq!(case.decide().unwrap().lost.to_string(), "0-1-500");
}

/// Found by the simulation (seed 4001501): of what a MariaDB replica received only the place is known; one that stood behind a
/// switchover, and had not applied up to it, seemed to lack what the primary before had written, and the other was promoted without
/// the last row.
#[test]
fn what_a_mariadb_replica_has_passed_it_does_not_lack() {
    let mut case =
        Case::mariadb([(2, "0-2-114", "0-2-114"), (3, "0-2-113", "0-1-121"), (4, "0-2-113", "0-2-113")]);
    case.sets.old_primary = Some(maria("0-1-121,0-2-114"));
    let decision = case.decide().unwrap();
    assert_eq!(decision.candidate.server, id(3));
    assert!(decision.lost.is_empty(), "{}", decision.lost);
    assert_eq!(decision.must_hold.to_string(), "0-1-121,0-2-113", "what its own facts can show");
    // Seed 9204433: it was seen at that place, and was called shrunk, as an acker too.
    case.sets.marks.get_mut(&id(3)).unwrap().held = maria("0-2-114");
    case.semi_sync(1, &[3]);
    assert_eq!(case.chosen(), id(3));
    case.recovery.semi_sync = None;
    case.sets.marks = samples::caught_up(2..=4);
    // Its own, which it lost: no source sends it that.
    let mut own = case.sets.clone();
    own.old_primary = Some(maria("0-1-121,0-2-114,0-3-100"));
    let decision = decide(&case.state, &case.recovery, &own).unwrap();
    assert_eq!(decision.lost.to_string(), "0-3-100");
    let channel = case.channel(3);
    (channel.source, channel.source_server_id) = (Address::new("db9", 3306), Some(9));
    let lost = case.decide().unwrap().lost;
    assert_eq!(lost.to_string(), "0-2-114", "of another source's history nothing is known");
}

/// One that follows the old primary from a history of its own (its receiver stopped with 1236) received nothing of what the old
/// primary wrote, though its own place has a higher number; nor did one that stands where it has applied everything.
#[test]
fn a_mariadb_place_that_the_old_primary_never_had_passes_nothing() {
    let mut case =
        Case::mariadb([(2, "0-2-114", "0-2-118"), (3, "0-2-114", "0-1-117"), (4, "0-2-100", "0-2-100")]);
    case.sets.old_primary = Some(maria("0-1-117,0-2-114"));
    let decision = case.decide().unwrap();
    assert_eq!(decision.candidate.server, id(3), "it alone has 0-1-117");
    // A server that logs what it applies, and has applied all that it received, names what it has; one that does not log it names
    // the newest only, and counts as an acker.
    case.sets.old_primary = Some(maria("0-1-50,0-2-100"));
    case.sets.marks.get_mut(&id(4)).unwrap().held = maria("0-1-50,0-2-90");
    assert_eq!(case.why(4), "it held 0-1-50 before and does not now");
    case.semi_sync(1, &[4]);
    assert!(matches!(case.decide(), Err(Refusal::PossibleDataLoss { .. })));
    case.facts(4).log_replica_updates = false;
    assert_eq!(case.chosen(), id(3));
}
