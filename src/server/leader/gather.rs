//! The verdicts a leader holds, with their ages. A new leader starts with none.
//!
//! A node counts its verdicts, and an older one never takes the place of a newer. A restarted node goes on from the
//! newest count it finds in the log, so that the log must not fall far behind what was heard.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    core::{analysis::Verdict, replicated::recovery::Testimony},
    model::server::ClusterId,
};

/// How far a node's count may run ahead of the log before a verdict goes there for its count alone. A few such commits
/// may fail before [`RESTART_GAP`] is used up.
const REMEMBERED_EVERY: u64 = 200;
/// How far beyond the newest count in the log a restarted node begins: beyond anything it may have said before.
pub const RESTART_GAP: u64 = 1_000;
/// What a node has not repeated for so long, milliseconds, does not last: it may have said something else that was lost, or the
/// leader's machine was suspended. What holds is repeated every two seconds (where the primary is probed as often), and one
/// report may be lost.
const LAPSES_MS: u64 = 5_000;

/// The newest count of each node that is, or is about to be, in the log.
#[derive(Debug, Default)]
pub struct Remembered(BTreeMap<u64, u64>);

impl Remembered {
    /// Whether a node has said so much since that the log should be told; `logged` is its newest count there.
    pub fn is_behind(&mut self, node: u64, sequence: u64, logged: impl FnOnce() -> u64) -> bool {
        let newest = *self.0.entry(node).or_insert_with(logged);
        sequence >= newest.saturating_add(REMEMBERED_EVERY)
    }

    /// A verdict goes to the log.
    pub fn goes_to_log(&mut self, node: u64, sequence: u64) {
        let newest = self.0.entry(node).or_default();
        *newest = sequence.max(*newest);
    }
}

#[derive(Debug, Clone)]
struct Held {
    verdict: Verdict,
    /// No later than it was reached, milliseconds of this node's CLOCK_BOOTTIME; `None`: not known.
    judged_ms: Option<u64>,
    /// Since when its node has said the same, as far as that is known.
    since_ms: Option<u64>,
}

/// Newest verdict of each node on each cluster. Its times, `now_ms` too, are CLOCK_BOOTTIME's: a leader whose machine is
/// suspended finds what it holds as old as it is.
#[derive(Debug, Default)]
pub struct Gathered {
    held: BTreeMap<ClusterId, BTreeMap<u64, Held>>,
    /// Urgent rounds under way, since when, monotonic milliseconds.
    pub rounds: BTreeMap<ClusterId, u64>,
    /// Starts under way.
    pub starting: BTreeSet<ClusterId>,
}

impl Gathered {
    /// Takes a verdict in; an older one of the same node changes nothing. One of unknown age ends what its node said
    /// before, unless it says the same again: then that stands, as old as it is.
    pub fn take(&mut self, verdict: Verdict, judged_ms: Option<u64>) {
        let of_cluster = self.held.entry(verdict.cluster.clone()).or_default();
        let takes_its_place = of_cluster.get(&verdict.node).is_none_or(|held| {
            let same_process = held.verdict.incarnation == verdict.incarnation;
            let newer = !same_process || held.verdict.sequence <= verdict.sequence;
            newer && !(judged_ms.is_none() && same_process && says_the_same(&held.verdict, &verdict))
        });
        if takes_its_place {
            let lapsed = |held: &Held| {
                let pause = held.judged_ms.zip(judged_ms).map(|(then, now)| now.saturating_sub(then));
                pause.is_some_and(|pause| pause > LAPSES_MS)
            };
            let same = of_cluster.get(&verdict.node).filter(|held| {
                let same_process = held.verdict.incarnation == verdict.incarnation;
                same_process && says_the_same(&held.verdict, &verdict) && !lapsed(held)
            });
            let since_ms = same.and_then(|held| held.since_ms).or(judged_ms);
            of_cluster.insert(verdict.node, Held { verdict, judged_ms, since_ms });
        }
    }

    /// What is held on a cluster, each with the most it can be old now. What is of unknown age is left out.
    pub fn testimonies(&self, cluster: &ClusterId, now_ms: u64) -> Vec<Testimony> {
        self.lasting(cluster, now_ms, 0)
    }

