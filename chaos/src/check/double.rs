//! Intervals in which two servers of the cluster took writes: by the clients' acknowledgements, and by the binlogs.
//!
//! Promised to be none where the old primary was dead or had been fenced before (a kill, a planned change). Where it lives
//! out of reach, or comes back, they are measured; in semi-sync mode no client may hear an acknowledgement then, though
//! the binlog of the old primary may hold what waits for one.

use super::{Verdict, evidence::Evidence};
use std::collections::BTreeSet;

/// Moments further apart than this are two runs of writes.
const APART_MS: f64 = 250.0;

/// How long two servers took writes at the same time, milliseconds; at least 1 if they did at all. `moments`: server and
/// time.
fn overlap_ms(moments: impl Iterator<Item = (usize, f64)>) -> f64 {
    let moments: Vec<(usize, f64)> = moments.collect();
    let servers: BTreeSet<usize> = moments.iter().map(|(server, _)| *server).collect();
    let runs: Vec<(usize, f64, f64)> = servers.into_iter().flat_map(|s| runs(&moments, s)).collect();
    let mut total = 0.0;
    for (at, (a, from_a, to_a)) in runs.iter().enumerate() {
        for (b, from_b, to_b) in &runs[at..] {
            let (from, to) = (from_a.max(*from_b), to_a.min(*to_b));
            if a != b && from <= to {
                total += (to - from).max(1.0);
            }
        }
    }
    total
}

/// The times of one server that follow each other closely, as (server, first, last).
fn runs(moments: &[(usize, f64)], server: usize) -> Vec<(usize, f64, f64)> {
    let mut times: Vec<f64> = moments.iter().filter(|(s, _)| *s == server).map(|(_, at)| *at).collect();
    times.sort_by(f64::total_cmp);
    let mut runs: Vec<(usize, f64, f64)> = Vec::new();
    for at in times {
        match runs.last_mut() {
            Some((_, _, last)) if at - *last <= APART_MS => *last = at,
            _ => runs.push((server, at, at)),
        }
    }
    runs
}

/// By what the clients heard.
pub fn by_acks(evidence: &Evidence) -> f64 {
    overlap_ms(evidence.acks.iter().map(|ack| (ack.server, ack.at_ms)))
}

/// By what the servers wrote down.
pub fn by_binlogs(evidence: &Evidence) -> f64 {
    overlap_ms(evidence.commits.iter().map(|commit| (commit.server, commit.at_ms)))
}

pub fn check(evidence: &Evidence) -> Verdict {
    let mut violations = Vec::new();
    let acks = by_acks(evidence);
    if acks > 0.0 && (evidence.semi_sync || !evidence.may_overlap) {
        violations.push(format!("two servers acknowledged writes at the same time for {acks:.0} ms"));
    }
    let binlogs = by_binlogs(evidence);
    if binlogs > 0.0 && !evidence.may_overlap {
        violations
            .push(format!("by their binlogs two servers took writes at the same time for {binlogs:.0} ms"));
    }
    let written: BTreeSet<(usize, i64)> = evidence.commits.iter().map(|c| (c.server, c.id)).collect();
    if written.is_empty() && !evidence.acks.is_empty() {
        return Verdict { violations, ..Verdict::unread("no binlog was read") };
    }
    let missing = evidence.acks.iter().filter(|ack| !written.contains(&(ack.server, ack.id))).count();
    if missing > 0 {
        violations.push(format!(
            "{missing} acknowledged writes are not in the binlog of the server that acknowledged them"
        ));
    }
    violations.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::{Commit, samples::write};

    /// Each acknowledged write, in the binlog 1 ms before its client heard of it.
    fn written(evidence: Evidence) -> Evidence {
        let commits = evidence.acks.iter();
        let commits = commits.map(|a| Commit { server: a.server, id: a.id, at_ms: a.at_ms - 1.0 }).collect();
        Evidence { commits, ..evidence }
    }

    /// Server 1 writes until 100 ms, server 2 from `from_ms` on.
    fn handover(from_ms: f64) -> Evidence {
        let first = (1..=10).map(|id| write(id, 1, id as f64 * 10.0));
        let second = (11..=20).map(|id| write(id, 2, from_ms + id as f64 * 10.0));
        written(Evidence { acks: first.chain(second).collect(), ..Evidence::quiet() })
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        assert_eq!(by_acks(&handover(0.0)), 0.0);
        assert_eq!(check(&handover(0.0)), Verdict::default());
    }

    #[test]
    fn two_at_once_are_told_by_clients_and_by_binlogs() {
        let both = handover(-60.0);
        assert_eq!(by_acks(&both), 50.0);
        assert_eq!(check(&both).violations.len(), 2);
        // Of a primary that came back it is measured.
        assert_eq!(check(&Evidence { may_overlap: true, ..both.clone() }), Verdict::default());
        assert_eq!(check(&Evidence { may_overlap: true, semi_sync: true, ..both }).violations.len(), 1);
    }

    #[test]
    fn a_commit_that_nobody_heard_of_counts_too() {
        let mut evidence = handover(0.0);
        evidence.commits.push(Commit { server: 1, id: 99, at_ms: 150.0 });
        assert_eq!(by_acks(&evidence), 0.0);
        assert_eq!(check(&evidence).violations.len(), 1);
    }

    #[test]
    fn a_pause_ends_a_run() {
        // The old primary returns at 1000 and acknowledges until 1020, while the new one goes on.
        let old = [(1, 0.0), (1, 1000.0), (1, 1020.0)];
        let new = (0..400).map(|i| (2, 10.0 + f64::from(i) * 5.0));
        assert_eq!(overlap_ms(old.into_iter().chain(new)), 20.0);
    }

    #[test]
    fn an_acknowledgement_without_its_transaction_is_told() {
        let mut evidence = handover(0.0);
        evidence.commits.remove(3);
        assert!(check(&evidence).violations[0].contains("1 acknowledged writes are not in the binlog"));
    }
}
