//! Scenario tables: facts in, problems out, as text. One file per code, `tests/scenarios/analysis/CODE.txt`, each with
//! scenarios that name the code and scenarios that come close and do not. `UPDATE=1 cargo test --test analysis_cases`
//! writes the outcomes anew; the difference is then reviewed.
//!
//! ```text
//! ## a sentence that says what happened
//! cluster: urgent=50 recovery policy.silence_ms=2000
//! primary: answered=400 refused=100
//! r1: answered=80 stopped error=2003
//! => DeadPrimary, class primary, critical, replace_primary, hard
//!    the problem's sentence
//! => says failure DeadPrimary
//! => suspected
//! ```
//! Times are milliseconds ago. Words of a server: `answered never watched waiting pause` and how the last attempt
//! ended: `refused shutting_down too_many silent greeted closed login_failed wrong failed`; of a primary: `connections
//! read_only super_read_only offline`; of any: `executed received`, by who wrote it (`r1:1-5` is `r1`'s, several
//! joined by `+`); of a replica: `running connecting stopped error heard noticed lost heartbeat
//! heartbeat_age applier_stopped lag delay from elsewhere`; of a member: `downtime quarantined replaced unseen`.

use std::fs;

use quorate::{
    core::{
        analysis::{Code, Finding, observation::AttemptEnd},
        replicated::cluster::MemberState,
    },
    model::{
        address::Address,
        facts::Receiver,
        gtid::GtidSet,
        server::{Flavor, ServerId},
    },
};

use crate::fleet::{Fleet, ago, uuid_of};

#[test]
fn each_table_gives_what_it_says() {
    for code in Code::ALL {
        check(code);
    }
}

/// Judges every scenario of a code's table and compares the outcome with what stands there.
fn check(code: Code) {
    let path = format!("{}/tests/scenarios/analysis/{code}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{code} has no table at {path}: {e}"));
    let (head, scenarios) = split(&text);
    let judged: Vec<(String, Vec<Code>)> = scenarios.iter().map(|s| judge(s)).collect();
    let fresh = format!("{head}{}", judged.iter().map(|(text, _)| text.as_str()).collect::<String>());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &fresh).expect("the table can be written");
    } else {
        assert_eq!(text, fresh, "{path} (UPDATE=1 writes it anew)");
    }
    let named = judged.iter().filter(|(_, codes)| codes.contains(&code)).count();
    assert!(named > 0, "no scenario of {code} names it");
    assert!(named < judged.len(), "no scenario of {code} comes close and does not name it");
}

/// The text before the first scenario, and the scenarios, each with its title line.
fn split(text: &str) -> (String, Vec<String>) {
    let mut head = String::new();
    let mut scenarios: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("## ") {
            scenarios.push(String::new());
        }
        let part = scenarios.last_mut().unwrap_or(&mut head);
        part.push_str(line);
        part.push('\n');
    }
    (head, scenarios)
}

/// The scenario with its outcome as judged, and the codes named.
fn judge(scenario: &str) -> (String, Vec<Code>) {
    let input: Vec<&str> =
        scenario.lines().filter(|l| !l.starts_with("=>") && !l.starts_with("   ") && !l.is_empty()).collect();
    let fleet = build(&input[1..]);
    let problems = fleet.problems();
    let mut out: String = input.iter().map(|line| format!("{line}\n")).collect();
    for p in &problems {
        let word = |value: &dyn erased::Named| value.named();
        let hard = p.evidence.as_ref().is_some_and(|e| e.hard);
        let marks = [(hard, ", hard"), (p.needs_witness, ", needs a witness")];
        let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        out += &format!(
            "=> {}, class {}, {}, {}{marks}\n   {}\n",
            p.code,
            word(&p.class),
            word(&p.severity),
            word(&p.repair),
            p.text
        );
    }
    out += &format!("=> says {}\n", finding(&fleet.finding()));
    if fleet.suspected() {
        out += "=> suspected\n";
    }
    (out + "\n", problems.iter().map(|p| p.code).collect())
}

mod erased {
    //! The stable names that values have in JSON.

    pub trait Named {
        fn named(&self) -> String;
    }

    impl<T: serde::Serialize> Named for T {
        fn named(&self) -> String {
            let value = serde_json::to_value(self).expect("a plain value");
            value.as_str().expect("a name").to_owned()
        }
    }
}

fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Healthy => "healthy".into(),
        Finding::Blind { why } => format!("blind: {why}"),
        Finding::Failure { code, evidence, .. } => {
            let urgent = if evidence.urgent_round_done { ", urgent round done" } else { "" };
            format!("failure {code}{urgent}")
        }
    }
}

fn build(lines: &[&str]) -> Fleet {
    let mut fleet = Fleet::new("primary");
    fleet.add("primary", Address::new("db1", 3306), None);
    for line in lines {
        let (name, words) = line.split_once(':').unwrap_or_else(|| panic!("no `:` in `{line}`"));
        let words: Vec<(&str, &str)> =
            words.split_whitespace().map(|w| w.split_once('=').unwrap_or((w, ""))).collect();
        match name {
            "cluster" => words.iter().for_each(|(word, value)| of_cluster(&mut fleet, word, value)),
            _ => {
                if name != "primary" {
                    let source = words.iter().find(|(word, _)| *word == "from").map_or("primary", |(_, v)| v);
                    let number = fleet.cluster.members.len() + 1;
                    fleet.add(name, Address::new(format!("db{number}"), 3306), Some(source));
                }
                words.iter().for_each(|(word, value)| of_server(&mut fleet, name, word, value));
            }
        }
    }
    fleet
}

fn number(word: &str, value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| panic!("`{word}` needs a number, not `{value}`"))
}

