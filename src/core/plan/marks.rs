//! What the voters remember of what each server held (P6), and what that says of what was read of it now.
//!
//! An acker acknowledges what it has *received*; a machine that loses power keeps what it has *synced*. Whoever came back is
//! taken at its word again only when a voter saw it, after that start, hold all that the primary had executed by then:
//! whatever it had acknowledged in an earlier life is part of that.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    mistake::{Mistake, planted},
    model::{
        facts::{ServerFacts, is_same_start},
        gtid::GtidSet,
        server::ServerId,
    },
};

/// What is remembered of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// All that it was seen to hold.
    pub held: GtidSet,
    /// Starts of the server, as its facts date them (Unix seconds), since which it was seen to hold all that the primary
    /// had executed.
    pub caught_up: BTreeSet<u64>,
}

/// Marks by server.
pub type Marks = BTreeMap<ServerId, Mark>;

/// Takes what another voter remembers into `marks`: what any of them saw counts.
pub fn raise(marks: &mut Marks, others: Marks) {
    for (server, other) in others {
        match marks.get_mut(&server) {
            Some(mark) => {
                mark.held.merge(&other.held);
                mark.caught_up.extend(other.caught_up);
            }
            None => drop(marks.insert(server, other)),
        }
    }
}

/// What a server was seen to hold and does not now; `None` for one that holds it all. `passed`: what it received though its
/// facts do not name it, as on MariaDB what stands before the place that it has read to.
pub fn shrunk(mark: Option<&Mark>, now: &ServerFacts, passed: &GtidSet) -> Option<GtidSet> {
    let mut has = now.in_hand();
    has.merge(passed);
    let held = &mark?.held;
    (!has.contains(held) && !planted(Mistake::ShrunkSetAccepted)).then(|| held.subtract(&has))
}

/// Why an old primary that is read-only is not opened again: it lacks a part of what it wrote itself (`must_hold`), so a
/// power failure took it (no `sync_binlog=1`), and it would give those numbers to other transactions. One whose `read_only` is
/// off does that already, or a person opened it; or commits wait there (MySQL's `offline_mode` keeps clients and
/// acknowledgements out), which the set shows only when they have ended.
pub fn unfit_to_open(now: &ServerFacts, must_hold: &GtidSet) -> Option<String> {
    let lost = now.executed.lost_of_its_own(&now.identity, must_hold);
    let is_fit = !now.read_only || lost.is_empty();
    (!is_fit && !planted(Mistake::ShortenedPrimaryOpened)).then(|| {
        format!(
            "it lacks what it wrote itself and held before, or others hold, and would give those numbers to other transactions: \
             promote another server (quorate failover --waive verdict), or open it by hand (SET GLOBAL read_only=OFF) and lose \
             it; missing: {lost}"
        )
    })
}

/// Why what an acker holds now may lack something that it acknowledged; `None` when it does not. `passed`: see [`shrunk`].
pub fn doubt(mark: Option<&Mark>, now: &ServerFacts, passed: &GtidSet) -> Option<String> {
    if let Some(shrunk) = shrunk(mark, now, passed) {
        return Some(format!("it held {shrunk} before and does not now"));
    }
    let since_start = mark.zip(now.started_at_s).is_some_and(|(mark, started)| {
        mark.caught_up.iter().any(|caught_up| is_same_start(*caught_up, started))
    });
    (!since_start && !planted(Mistake::RestartedAckerTrusted)).then(|| {
        "no node saw it hold all that the primary had executed since it was started; what it had received before may be lost"
            .into()
    })
}
