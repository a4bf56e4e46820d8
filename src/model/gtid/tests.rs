//! Laws of both dialects' sets, against a naive model: a plain set of transactions, read from text by a second and
//! simpler reader.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::{GtidSet, MariaDbGtids, MySqlGtids};
use crate::model::server::Flavor;

/// Every transaction by its own: (source with tag, number).
type Model = BTreeSet<(String, u64)>;
/// The furthest number of each (domain, server).
type Positions = BTreeMap<(u32, u32), u64>;

const SOURCES: [&str; 3] = [
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    "3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly",
    "a0b1c2d3-0000-1111-2222-333344445555",
];

/// The same cases on every run.
fn fixed(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Config::default() }
}

/// Intervals as a server, or a person, might write them: unsorted, overlapping, adjacent, with spaces and capitals.
fn mysql_text() -> impl Strategy<Value = String> {
    let interval = (1..40_u64, 0..8_u64).prop_map(|(a, more)| match more {
        0 => a.to_string(),
        _ => format!("{a}-{}", a + more),
    });
    let item = (0..3_usize, prop::collection::vec(interval, 1..5), any::<bool>()).prop_map(
        |(source, intervals, capitals)| {
            let text = format!("{}:{}", SOURCES[source], intervals.join(":"));
            if capitals { text.to_uppercase() } else { text }
        },
    );
    prop::collection::vec(item, 0..5).prop_map(|items| items.join(" ,\n"))
}

/// The model of a text, read without any of the code under test.
fn model(text: &str) -> Model {
    let mut all = Model::new();
    for item in text.to_lowercase().split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let mut parts = item.split(':').map(str::trim);
        let uuid = parts.next().unwrap().to_owned();
        let mut source = uuid.clone();
        for part in parts {
            let numbers: Result<Vec<u64>, _> = part.split('-').map(str::parse).collect();
            match numbers.as_deref() {
                Ok([one]) => drop(all.insert((source.clone(), *one))),
                Ok([a, b]) => all.extend((*a..=*b).map(|n| (source.clone(), n))),
                _ => source = format!("{uuid}:{part}"),
            }
        }
    }
    all
}

fn mysql(text: &str) -> MySqlGtids {
    text.parse().unwrap()
}

fn mariadb_text() -> impl Strategy<Value = String> {
    let item = (0..3_u32, 1..4_u32, 1..30_u64).prop_map(|(d, s, n)| format!("{d}-{s}-{n}"));
    prop::collection::vec(item, 0..8).prop_map(|items| items.join(", "))
}

fn positions(text: &str) -> Positions {
    let mut all = Positions::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let n: Vec<u64> = item.split('-').map(|part| part.parse().unwrap()).collect();
        let last = all.entry((n[0] as u32, n[1] as u32)).or_default();
        *last = (*last).max(n[2]);
    }
    all
}

fn mariadb(text: &str) -> MariaDbGtids {
    text.parse().unwrap()
}