fn of_cluster(fleet: &mut Fleet, word: &str, value: &str) {
    match word {
        "urgent" => fleet.urgent_round_done_ms = Some(ago(number(word, value))),
        "recovery" => fleet.recoveries_running = true,
        "no_primary" => fleet.cluster.primary = None,
        "policy.silence_ms" => fleet.policy.silence_ms = number(word, value),
        "policy.soft_confirm_for_ms" => fleet.policy.soft_confirm_for_ms = number(word, value),
        "policy.hard_confirm_for_ms" => fleet.policy.hard_confirm_for_ms = number(word, value),
        "policy.member_lost_after_ms" => fleet.policy.member_lost_after_ms = number(word, value),
        _ => panic!("no word `{word}` of a cluster"),
    }
}

fn of_server(fleet: &mut Fleet, name: &str, word: &str, value: &str) {
    if let Some(end) = attempt_end(word) {
        fleet.observation(name).last_attempt = Some((ago(number(word, value)), end));
        return;
    }
    let state = |fleet: &mut Fleet, state| {
        let member = fleet.cluster.members.get_mut(&ServerId(name.into())).expect("added");
        member.state = state;
    };
    match word {
        "answered" => {
            let at = ago(number(word, value));
            let o = fleet.observation(name);
            o.answered_ms = Some(at);
            o.last_attempt = Some((at, AttemptEnd::Answered));
        }
        "never" => {
            let o = fleet.observation(name);
            (o.answered_ms, o.facts, o.last_attempt) = (None, None, None);
        }
        "unseen" => {
            fleet.observations.remove(&ServerId(name.into()));
        }
        "watched" => fleet.observation(name).watched_since_ms = Some(ago(number(word, value))),
        "waiting" => fleet.observation(name).waiting_since_ms = Some(ago(number(word, value))),
        "pause" => fleet.observation(name).recent_pause_ms = Some(number(word, value)),
        "heard" => fleet.observation(name).source_heard_ms = Some(ago(number(word, value))),
        "noticed" => fleet.observation(name).source_noticed_ms = Some(ago(number(word, value))),
        "lost" => fleet.observation(name).source_lost_ms = Some(ago(number(word, value))),
        "downtime" => fleet.downtime(name),
        "quarantined" => {
            state(fleet, MemberState::Quarantined { errant: "x:1".into(), why: "returned".into() });
        }
        "replaced" => state(fleet, MemberState::Replaced),
        "from" => {}
        _ => of_facts(fleet, name, word, value),
    }
}

fn attempt_end(word: &str) -> Option<AttemptEnd> {
    Some(match word {
        "refused" => AttemptEnd::Refused,
        "shutting_down" => AttemptEnd::ShuttingDown,
        "too_many" => AttemptEnd::TooManyConnections,
        "silent" => AttemptEnd::Silent { greeted: false },
        "greeted" => AttemptEnd::Silent { greeted: true },
        "closed" => AttemptEnd::Closed,
        "login_failed" => AttemptEnd::LoginFailed { why: "access denied for user 'quorate'".into() },
        "wrong" => AttemptEnd::WrongIdentity { seen: "mysql server_id 77".into() },
        "failed" => AttemptEnd::Failed { why: "no route to host".into() },
        _ => return None,
    })
}

/// A set of transactions, `WRITER:INTERVAL` joined by `+`.
fn set(text: &str) -> GtidSet {
    let parts = text.split('+').map(|part| {
        let (writer, interval) = part.split_once(':').expect("WRITER:INTERVAL");
        format!("{}:{interval}", uuid_of(writer))
    });
    let text = parts.collect::<Vec<_>>().join(",");
    GtidSet::parse(Flavor::MySql, &text).unwrap_or_else(|error| panic!("{error}"))
}

fn of_facts(fleet: &mut Fleet, name: &str, word: &str, value: &str) {
    match word {
        "read_only" => fleet.facts(name).read_only = true,
        "super_read_only" => fleet.facts(name).super_read_only = Some(true),
        "offline" => fleet.facts(name).offline_mode = Some(true),
        "connections" => {
            let (used, most) = value.split_once('/').expect("connections=USED/MOST");
            fleet.facts(name).connections = Some((number(word, used) as u32, number(word, most) as u32));
        }
        "running" => fleet.channel(name).receiver = Receiver::Running,
        "connecting" => fleet.channel(name).receiver = Receiver::Connecting,
        "stopped" => fleet.channel(name).receiver = Receiver::Stopped,
        "error" => {
            let error = (number(word, value) as u32, "the receiver's words".to_owned());
            fleet.channel(name).receiver_error = Some(error);
        }
        "heartbeat" => fleet.channel(name).heartbeat_period_ms = Some(number(word, value)),
        "heartbeat_age" => fleet.channel(name).heartbeat_age_ms = Some(number(word, value)),
        "applier_stopped" => fleet.channel(name).applier_running = false,
        "lag" => fleet.channel(name).lag_s = Some(number(word, value)),
        "delay" => fleet.channel(name).delay_s = number(word, value),
        "executed" => fleet.facts(name).executed = set(value),
        "received" => fleet.channel(name).received = set(value),
        "elsewhere" => {
            let channel = fleet.channel(name);
            channel.source = Address::new("elsewhere", 3306);
            channel.source_uuid = Some("uuid-of-another".into());
        }
        "second_channel" => {
            let mut other = fleet.channel(name).clone();
            other.name = "other".into();
            other.source_uuid = Some("uuid-of-another".into());
            other.receiver = Receiver::Running;
            fleet.facts(name).channels.insert(0, other);
        }
        _ => panic!("no word `{word}` of a server"),
    }
}
