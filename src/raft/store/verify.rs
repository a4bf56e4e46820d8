//! The check of everything in a database before it is used: it says what is wrong and changes nothing, except that
//! deletions which were interrupted are finished.

use std::ops::Bound;

use super::base::Tree;
use super::mark::Mark;
use super::{PURGED, Store, StoreError, parts};
use crate::raft::types::{LogId, Vote};

use openraft::entry::RaftEntry;

/// Fails when log, vote or snapshot cannot all be what this node once promised. `seen` is the high-water mark.
pub fn verify(store: &Store, seen: Mark) -> Result<(), StoreError> {
    let vote = store.vote()?;
    let purged: Option<LogId> = store.read_meta(PURGED)?;
    let _: Option<Option<LogId>> = store.read_meta(super::COMMITTED)?;
    store.generation()?;
    let covered = snapshot(store)?;
    if purged > covered {
        let what =
            format!("the log begins after {} but the snapshot ends at {}", show(&purged), show(&covered));
        return Err(StoreError::Corrupt(what));
    }
    let last = entries(store, purged, seen)?;
    not_behind(seen, last, vote)?;
    finish_purge(store, purged)?;
    store.drop_stray_chunks()?;
    store.drop_stray_parts()?;
    Ok(())
}

fn snapshot(store: &Store) -> Result<Option<LogId>, StoreError> {
    Ok(store.snapshot()?.and_then(|(meta, _)| meta.last_log_id))
}

fn finish_purge(store: &Store, purged: Option<LogId>) -> Result<(), StoreError> {
    let Some(purged) = purged else { return Ok(()) };
    // Up to the next entry's key: with the parts of the last one.
    let end = Bound::Excluded(purged.index().saturating_add(1).to_be_bytes().to_vec());
    for pair in store.base.range(Tree::Log, Bound::Unbounded, end) {
        store.base.remove(Tree::Log, &pair?.0)?;
    }
    Ok(())
}

/// Reads every entry: checksums, indexes without a hole, terms that never go back. Returns the last log id.
fn entries(store: &Store, purged: Option<LogId>, seen: Mark) -> Result<Option<LogId>, StoreError> {
    let mut before = purged;
    let begin = purged.map_or(0, |id| id.index() + 1);
    let begin = Bound::Included(begin.to_be_bytes().to_vec());
    for pair in store.base.range(Tree::Log, begin, Bound::Unbounded) {
        let (key, value) = pair?;
        if !parts::is_entry(&key) {
            continue;
        }
        let id = store.decode_entry(&key, &value)?.log_id();
        let expected = before.map_or(0, |id| id.index() + 1);
        if id.index() != expected {
            let what = format!("log index {expected} is missing, the next one is {}", id.index());
            return Err(StoreError::Corrupt(what));
        }
        if before.is_some_and(|before| before.committed_leader_id() > id.committed_leader_id()) {
            return Err(StoreError::Corrupt(format!("the term goes back at log index {}", id.index())));
        }
        if let Some((term, index)) = seen.last
            && index == id.index()
            && term > id.committed_leader_id().term
        {
            let what = format!(
                "log index {index} has term {}, it was of term {term}",
                id.committed_leader_id().term
            );
            return Err(StoreError::Corrupt(what));
        }
        before = Some(id);
    }
    Ok(before)
}

fn not_behind(seen: Mark, last: Option<LogId>, vote: Option<Vote>) -> Result<(), StoreError> {
    if let Some((term, index)) = seen.last
        && last.is_none_or(|last| last.index() < index)
    {
        let what = format!(
            "the log ends at {}, entries up to {index} of term {term} were acknowledged",
            show(&last)
        );
        return Err(StoreError::Corrupt(what));
    }
    let now = vote.as_ref().map(Mark::of_vote);
    if seen.vote.is_some_and(|seen| now.is_none_or(|now| forgot(seen, now))) {
        let what = format!("the vote on record is {now:?}, it was {:?} (term, node, committed)", seen.vote);
        return Err(StoreError::Corrupt(what));
    }
    Ok(())
}

/// Whether a node that votes as in `now` may have forgotten that it voted as in `seen`. Within a term only one thing may
/// follow a vote: that its leader is known, whomever the vote was for.
fn forgot(seen: (u64, u64, bool), now: (u64, u64, bool)) -> bool {
    let follows = !seen.2 && now.2;
    now.0 < seen.0 || now.0 == seen.0 && now != seen && !follows
}

fn show(id: &Option<LogId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| format!("index {}", id.index()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_gives_way_to_a_newer_one_and_to_the_leader_of_its_term() {
        let (given, to_another, leader, other_leader) =
            ((2, 4, false), (2, 5, false), (2, 5, true), (2, 4, true));
        // A candidate that lost follows the winner; the mark may still say whom it had voted for (tier B, seed 2717).
        for (seen, now) in [
            (given, given),
            (given, leader),
            (given, other_leader),
            (leader, leader),
            (leader, (3, 4, false)),
            (given, (3, 5, false)),
        ] {
            assert!(!forgot(seen, now), "{seen:?} then {now:?}");
        }
        for (seen, now) in [
            (given, to_another),
            (leader, to_another),
            (leader, given),
            (leader, other_leader),
            ((3, 4, false), leader),
        ] {
            assert!(forgot(seen, now), "{seen:?} then {now:?}");
        }
    }
}
