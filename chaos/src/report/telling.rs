//! Everything that happened in one run, in order, in words.

use super::html::ms;
use serde_json::Value;

/// A gap in a server's acknowledgements from which on they are told apart.
const ACK_GAP_MS: f64 = 300.0;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Milliseconds from the fault.
    pub at: f64,
    /// Of what sort: `rig`, `verdict`, `log`, `step`, `sql`, `server`, `client`.
    pub sort: &'static str,
    /// About whom.
    pub who: String,
    /// What.
    pub text: String,
}

/// All lines of a story, in order.
pub fn lines(story: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(each(story, "rig").map(|rig| Line {
        at: at(rig, "at"),
        sort: "rig",
        who: "rig".into(),
        text: text(rig, "text"),
    }));
    lines.extend(each(story, "events").map(event));
    lines.extend(steps(story).into_iter().map(|step| Line {
        at: step.from,
        sort: "step",
        who: format!("node {}", step.node),
        text: format!("{} on {} took {}: {}", step.name, step.server, ms(step.to - step.from), step.outcome),
    }));
    lines.extend(each(story, "statements").map(statement));
    lines.extend(each(story, "changes").map(|change| Line {
        at: at(change, "at"),
        sort: "server",
        who: format!("server {}", change["server"]),
        text: format!("is {}", text(change, "seen")),
    }));
    lines.extend(acknowledgements(story));
    lines.sort_by(|a, b| a.at.total_cmp(&b.at));
    lines
}

/// The members of a list in the story.
pub fn each<'a>(story: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    story[key].as_array().into_iter().flatten()
}

/// A time in an object; 0 where there is none.
pub fn at(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(0.0)
}

/// A text in an object; empty where there is none.
pub fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn event(event: &Value) -> Line {
    let kind = text(event, "kind");
    let verdict = kind == "verdict";
    let who = if verdict { String::new() } else { format!("log {}", event["index"]) };
    let told = text(event, "text");
    // `node 2 says ...`
    let (who, told) =
        match told.strip_prefix("node ").and_then(|rest| rest.split_once(" says ")).filter(|_| verdict) {
            Some((node, says)) => (format!("node {node}"), format!("says {says}")),
            None => (who, format!("{kind}: {told}")),
        };
    Line { at: at(event, "at"), sort: if verdict { "verdict" } else { "log" }, who, text: told }
}

fn statement(statement: &Value) -> Line {
    let node = statement["node"].as_u64().map_or("nobody known".to_owned(), |node| format!("node {node}"));
    Line {
        at: at(statement, "from"),
        sort: "sql",
        who: format!("server {}", statement["server"]),
        text: format!("from {node}: {}", text(statement, "sql")),
    }
}

/// A step of a recovery as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Milliseconds from the fault.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// The executing node.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// On which server.
    pub server: String,
    /// How it ended.
    pub outcome: String,
}

/// The steps of all recoveries. Recorded from the moment at which the executing node began: the start, or its take-over.
pub fn steps(story: &Value) -> Vec<Step> {
    let of_recovery = |recovery: &Value| -> Vec<Step> {
        let takeovers: Vec<(u64, f64)> = each(story, "events")
            .filter(|e| e["kind"] == "taken_over" && e["recovery"] == recovery["id"])
            .filter_map(|e| {
                Some((text(e, "text").strip_prefix("node ")?.split(' ').next()?.parse().ok()?, at(e, "at")))
            })
            .collect();
        let tell = |step: &Value| {
            let node = step["node"].as_u64().unwrap_or_default();
            let taken = takeovers.iter().rev().find(|(by, _)| *by == node).map(|(_, at)| *at);
            let from = taken.unwrap_or_else(|| at(recovery, "started_ms")) + at(step, "at_ms");
            Step {
                from,
                to: from + at(step, "ms"),
                node,
                name: text(step, "step"),
                server: text(step, "server"),
                outcome: text(step, "outcome"),
            }
        };
        each(recovery, "steps").map(tell).collect()
    };
    each(story, "recoveries").flat_map(of_recovery).collect()
}

