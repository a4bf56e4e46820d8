//! Each automatic recovery's log entry holds the fresh verdicts of a majority of the voters on the same failure (P2).

use super::{Verdict, evidence::Evidence};
use serde_json::Value;
use std::collections::BTreeSet;

pub fn check(evidence: &Evidence) -> Verdict {
    let Some(recoveries) = &evidence.recoveries else {
        return Verdict::unread("no node told the recoveries");
    };
    let automatic = recoveries.iter().filter(|r| r["kind"] == "failover");
    automatic.filter_map(|recovery| accuse(recovery, evidence)).collect::<Vec<_>>().into()
}

fn accuse(recovery: &Value, evidence: &Evidence) -> Option<String> {
    let need = evidence.voters / 2 + 1;
    let said = recovery["evidence"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = |word: &&Value| {
        word["voter"] == true
            && word["class"] == recovery["class"]
            && word["primary_epoch"] == recovery["primary_epoch"]
            && word["age_ms"].as_u64().is_some_and(|age| age <= evidence.fresh_for_ms)
    };
    let nodes: BTreeSet<u64> = said.iter().filter(counts).filter_map(|word| word["node"].as_u64()).collect();
    (nodes.len() < need).then(|| {
        format!(
            "recovery {} started on fresh verdicts of nodes {nodes:?} only: {need} of {} are needed",
            recovery["id"], evidence.voters
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The failover, with one change to its record.
    fn with(change: impl FnOnce(&mut Value)) -> Evidence {
        let mut evidence = Evidence::failover();
        change(&mut evidence.recoveries.as_mut().unwrap()[0]);
        evidence
    }

    #[test]
    fn two_of_three_are_a_majority() {
        assert_eq!(check(&Evidence::failover()), Verdict::default());
        assert_eq!(check(&Evidence { voters: 5, ..Evidence::failover() }).violations.len(), 1);
    }

    #[test]
    fn each_must_be_another_voters_fresh_and_of_the_same_failure() {
        let lies: [fn(&mut Value); 5] = [
            |r| r["evidence"][1]["node"] = json!(1),
            |r| r["evidence"][1]["voter"] = json!(false),
            |r| r["evidence"][1]["age_ms"] = json!(2_001),
            |r| r["evidence"][1]["class"] = json!("settings"),
            |r| r["evidence"][1]["primary_epoch"] = json!(2),
        ];
        for lie in lies {
            assert_eq!(check(&with(lie)).violations.len(), 1);
        }
    }

    #[test]
    fn a_person_may_force_it() {
        let forced = with(|r| (r["kind"], r["evidence"]) = (json!("forced"), json!([])));
        assert_eq!(check(&forced), Verdict::default());
    }
}