proptest! {
    #![proptest_config(fixed(512))]

    #[test]
    fn a_mysql_set_prints_what_it_holds_and_reads_what_it_prints(text in mysql_text()) {
        let set = mysql(&text);
        prop_assert_eq!(model(&set.to_string()), model(&text));
        prop_assert_eq!(mysql(&set.to_string()), set.clone());
        prop_assert_eq!(set.count(), model(&text).len() as u64);
        prop_assert_eq!(set.is_empty(), model(&text).is_empty());
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(serde_json::from_str::<MySqlGtids>(&json).unwrap(), set);
    }

    #[test]
    fn equal_mysql_sets_have_one_form(a in mysql_text(), b in mysql_text()) {
        prop_assert_eq!(mysql(&a) == mysql(&b), model(&a) == model(&b));
        prop_assert_eq!(mysql(&format!("{a},{b}")), mysql(&format!("{b},{a}")));
    }

    #[test]
    fn mysql_sets_obey_set_algebra(a in mysql_text(), b in mysql_text()) {
        let (x, y, m, n) = (mysql(&a), mysql(&b), model(&a), model(&b));
        let rest = x.subtract(&y);
        prop_assert_eq!(model(&rest.to_string()), m.difference(&n).cloned().collect::<Model>());
        let mut both = x.clone();
        both.merge(&y);
        prop_assert_eq!(model(&both.to_string()), m.union(&n).cloned().collect::<Model>());
        prop_assert_eq!(x.contains(&y), n.is_subset(&m));
        prop_assert!(both.contains(&x) && both.contains(&y));
        // What is left and what was taken away make the whole again.
        let mut again = rest;
        again.merge(&y);
        prop_assert_eq!(again, both);
        prop_assert!(x.subtract(&x).is_empty());
        let (x, y) = (GtidSet::MySql(x), GtidSet::MySql(y));
        prop_assert_eq!(x.lacks(&y), n.difference(&m).count() as u64);
        prop_assert_eq!(model(&x.meet(&y).to_string()), m.intersection(&n).cloned().collect::<Model>());
    }

    #[test]
    fn the_part_of_one_source_takes_all_its_tags(text in mysql_text()) {
        let uuid = SOURCES[0].to_uppercase();
        let own: Model = model(&text).into_iter().filter(|(s, _)| s.starts_with(SOURCES[0])).collect();
        prop_assert_eq!(model(&mysql(&text).of_source(&uuid).to_string()), own);
    }

    #[test]
    fn a_mariadb_set_prints_what_it_holds_and_reads_what_it_prints(text in mariadb_text()) {
        let set = mariadb(&text);
        prop_assert_eq!(positions(&set.to_string()), positions(&text));
        prop_assert_eq!(mariadb(&set.to_string()), set.clone());
        prop_assert_eq!(set.is_empty(), positions(&text).is_empty());
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(serde_json::from_str::<MariaDbGtids>(&json).unwrap(), set);
    }

    #[test]
    fn mariadb_sets_are_judged_pair_by_pair(a in mariadb_text(), b in mariadb_text()) {
        let (x, y, m, n) = (mariadb(&a), mariadb(&b), positions(&a), positions(&b));
        let reaches = |m: &Positions, pair, last: &u64| m.get(pair).is_some_and(|mine| mine >= last);
        prop_assert_eq!(x.contains(&y), n.iter().all(|(pair, last)| reaches(&m, pair, last)));
        let further: Positions =
            m.iter().filter(|(pair, last)| !reaches(&n, pair, last)).map(|(p, l)| (*p, *l)).collect();
        let rest = x.subtract(&y);
        prop_assert_eq!(positions(&rest.to_string()), further);
        prop_assert_eq!(rest.is_empty(), y.contains(&x));
        let mut both = x.clone();
        both.merge(&y);
        prop_assert!(both.contains(&x) && both.contains(&y));
        let mut again = rest;
        again.merge(&y);
        prop_assert_eq!(again, both);
        let behind = n.iter().map(|(pair, last)| last.saturating_sub(m.get(pair).copied().unwrap_or(0)));
        prop_assert_eq!(x.lacks(&y), behind.sum::<u64>());
        let shared: Positions =
            m.iter().filter_map(|(pair, last)| Some((*pair, *last.min(n.get(pair)?)))).collect();
        prop_assert_eq!(positions(&x.meet(&y).to_string()), shared);
    }

    #[test]
    fn a_mariadb_position_names_the_furthest_of_each_domain(text in mariadb_text()) {
        let set = mariadb(&text);
        let position = set.position();
        let (all, chosen) = (positions(&text), positions(&position.to_string()));
        let domains: BTreeSet<u32> = all.keys().map(|(domain, _)| *domain).collect();
        prop_assert_eq!(chosen.len(), domains.len());
        for ((domain, _), last) in &chosen {
            let furthest = all.iter().filter(|((d, _), _)| d == domain).map(|(_, l)| l).max();
            prop_assert_eq!(Some(last), furthest);
        }
        prop_assert!(set.contains(&position));
    }

    #[test]
    fn no_text_panics(text in "[-0-9a-f:, _T\n]{0,60}") {
        for flavor in [Flavor::MySql, Flavor::MariaDb] {
            if let Ok(set) = GtidSet::parse(flavor, &text) {
                prop_assert_eq!(GtidSet::parse(flavor, &set.to_string()).unwrap(), set);
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow(a in 1..9_u64, b in 1..9_u64, c in 1..9_u64, d in 1..9_u64) {
        let most = i64::MAX as u64;
        let set = |x: u64, y: u64| mysql(&format!("{}:{}-{}", SOURCES[0], x.min(y), most - x.max(y)));
        let (x, y) = (set(a, b), set(c, d));
        let mut both = x.clone();
        both.merge(&y);
        prop_assert!(both.contains(&x));
        prop_assert_eq!(both.count(), x.count() + y.subtract(&x).count());
        let pair = |last: u64| mariadb(&format!("0-1-{last}"));
        prop_assert!(pair(u64::MAX).contains(&pair(u64::MAX - a)));
    }
}

#[test]
fn sets_of_different_dialects_are_never_mixed() {
    let mysql = GtidSet::parse(Flavor::MySql, &format!("{}:1-3", SOURCES[0])).unwrap();
    let mariadb = GtidSet::parse(Flavor::MariaDb, "0-1-3").unwrap();
    assert!(!mysql.contains(&mariadb) && !mariadb.contains(&mysql));
    assert!(mysql.contains(&GtidSet::empty(Flavor::MariaDb)));
    assert_eq!(mysql.subtract(&mariadb), mysql);
    let mut merged = mysql.clone();
    merged.merge(&mariadb);
    assert_eq!(merged, mysql);
}

#[test]
fn a_bad_text_says_what_is_wrong() {
    let uuid = SOURCES[2];
    for (flavor, text, why) in [
        (Flavor::MySql, "x:1", "server uuid"),
        (Flavor::MySql, uuid, "no transaction numbers"),
        (Flavor::MySql, &format!("{uuid}:0"), "from 1"),
        (Flavor::MySql, &format!("{uuid}:3-2"), "from 1"),
        (Flavor::MySql, &format!("{uuid}:9223372036854775807"), "below 2^63-1"),
        (Flavor::MySql, &format!("{uuid}:1-2-3"), "not a transaction number"),
        (Flavor::MariaDb, "0-1", "not three numbers"),
        (Flavor::MariaDb, "0-1-x", "not a number"),
        (Flavor::MariaDb, "4294967296-1-1", "too large"),
    ] {
        let error = GtidSet::parse(flavor, text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(error.contains(&flavor.to_string()), "{error}");
    }
}

#[test]
fn tags_and_sources_are_kept_apart() {
    let set = mysql(&format!("{}:1-3:nightly:1-2, {}:7", SOURCES[0], SOURCES[2]));
    assert_eq!(set.to_string(), format!("{}:1-3,{}:1-2,{}:7", SOURCES[0], SOURCES[1], SOURCES[2]));
    assert_eq!(set.count(), 6);
}