    /// The same, of those only whose nodes have said so for that long.
    pub fn lasting(&self, cluster: &ClusterId, now_ms: u64, for_ms: u64) -> Vec<Testimony> {
        let of_cluster = self.held.get(cluster).into_iter().flat_map(BTreeMap::values);
        let lasts = |held: &&Held| held.since_ms.is_none_or(|since| now_ms.saturating_sub(since) >= for_ms);
        of_cluster
            .filter(lasts)
            .filter_map(|held| {
                let age_ms = now_ms.saturating_sub(held.judged_ms?);
                Some(Testimony { verdict: held.verdict.clone(), age_ms })
            })
            .collect()
    }
}

/// Whether two verdicts of one node count the same.
fn says_the_same(one: &Verdict, other: &Verdict) -> bool {
    let counts = |v: &Verdict| v.failure().map(|(class, code, evidence)| (class, code, evidence.hard));
    (one.epoch, &one.subject, one.label()) == (other.epoch, &other.subject, other.label())
        && counts(one) == counts(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::analysis::Finding, model::server::ServerId};

    fn verdict(sequence: u64) -> Verdict {
        Verdict {
            node: 2,
            incarnation: "i".into(),
            sequence,
            cluster: ClusterId("c".into()),
            epoch: 1,
            subject: ServerId("s".into()),
            finding: Finding::Healthy,
        }
    }

    #[test]
    fn a_node_that_said_the_same_for_long_is_heard_again_after_its_restart() {
        let (mut gathered, mut remembered) = (Gathered::default(), Remembered::default());
        let mut logged = 1_000;
        for sequence in 1_001..20_000 {
            gathered.take(verdict(sequence), Some(0));
            if remembered.is_behind(2, sequence, || logged) {
                remembered.goes_to_log(2, sequence);
                logged = sequence;
            }
        }
        gathered.take(verdict(logged + RESTART_GAP), Some(70_000));
        let held = gathered.testimonies(&ClusterId("c".into()), 70_000);
        assert_eq!((held[0].verdict.sequence, held[0].age_ms), (logged + RESTART_GAP, 0));
        assert!(logged > 19_000, "the log knows only of {logged}");
    }

    #[test]
    fn an_older_verdict_does_not_take_the_place_of_a_newer() {
        let mut gathered = Gathered::default();
        gathered.take(verdict(7), Some(100));
        gathered.take(verdict(6), Some(200));
        assert_eq!(gathered.testimonies(&ClusterId("c".into()), 200)[0].age_ms, 100);
    }

    #[test]
    fn a_verdict_of_unknown_age_counts_for_nobody_and_ends_what_was_said_before() {
        let mut gathered = Gathered::default();
        gathered.take(verdict(7), Some(100));
        gathered.take(Verdict { finding: Finding::Blind { why: "paused".into() }, ..verdict(8) }, None);
        assert_eq!(gathered.testimonies(&ClusterId("c".into()), 200), []);
    }

    #[test]
    fn what_lasts_was_said_for_that_long_without_a_break() {
        let mut gathered = Gathered::default();
        let cluster = ClusterId("c".into());
        gathered.take(verdict(7), Some(100));
        gathered.take(verdict(8), Some(600));
        assert_eq!(gathered.lasting(&cluster, 1_000, 901), []);
        assert_eq!(gathered.lasting(&cluster, 1_000, 900)[0].age_ms, 400);
        gathered.take(Verdict { finding: Finding::Blind { why: "paused".into() }, ..verdict(9) }, Some(700));
        gathered.take(verdict(10), Some(800));
        assert_eq!(gathered.lasting(&cluster, 1_000, 900), [], "it said something else in between");
        gathered.take(verdict(11), Some(5_900));
        assert_eq!(gathered.lasting(&cluster, 6_000, 900), [], "nothing was heard of it in between");
    }

    /// As after an election: the answer to the urgent round, and a report that was sent before a stamp was heard.
    #[test]
    fn the_same_again_of_unknown_age_leaves_what_is_known_as_old_as_it_is() {
        let mut gathered = Gathered::default();
        gathered.take(verdict(7), Some(100));
        gathered.take(verdict(8), None);
        let held = gathered.testimonies(&ClusterId("c".into()), 200);
        assert_eq!((held[0].verdict.sequence, held[0].age_ms), (7, 100));
    }
}
