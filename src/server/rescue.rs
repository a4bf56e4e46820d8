//! When the group is lost: a new group of one, from a survivor's directory or from a backup. The node must not run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    config::Config,
    core::replicated::{Ending, Phase, State, Switch},
    raft::{self, Rebuilt},
    server::{group::SELF, raft_options},
};

/// The new group of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// Name of the new data.
    pub incarnation: String,
    /// Which rebuild of the group this is.
    pub generation: u64,
    /// Newest log index of what it was made from.
    pub log_index: u64,
    /// Where the old data was left.
    pub kept: Option<PathBuf>,
}

impl From<Rebuilt> for Rescued {
    fn from(made: Rebuilt) -> Self {
        let Rebuilt { incarnation, generation, index, kept } = made;
        Self { incarnation, generation, log_index: index, kept }
    }
}

/// Makes the survivor a new group of one. UNSAFE: see `quorate nodes rebuild --help`.
pub async fn rebuild(config: &Config) -> anyhow::Result<Rescued> {
    let options = raft_options(config);
    let made = raft::rebuild_unsafe(&options, |state| set_at_rest(state, "rebuilt from one survivor")).await;
    Ok(made.with_context(|| format!("{} was not rebuilt", config.data_dir.display()))?.into())
}

/// Makes an empty directory a new group of one, with the state of a backup.
pub async fn restore(config: &Config, backup: &Path) -> anyhow::Result<Rescued> {
    let bytes = std::fs::read(backup).with_context(|| format!("{} cannot be read", backup.display()))?;
    let options = raft_options(config);
    let made =
        raft::restore_into(&options, &bytes, |state| set_at_rest(state, "restored from a backup")).await;
    Ok(made.with_context(|| format!("{} was not restored", backup.display()))?.into())
}

/// The state may be older than what the lost nodes knew: nothing in it may act before a person has looked. Recoveries
/// are off, running ones are over, and no standing order is left that could fence a server promoted since.
fn set_at_rest(state: &mut State, how: &str) {
    let why = format!("the group was {how}; look at each cluster, then enable recoveries");
    let at_ms = state.log_time_ms;
    state.recoveries_switch = Switch { enabled: false, by: SELF.into(), why, at_ms };
    state.orders.clear();
    state.verdicts.clear();
    for cluster in state.clusters.values_mut() {
        cluster.slot = None;
        cluster.generation += 1;
    }
    for recovery in state.recoveries.values_mut().filter(|r| r.running()) {
        recovery.phase = Phase::Ended;
        recovery.ending = Some(Ending::Cancelled);
        recovery.reason =
            format!("the group was {how} while it ran: what it did to the servers is not known");
        recovery.ended_ms = Some(at_ms);
    }
}
