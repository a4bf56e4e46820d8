//! Texts: GTID sets and positions, a node's file, policy documents, addresses, versions, times of the command line,
//! recorded answers of servers with odd values in them.

use std::path::Path;

use clap::Parser;
use proptest::prelude::*;
use quorate::{
    cli::Cli,
    config::Config,
    model::{
        address::Address,
        facts::ServerFacts,
        gtid::GtidSet,
        near::near,
        policy::Policy,
        server::{Flavor, Version},
        words::{is_plain, tame},
    },
    session::parse_recorded,
};

use crate::{
    odd::{changed, odds},
    spoil::{Spoil, cases, odd_text, spoils},
};

const UUIDS: [&str; 2] = ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "A0B1C2D3-0000-1111-2222-333344445555"];

fn flavor() -> impl Strategy<Value = Flavor> {
    prop::sample::select(vec![Flavor::MySql, Flavor::MariaDb])
}

fn spoil_text(text: &str, spoils: &[Spoil]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A set as a server prints it, of up to `most` intervals.
fn gtids(flavor: Flavor, numbers: &[(u64, u64)]) -> String {
    let item = |(n, (a, more)): (usize, &(u64, u64))| match flavor {
        Flavor::MySql => format!("{}:{a}-{}", UUIDS[n % 2], a.saturating_add(*more)),
        Flavor::MariaDb => format!("{}-{}-{a}", n % 3, more % (1 << 33)),
    };
    numbers.iter().enumerate().map(item).collect::<Vec<_>>().join(",")
}

const FILE: &str = r#"
node_id  = 1
group    = "demo"
data_dir = "data"
profile  = "wan"

[listen]
node   = "127.0.0.1:7101"
client = "127.0.0.1:7201"
advertise_node = "db1.example:7101"

[tls]
plaintext = true

[servers]
user = "quorate"
password_file = "servers.password"
tls = "required"
tls_ca = "ca.pem"

[replication]
user = "repl"
password_env = "REPL"

[limits]
client_connections = 100
"#;

/// Recorded answers, by file name.
pub fn recorded() -> Vec<(Flavor, String, String)> {
    let folder = format!("{}/tests/answers", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    let read = |file: &std::path::PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let flavor = if name.starts_with("mysql") { Flavor::MySql } else { Flavor::MariaDb };
        (flavor, name.split('-').nth(1).unwrap().to_owned(), std::fs::read_to_string(file).unwrap())
    };
    files.iter().map(read).collect()
}

/// What is done to one line of recorded answers.
#[derive(Debug, Clone)]
enum Line {
    Value(usize, String),
    Null(usize),
    Gone(usize),
    Twice(usize),
    Name(usize, String),
}

fn line() -> impl Strategy<Value = Line> {
    let text = || odd_text().prop_map(|text| text.replace(['\n', '\r'], " "));
    prop_oneof![
        5 => (any::<usize>(), text()).prop_map(|(at, text)| Line::Value(at, text)),
        1 => any::<usize>().prop_map(Line::Null),
        1 => any::<usize>().prop_map(Line::Gone),
        1 => any::<usize>().prop_map(Line::Twice),
        1 => (any::<usize>(), text()).prop_map(|(at, text)| Line::Name(at, text)),
    ]
}

fn with_odd_lines(text: &str, odd: &[Line]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for change in odd {
        let valued: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(": ")).collect();
        let Some(at) = (!valued.is_empty()).then_some(|n: &usize| valued[n % valued.len()]) else { continue };
        let parts = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        match change {
            Line::Value(n, value) => lines[at(n)] = format!("{}: {value}", parts(&lines[at(n)]).0),
            Line::Null(n) => lines[at(n)] = format!("{}: NULL", parts(&lines[at(n)]).0),
            Line::Gone(n) => drop(lines.remove(at(n))),
            Line::Twice(n) => lines.insert(at(n), lines[at(n)].clone()),
            Line::Name(n, name) => lines[at(n)] = format!("{name}: {}", parts(&lines[at(n)]).1),
        }
    }
    lines.join("\n") + "\n"
}

