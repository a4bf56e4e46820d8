//! Each recovery is in the audit exactly once: one start, and one end when it has ended (P4).

use super::{Verdict, evidence::Evidence};
use std::collections::BTreeSet;

pub fn check(evidence: &Evidence) -> Verdict {
    let (Some(recoveries), Some(events)) = (&evidence.recoveries, &evidence.events) else {
        return Verdict::unread("no node told the recoveries and events");
    };
    let count =
        |kind: &str, id: u64| events.iter().filter(|e| e.kind == kind && e.recovery == Some(id)).count();
    let mut violations = Vec::new();
    let mut known = BTreeSet::new();
    for recovery in recoveries {
        let Some(id) = recovery["id"].as_u64() else { continue };
        known.insert(id);
        let running = recovery["state"] == "running";
        let (started, ended) = (count("recovery_started", id), count("recovery_ended", id));
        if started != 1 {
            violations.push(format!("recovery {id} has {started} starts in the audit"));
        }
        if ended != usize::from(!running) {
            violations.push(format!("recovery {id}, {}, has {ended} ends in the audit", recovery["state"]));
        }
    }
    let told: BTreeSet<u64> = events.iter().filter_map(|e| e.recovery).collect();
    violations
        .extend(told.difference(&known).map(|id| format!("events name recovery {id}, which is not listed")));
    violations.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::{Event, samples::event};
    use serde_json::json;

    fn with(change: impl FnOnce(&mut Vec<Event>)) -> Evidence {
        let mut evidence = Evidence::failover();
        change(evidence.events.as_mut().unwrap());
        evidence
    }

    #[test]
    fn once_is_once() {
        assert_eq!(check(&Evidence::failover()), Verdict::default());
        let twice = with(|e| e.push(event(20, 1400.0, "recovery_ended", None, Some(10))));
        assert_eq!(check(&twice).violations.len(), 1);
        let never = with(|e| e.retain(|e| e.kind != "recovery_ended"));
        assert_eq!(check(&never).violations.len(), 1);
        let unbegun = with(|e| e.retain(|e| e.kind != "recovery_started"));
        assert_eq!(check(&unbegun).violations.len(), 1);
        let stranger = with(|e| e.push(event(20, 1400.0, "decided", None, Some(11))));
        assert_eq!(check(&stranger).violations.len(), 1);
    }

    #[test]
    fn a_running_one_has_not_ended() {
        let mut evidence = with(|e| e.retain(|e| e.kind != "recovery_ended"));
        evidence.recoveries.as_mut().unwrap()[0]["state"] = json!("running");
        assert_eq!(check(&evidence), Verdict::default());
    }
}
