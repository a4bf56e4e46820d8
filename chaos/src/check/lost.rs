//! Each acknowledged write is looked for everywhere after healing.
//!
//! What may be lost depends on the durability mode. Semi-sync, a planned change, and a run in which nobody was replaced:
//! nothing. Asynchronous: the end of what the old primary acknowledged, as far as no survivor had received it; never a
//! hole in it, and never anything that another server of the cluster still holds.

use super::{
    Verdict,
    evidence::{Evidence, Write},
};
use std::collections::BTreeSet;

/// The acknowledged writes that the primary at the end lacks; none where it could not be asked.
pub fn lost(evidence: &Evidence) -> Vec<&Write> {
    match evidence.held.get(&evidence.primary) {
        Some(held) => evidence.acks.iter().filter(|ack| !held.contains(&ack.id)).collect(),
        None => Vec::new(),
    }
}

/// Of these: acknowledged by another server after the present primary had acknowledged its first.
pub fn strays(evidence: &Evidence) -> usize {
    let of_primary = evidence.acks.iter().filter(|ack| ack.server == evidence.primary);
    let taken_over = of_primary.map(|ack| ack.at_ms).min_by(f64::total_cmp);
    let is_stray = |ack: &&Write| {
        ack.server != evidence.primary && taken_over.is_some_and(|taken_over| ack.at_ms > taken_over)
    };
    lost(evidence).into_iter().filter(is_stray).count()
}

pub fn check(evidence: &Evidence) -> Verdict {
    if !evidence.held.contains_key(&evidence.primary) {
        return Verdict::unread("the server that is primary at the end does not answer");
    }
    let lost = lost(evidence);
    let primary = evidence.primary;
    let mut violations = Vec::new();
    if (evidence.semi_sync || evidence.lossless) && !lost.is_empty() {
        violations.push(format!(
            "{} acknowledged writes are missing on server {primary}, ids {}",
            lost.len(),
            named(&lost)
        ));
    }
    for (server, there) in &evidence.held {
        // The first primary may hold what never left it, or not farther than those who were cut off with it.
        if *server == primary || *server == 1 || evidence.cut_off.contains(server) {
            continue;
        }
        let more: Vec<&Write> = lost.iter().copied().filter(|ack| there.contains(&ack.id)).collect();
        if !more.is_empty() {
            violations.push(format!(
                "server {server} had received {} acknowledged writes that server {primary} lacks, ids {}",
                more.len(),
                named(&more)
            ));
        }
    }
    let holes = holes(evidence, &lost);
    if !holes.is_empty() {
        violations.push(format!(
            "{} acknowledged writes are missing on server {primary} though later ones of the same server are there, ids {}",
            holes.len(),
            named(&holes)
        ));
    }
    violations.into()
}

/// Lost ones of a server that has a held one sent after they were acknowledged: several clients' ids say nothing of the
/// order in which the server took them.
fn holes<'a>(evidence: &'a Evidence, lost: &[&'a Write]) -> Vec<&'a Write> {
    let missing: BTreeSet<i64> = lost.iter().map(|ack| ack.id).collect();
    let last_sent = |server: usize| {
        let held = evidence.acks.iter().filter(|ack| ack.server == server && !missing.contains(&ack.id));
        held.map(|ack| ack.sent_ms).max_by(f64::total_cmp)
    };
    let last: Vec<Option<f64>> = (0..=evidence.servers.len()).map(last_sent).collect();
    let is_hole = |ack: &&Write| last.get(ack.server).copied().flatten().is_some_and(|sent| sent > ack.at_ms);
    lost.iter().copied().filter(is_hole).collect()
}

fn named(writes: &[&Write]) -> String {
    let mut names: Vec<String> = writes.iter().take(5).map(|ack| ack.id.to_string()).collect();
    if writes.len() > names.len() {
        names.push("...".into());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::samples::write;
    use std::collections::BTreeMap;

    /// Server 1 acknowledged 1 to 4 and died; server 2 took over with 1 to `received`.
    fn story(received: i64) -> Evidence {
        let acks = (1..=4).map(|id| write(id, 1, id as f64 * 10.0)).chain([write(5, 2, 100.0)]).collect();
        let held: BTreeSet<i64> = (1..=received).chain([5]).collect();
        Evidence { primary: 2, acks, held: BTreeMap::from([(2, held)]), ..Evidence::quiet() }
    }

    #[test]
    fn the_tail_of_the_old_primary_may_be_lost_without_semi_sync_only() {
        assert_eq!(check(&story(3)), Verdict::default());
        for (semi_sync, lossless) in [(true, false), (false, true)] {
            let strict = Evidence { semi_sync, lossless, ..story(3) };
            assert_eq!(check(&strict).violations.len(), 1);
        }
        assert_eq!(check(&Evidence { semi_sync: true, ..story(4) }), Verdict::default());
    }

    #[test]
    fn what_a_survivor_holds_may_not_be_missing() {
        let mut evidence = story(3);
        evidence.held.insert(3, BTreeSet::from([1, 2, 3, 4]));
        assert!(check(&evidence).violations[0].contains("server 3 had received 1"));
        // Unless nobody could ask it.
        assert_eq!(check(&Evidence { cut_off: vec![3], ..evidence }), Verdict::default());
        // The dead primary's own copy is no survivor's.
        let mut evidence = story(3);
        evidence.held.insert(1, BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(check(&evidence), Verdict::default());
    }

    #[test]
    fn a_hole_is_no_tail() {
        let mut evidence = story(4);
        evidence.held.get_mut(&2).unwrap().remove(&2);
        assert!(check(&evidence).violations[0].contains("though later ones"));
        // Of two that were under way at once either may have come first.
        evidence.acks[1].at_ms = 41.0;
        assert_eq!(check(&evidence), Verdict::default());
    }

    #[test]
    fn a_stray_came_after_the_take_over() {
        let mut evidence = story(4);
        evidence.acks.push(write(6, 1, 200.0));
        assert_eq!((lost(&evidence).len(), strays(&evidence)), (1, 1));
        assert_eq!(strays(&story(3)), 0);
    }

    #[test]
    fn nobody_to_ask_is_no_pass() {
        let silent = Evidence { held: BTreeMap::new(), ..story(4) };
        assert!(check(&silent).unread.is_some());
    }
}
