//! Raising the feature level: the leader asks each voter what it understands, and raises when all of them say more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;

use super::Leader;
use crate::{
    core::replicated::{Change, state::FEATURE_LEVEL},
    server::{group::SELF, tools::Tools},
};

/// Pause between two rounds, milliseconds. An upgrade takes minutes; nobody waits for this.
const ASK_EVERY_MS: u64 = 10_000;
/// Bound of one question.
const ASK: Duration = Duration::from_secs(1);

impl Leader {
    /// Asks the voters now and then.
    pub(super) fn tend_level(&mut self) {
        let now = self.tools.now_ms();
        if self.level_asked_ms.is_some_and(|at| now.saturating_sub(at) < ASK_EVERY_MS) {
            return;
        }
        self.level_asked_ms = Some(now);
        let (tools, term) = (self.tools.clone(), self.leadership.term);
        if tools.read(|state| state.feature_level) >= FEATURE_LEVEL {
            return;
        }
        self.work.spawn(self.tools.task(async move {
            let voters = tools.ports.log.membership().voters;
            let said = ask(&tools, &voters).await;
            let has = tools.read(|state| state.feature_level);
            let Some(level) = to_raise(has, &voters, &said) else { return };
            match tools.group.propose(term, Change::RaiseFeatureLevel { level }, SELF, None).await {
                Ok(_) => {
                    tracing::info!(level, "every voter understands this feature level: it is in use now")
                }
                Err(error) => tracing::info!(level, %error, "the feature level was not raised"),
            }
        }));
    }
}

/// What each voter that answers understands.
async fn ask(tools: &Tools, voters: &BTreeSet<u64>) -> BTreeMap<u64, u32> {
    let answers = voters.iter().map(|id| async move {
        if *id == tools.node_id() {
            return Some((*id, FEATURE_LEVEL));
        }
        let level = tools.within(ASK, tools.ports.peers.level(*id)).await?.ok()?;
        Some((*id, level))
    });
    join_all(answers).await.into_iter().flatten().collect()
}

/// The level to raise to: the lowest of all voters, each of whom must have answered, where it is above the present.
fn to_raise(has: u32, voters: &BTreeSet<u64>, said: &BTreeMap<u64, u32>) -> Option<u32> {
    let lowest = voters.iter().map(|id| said.get(id).copied()).min().flatten()?;
    (lowest > has).then_some(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_to_what_every_voter_understands() {
        let voters = BTreeSet::from([1, 2, 3]);
        let said = |levels: &[(u64, u32)]| levels.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(to_raise(1, &voters, &said(&[(1, 3), (2, 2), (3, 3)])), Some(2));
        assert_eq!(to_raise(2, &voters, &said(&[(1, 3), (2, 2), (3, 3)])), None);
        assert_eq!(to_raise(1, &voters, &said(&[(1, 3), (2, 3)])), None, "one voter has not answered");
        assert_eq!(to_raise(1, &voters, &said(&[(1, 3), (2, 3), (3, 3), (9, 1)])), Some(3), "9 has no vote");
        assert_eq!(to_raise(1, &BTreeSet::new(), &said(&[])), None);
    }
}
