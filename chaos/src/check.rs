//! What a run left behind, judged: each promise is one file with one function over plain values.
//!
//! A checker knows nothing of processes or files (`gather` reads those), so each has been seen to fail on a planted
//! violation in its own tests. What could not be read is not judged, and the record says so by name.

mod audit;
mod blocks;
mod bounds;
pub mod double;
pub mod lost;
mod majority;
mod permits;
mod same_state;

pub mod evidence;

use evidence::Evidence;
use serde::Serialize;

/// What one checker came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the checker.
    pub check: &'static str,
    /// Violations, each a sentence.
    pub violations: Vec<String>,
    /// Why it could not judge, or judged a part only.
    pub unread: Option<String>,
    /// What is no violation and worth telling.
    pub notes: Vec<String>,
}

/// Looks at the evidence; gives violations, or why there is nothing to look at.
type Check = fn(&Evidence) -> Verdict;

/// Violations, and what could not be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    violations: Vec<String>,
    unread: Option<String>,
    notes: Vec<String>,
}

impl Verdict {
    fn unread(why: impl Into<String>) -> Verdict {
        Verdict { unread: Some(why.into()), ..Verdict::default() }
    }
}

impl From<Vec<String>> for Verdict {
    fn from(violations: Vec<String>) -> Verdict {
        Verdict { violations, ..Verdict::default() }
    }
}

/// Every checker: its name, and what must hold.
pub const CHECKS: [(&str, &str, Check); 8] = [
    ("lost-writes", "no acknowledged write is lost beyond what the durability mode allows", lost::check),
    ("one-writer", "two servers never take writes at once where that is promised", double::check),
    ("majority", "each automatic recovery has a majority's fresh verdicts in its log entry", majority::check),
    ("blocks", "no automatic recovery starts within a block", blocks::check),
    (
        "permits",
        "no statement changes a server but under a recovery, order or witness, by who may send it",
        permits::check,
    ),
    ("audit", "each recovery began once and ended once", audit::check),
    ("same-state", "all nodes hold the same state at the same log index", same_state::check),
    ("bounds", "no node outgrows its bound of memory or disk", bounds::check),
];

/// Runs them all.
pub fn all(evidence: &Evidence) -> Vec<Finding> {
    let judged = CHECKS.iter().map(|(name, _, check)| {
        let Verdict { violations, unread, notes } = check(evidence);
        Finding { check: name, violations, unread, notes }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group that did nothing, and of which everything was read, is no violation of anything.
    #[test]
    fn nothing_done_is_nothing_broken() {
        for finding in all(&Evidence::quiet()) {
            assert_eq!(finding.violations, Vec::<String>::new(), "{}", finding.check);
            assert_eq!(finding.unread, None, "{}", finding.check);
        }
    }
}
