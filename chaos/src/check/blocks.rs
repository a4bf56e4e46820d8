//! After a completed automatic recovery no other one starts until its block ends, by log time, or a person lifts it (P3).

use super::{
    Verdict,
    evidence::{Event, Evidence},
};

pub fn check(evidence: &Evidence) -> Verdict {
    let (Some(recoveries), Some(events)) = (&evidence.recoveries, &evidence.events) else {
        return Verdict::unread("no node told the recoveries and events");
    };
    let is_automatic = |event: &Event| {
        let of_event = |r: &&serde_json::Value| r["id"].as_u64() == event.recovery;
        recoveries.iter().find(of_event).is_some_and(|r| r["kind"] == "failover")
    };
    let mut violations = Vec::new();
    // One cluster a run, and one class that is repaired: one block at a time.
    let mut block: Option<(u64, u64)> = None;
    for event in events {
        match event.kind.as_str() {
            "recovery_started" if is_automatic(event) => {
                if let Some((of, until)) = block.filter(|(_, until)| event.log_ms < *until) {
                    violations.push(format!(
                        "recovery {} started {} ms before the end of the block by recovery {of}",
                        event.recovery.unwrap_or_default(),
                        until - event.log_ms
                    ));
                }
            }
            "blocked" => {
                block = Some((event.recovery.unwrap_or_default(), event.log_ms + evidence.block_for_ms))
            }
            "unblocked" | "acknowledged" => block = None,
            _ => {}
        }
    }
    violations.extend(unblocked(recoveries, events));
    violations.into()
}

/// Automatic recoveries that succeeded and left no block behind.
fn unblocked(recoveries: &[serde_json::Value], events: &[Event]) -> Vec<String> {
    let done = recoveries.iter().filter(|r| r["kind"] == "failover" && r["state"] == "succeeded");
    let ids = done.filter_map(|r| r["id"].as_u64());
    let blocks = |id: &u64| events.iter().any(|e| e.kind == "blocked" && e.recovery == Some(*id));
    ids.filter(|id| !blocks(id)).map(|id| format!("recovery {id} succeeded and left no block")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::samples::{A, event};
    use serde_json::json;

    /// The failover, and another automatic one that starts at `at_ms`.
    fn twice(at_ms: f64, between: Option<&str>) -> Evidence {
        let mut evidence = Evidence::failover();
        let events = evidence.events.as_mut().unwrap();
        events.extend(between.map(|kind| event(20, 1300.0, kind, None, Some(10))));
        events.push(event(30, at_ms, "recovery_started", Some(A), Some(30)));
        evidence.recoveries.as_mut().unwrap().push(json!({"id": 30, "kind": "failover", "state": "running"}));
        evidence
    }

    #[test]
    fn within_a_block_nothing_starts() {
        let end = 1200.0 + 1_800_000.0;
        assert_eq!(check(&twice(end, None)), Verdict::default());
        assert_eq!(check(&twice(end - 1.0, None)).violations.len(), 1);
        assert_eq!(check(&twice(2000.0, Some("acknowledged"))), Verdict::default());
        assert_eq!(check(&twice(2000.0, Some("unblocked"))), Verdict::default());
    }

    #[test]
    fn an_operator_is_not_blocked() {
        let mut evidence = twice(2000.0, None);
        evidence.recoveries.as_mut().unwrap()[1]["kind"] = json!("switchover");
        assert_eq!(check(&evidence), Verdict::default());
    }

    #[test]
    fn success_blocks() {
        let mut evidence = Evidence::failover();
        evidence.events.as_mut().unwrap().pop();
        assert!(check(&evidence).violations[0].contains("left no block"));
    }
}