/// Whatever facts say can be kept, sent to other nodes, and shown.
fn facts_are_fit(facts: &ServerFacts) {
    let bytes = rmp_serde::to_vec_named(facts).unwrap();
    assert_eq!(&rmp_serde::from_slice::<ServerFacts>(&bytes).expect("facts can be sent"), facts);
    let _ = (facts.writable(), facts.in_hand());
    let mut shown = vec![facts.identity.to_string(), facts.version.to_string()];
    shown.extend(facts.reports_as.iter().map(ToString::to_string));
    for channel in &facts.channels {
        shown.extend([channel.name.clone(), channel.source.to_string()]);
        shown.extend(
            [&channel.receiver_error, &channel.applier_error]
                .into_iter()
                .flatten()
                .map(|(_, text)| text.clone()),
        );
    }
    for replica in facts.replicas.iter().flatten() {
        shown.extend(replica.address.iter().map(ToString::to_string));
    }
    shown.extend(
        facts.dump_clients.iter().flatten().flat_map(|client| [client.user.clone(), client.host.clone()]),
    );
    for text in shown {
        assert!(text.chars().all(is_plain) && text.len() < 12_000, "{text:?}");
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn gtid_sets(flavor in flavor(), numbers in prop::collection::vec(any::<(u64, u64)>(), 0..20), spoils in spoils(), odd in odd_text()) {
        for text in [gtids(flavor, &numbers), spoil_text(&gtids(flavor, &numbers), &spoils), odd] {
            match GtidSet::parse(flavor, &text) {
                Ok(set) => {
                    let again = GtidSet::parse(flavor, &set.to_string());
                    prop_assert_eq!(again.as_ref(), Ok(&set));
                    prop_assert!(set.contains(&set) && set.subtract(&set).is_empty());
                    let _ = (GtidSet::empty(flavor).lacks(&set), set.position());
                }
                Err(error) => prop_assert!(error.to_string().chars().all(is_plain) && error.to_string().len() < 2_000),
            }
        }
    }

    #[test]
    fn a_nodes_file(spoils in spoils(), odd in odd_text(), line in any::<usize>()) {
        let file = Path::new("quorate.toml");
        let lines: Vec<&str> = FILE.lines().filter(|line| line.contains('=')).collect();
        let (key, value) = lines[line % lines.len()].split_once('=').unwrap();
        let quoted = serde_json::to_string(&odd).unwrap();
        for text in [
            spoil_text(FILE, &spoils),
            odd.clone(),
            FILE.replace(value, &format!(" {odd}")),
            FILE.replace(value, &format!(" {quoted}")),
            FILE.replace(&format!("{key}="), &format!("{odd} =")),
        ] {
            if let Err(error) = Config::parse(file, &text) {
                prop_assert!(error.to_string().contains("quorate.toml"), "{}", error);
            }
        }
    }

    #[test]
    fn policy_documents(spoils in spoils(), odds in odds()) {
        let document = serde_json::to_string(&Policy::default()).unwrap();
        let spoilt = serde_json::from_str::<Policy>(&spoil_text(&document, &spoils)).ok();
        for policy in [spoilt, changed(&Policy::default(), &odds)].into_iter().flatten() {
            match policy.check() {
                // What is accepted can be added to a time, and doubled.
                Ok(()) => prop_assert!(policy.silence_ms.checked_add(2 * policy.primary_probe_interval_ms).is_some()),
                Err(why) => prop_assert!(why.contains("policy key `"), "{}", why),
            }
        }
    }

    #[test]
    fn addresses_versions_and_names(text in odd_text(), other in odd_text()) {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
        if let Ok(address) = Address::parse_with_port(&text, 3306) {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
        if let Some(address) = Address::told(&text, 3306) {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
        let _ = text.parse::<Version>();
        near(&text, [other.clone(), text.clone()].into_iter());
        let tamed = tame(&text, 50);
        prop_assert!(tamed.chars().all(is_plain) && tamed.chars().count() <= 50 * 10 + 4);
    }

    #[test]
    fn times_of_the_command_line(number in any::<u64>(), unit in "[a-z]{0,3}", odd in odd_text()) {
        for text in [format!("{number}{unit}"), odd] {
            let _ = Cli::try_parse_from(["quorate", "--timeout", &text, "clusters"]);
            let _ = Cli::try_parse_from(["quorate", "downtime", "db1:3306", "--for", &text, "--why", "w"]);
            let _ = Cli::try_parse_from(["quorate", "policy", "set", &text]);
        }
    }

    #[test]
    fn recorded_answers_with_odd_lines(which in any::<usize>(), odd in prop::collection::vec(line(), 1..6)) {
        let all = recorded();
        let (flavor, version, text) = &all[which % all.len()];
        if let Ok(facts) = parse_recorded(*flavor, version, &with_odd_lines(text, &odd)) {
            facts_are_fit(&facts);
        }
    }
}

/// Bounded in time and memory: two sets of a million intervals, of which each second is the other's.
#[test]
fn a_million_intervals_are_compared_in_one_pass() {
    let text = |offset: u64| {
        let mut text = UUIDS[0].to_owned();
        for n in 0..1_000_000_u64 {
            text.push_str(&format!(":{}", n * 4 + offset));
        }
        text
    };
    let (odd, even) = (text(1), text(3));
    let set = |text: &str| GtidSet::parse(Flavor::MySql, text).unwrap();
    let (odd, even) = (set(&odd), set(&even));
    assert!(!odd.contains(&even) && odd.contains(&odd));
    assert_eq!(even.lacks(&odd), 1_000_000);
    let mut both = odd.clone();
    both.merge(&even);
    assert_eq!(GtidSet::empty(Flavor::MySql).lacks(&both), 2_000_000);
    assert_eq!(both.subtract(&even), odd);
    let positions =
        (0..1_000_000_u32).map(|n| format!("{n}-{n}-{}", u64::MAX - u64::from(n))).collect::<Vec<_>>();
    let positions = GtidSet::parse(Flavor::MariaDb, &positions.join(",")).unwrap();
    assert_eq!(positions.position(), positions);
}
