//! A run as one file that tells it: what `report` draws. Times are milliseconds from the fault.

use crate::{
    check::evidence::{Evidence, Statement, Write},
    judge::Judgement,
    record::Record,
    stage::Stage,
    wall,
    watch::Seen,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name under which a run's story is kept.
pub const FILE: &str = "story.json";

/// Acknowledgements are told by how many there were in each span of this length.
const SPAN_MS: f64 = 50.0;
/// The statements told, at most.
const STATEMENTS_MAX: usize = 2_000;

/// Where the artefacts of the records in `file` are.
pub fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".d");
    file.with_file_name(name)
}

/// Writes what happened. The record follows when it is complete (`seal`).
pub fn write(file: &Path, stage: &Stage<'_>, judgement: &Judgement) -> Result<()> {
    let Judgement { evidence, findings } = judgement;
    let origin = stage.fault.map_or_else(wall::now, wall::of);
    let since = |at: f64| rounded(at - origin);
    let story = json!({
        "record": null,
        "origin_unix_ms": rounded(origin),
        "servers": evidence.servers,
        "nodes": stage.group.nodes.iter().map(|node| json!({"id": node.id, "endpoint": node.endpoint()})).collect::<Vec<_>>(),
        "rig": stage.told.iter().map(|(at, text)| json!({"at": since(*at), "text": text})).collect::<Vec<_>>(),
        "changes": stage.watch().changes().iter().map(|change| json!({
            "at": since(wall::of(change.at)), "server": change.server, "seen": seen(change.seen),
        })).collect::<Vec<_>>(),
        "acks": thinned(&evidence.acks, origin),
        "events": evidence.events.iter().flatten().map(|event| json!({
            "at": since(event.time_ms), "index": event.index, "kind": event.kind, "server": event.server,
            "recovery": event.recovery, "text": event.text,
        })).collect::<Vec<_>>(),
        "recoveries": evidence.recoveries.iter().flatten().map(|recovery| told(recovery, origin)).collect::<Vec<_>>(),
        "statements": statements(evidence, origin),
        "states": evidence.states,
        "usage": evidence.usage.iter().map(|(node, usage)| json!({"node": node, "usage": usage})).collect::<Vec<_>>(),
        "findings": findings,
    });
    std::fs::write(file, serde_json::to_string(&story)?).with_context(|| file.display().to_string())
}

/// Copies a story and puts its record, now complete, into it.
pub fn seal(from: &Path, to: &Path, record: &Record) -> Result<()> {
    let mut story: Value = serde_json::from_str(&std::fs::read_to_string(from)?)?;
    story["record"] = serde_json::to_value(record)?;
    std::fs::write(to, serde_json::to_string(&story)?).with_context(|| to.display().to_string())
}

fn rounded(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

fn seen(seen: Seen) -> &'static str {
    match seen {
        Seen::Writable => "writable",
        Seen::ReadOnly => "read-only",
        Seen::Silent => "silent",
    }
}

/// By server and span: when it began, how many acknowledgements, the first and the last.
fn thinned(acks: &[Write], origin: f64) -> Vec<Value> {
    let mut spans: BTreeMap<(usize, i64), Vec<f64>> = BTreeMap::new();
    for ack in acks {
        let at = ack.at_ms - origin;
        spans.entry((ack.server, (at / SPAN_MS).floor() as i64)).or_default().push(at);
    }
    let tell = |((server, _), mut times): ((usize, i64), Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        let (first, last) = (times[0], times[times.len() - 1]);
        json!({"server": server, "from": rounded(first), "to": rounded(last), "count": times.len()})
    };
    spans.into_iter().map(tell).collect()
}

fn told(recovery: &Value, origin: f64) -> Value {
    let mut told = recovery.clone();
    for key in ["started_ms", "ended_ms"] {
        if let Some(at) = recovery[key].as_f64() {
            told[key] = json!(rounded(at - origin));
        }
    }
    told
}

fn statements(evidence: &Evidence, origin: f64) -> Vec<Value> {
    let tell = |statement: &Statement| {
        // What no later look bounded has no end.
        let to = statement.to_ms.is_finite().then(|| rounded(statement.to_ms - origin));
        json!({
            "from": rounded(statement.from_ms - origin), "to": to, "server": statement.server,
            "node": statement.node, "sql": statement.sql,
        })
    };
    evidence.statements.iter().flatten().take(STATEMENTS_MAX).map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::samples::write;

    #[test]
    fn acknowledgements_are_counted_by_span_and_server() {
        let acks = [write(1, 1, 1000.0), write(2, 1, 1010.0), write(3, 2, 1011.0), write(4, 1, 1060.0)];
        let told = thinned(&acks, 1000.0);
        assert_eq!(told[0], json!({"server": 1, "from": 2.0, "to": 12.0, "count": 2}));
        assert_eq!(told[1]["from"], json!(62.0));
        assert_eq!(told[2], json!({"server": 2, "from": 13.0, "to": 13.0, "count": 1}));
    }

    #[test]
    fn artefacts_lie_beside_their_record() {
        assert_eq!(beside(Path::new("a/runs.json")), Path::new("a/runs.json.d"));
    }
}