/// For each server the stretches in which it acknowledged: a line at the beginning and one at the end.
fn acknowledgements(story: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    for (server, from, to, count) in stretches(story) {
        let line = |at, text| Line { at, sort: "client", who: format!("server {server}"), text };
        lines.push(line(from, "begins to acknowledge writes".to_owned()));
        lines.push(line(to, format!("acknowledged its last for a while: {count} in {}", ms(to - from))));
    }
    lines
}

/// Server, first and last acknowledgement, how many.
pub fn stretches(story: &Value) -> Vec<(u64, f64, f64, u64)> {
    let mut stretches: Vec<(u64, f64, f64, u64)> = Vec::new();
    for span in each(story, "acks") {
        let (server, count) = (span["server"].as_u64().unwrap_or(0), span["count"].as_u64().unwrap_or(0));
        let (from, to) = (at(span, "from"), at(span, "to"));
        match stretches.last_mut().filter(|(of, _, last, _)| *of == server && from - *last <= ACK_GAP_MS) {
            Some((_, _, last, sum)) => (*last, *sum) = (to, *sum + count),
            None => stretches.push((server, from, to, count)),
        }
    }
    stretches
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A small failover.
    pub fn story() -> Value {
        json!({
            "record": {"scenario": "kill-primary", "flavor": "mysql", "run": 1, "outcome": "recovered", "violations": []},
            "servers": ["a:1", "b:2"], "nodes": [{"id": 1}, {"id": 2}],
            "rig": [{"at": 0.0, "text": "the fault"}],
            "changes": [{"at": -900.0, "server": 1, "seen": "writable"}, {"at": 2.0, "server": 1, "seen": "silent"},
                        {"at": 90.0, "server": 2, "seen": "writable"}],
            "acks": [{"server": 1, "from": -100.0, "to": -60.0, "count": 9}, {"server": 1, "from": -50.0, "to": -1.0, "count": 9},
                     {"server": 2, "from": 95.0, "to": 140.0, "count": 8}],
            "events": [
                {"at": 5.0, "index": 9, "kind": "verdict", "text": "node 2 says DeadPrimary: refused"},
                {"at": 10.0, "index": 10, "kind": "recovery_started", "recovery": 10, "text": "failover 10 started"},
                {"at": 60.0, "index": 12, "kind": "taken_over", "recovery": 10, "text": "node 2 takes recovery 10 over"}],
            "recoveries": [{"id": 10, "started_ms": 10.0, "steps": [
                {"node": 1, "step": "fence", "server": "a:1", "at_ms": 1, "ms": 5, "outcome": "refused"},
                {"node": 2, "step": "drain", "server": "b:2", "at_ms": 3, "ms": 4, "outcome": "done"}]}],
            "statements": [{"from": 70.0, "to": null, "server": 2, "node": 2, "sql": "STOP REPLICA"}],
        })
    }

    #[test]
    fn it_is_told_in_order() {
        let told: Vec<String> =
            lines(&story()).iter().map(|l| format!("{} {} {}: {}", l.at, l.sort, l.who, l.text)).collect();
        assert_eq!(
            told,
            [
                "-900 server server 1: is writable",
                "-100 client server 1: begins to acknowledge writes",
                "-1 client server 1: acknowledged its last for a while: 18 in 99.0 ms",
                "0 rig rig: the fault",
                "2 server server 1: is silent",
                "5 verdict node 2: says DeadPrimary: refused",
                "10 log log 10: recovery_started: failover 10 started",
                "11 step node 1: fence on a:1 took 5.0 ms: refused",
                "60 log log 12: taken_over: node 2 takes recovery 10 over",
                "63 step node 2: drain on b:2 took 4.0 ms: done",
                "70 sql server 2: from node 2: STOP REPLICA",
                "90 server server 2: is writable",
                "95 client server 2: begins to acknowledge writes",
                "140 client server 2: acknowledged its last for a while: 8 in 45.0 ms",
            ]
        );
    }
}
