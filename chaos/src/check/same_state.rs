//! In the end all nodes that run come to one log index, and hold the same state there.

use super::{Verdict, evidence::Evidence};
use std::collections::BTreeMap;

pub fn check(evidence: &Evidence) -> Verdict {
    let Some(states) = &evidence.states else {
        return Verdict::unread("no leader told what the nodes hold");
    };
    let mut by_index: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for state in states {
        by_index.entry(state.index).or_default().push(state);
    }
    let mut violations = Vec::new();
    if by_index.len() > 1 {
        let indexes: Vec<u64> = by_index.keys().copied().collect();
        violations.push(format!("the nodes did not come to one log index: {indexes:?}"));
    }
    for (index, of_index) in by_index {
        let first = of_index[0];
        for other in of_index.iter().filter(|other| other.hash != first.hash) {
            violations.push(format!(
                "at log index {index} node {} holds state {}, node {} holds {}",
                first.id, first.hash, other.id, other.hash
            ));
        }
    }
    violations.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_differs_is_named() {
        let mut evidence = Evidence::quiet();
        let states = evidence.states.as_mut().unwrap();
        states[2].hash = "cd".into();
        assert!(check(&evidence).violations[0].contains("node 3 holds cd"));
        // At another index it may, but must not stay there.
        evidence.states.as_mut().unwrap()[2].index = 8;
        assert!(check(&evidence).violations[0].contains("[8, 9]"));
    }
}
