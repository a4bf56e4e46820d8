//! When the majority is lost for ever: one stopped node's directory becomes a new group, from its own data or from a
//! backup. Automatic recoveries stay disabled until a person enables them: what the lost nodes knew is not known.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::raft_options;
use crate::{
    config::Config,
    core::replicated::{State, Switch},
    raft::{Rebuilt, rebuild_unsafe, restore_into},
};

/// The new group of one node.
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

/// Makes a new group of one node out of a backup; its data directory must be empty.
pub async fn restore(config: &Config, backup: &Path) -> anyhow::Result<Rescued> {
    let bytes = std::fs::read(backup).with_context(|| format!("{} cannot be read", backup.display()))?;
    let made =
        restore_into(&raft_options(config), &bytes, |state| disable(state, "restored from a backup")).await;
    Ok(made.with_context(|| format!("{} was not restored", backup.display()))?.into())
}

/// Makes a new group of one node out of what that node has.
pub async fn rebuild(config: &Config) -> anyhow::Result<Rescued> {
    let made =
        rebuild_unsafe(&raft_options(config), |state| disable(state, "rebuilt from one survivor")).await;
    Ok(made.with_context(|| format!("{} was not rebuilt", config.data_dir.display()))?.into())
}

fn disable(state: &mut State, what: &str) {
    state.recoveries_switch = Switch {
        enabled: false,
        by: "quorate".into(),
        why: format!("the group was {what}: look at each cluster, then `quorate recoveries-enabled on`"),
        at_ms: state.log_time_ms,
    };
}
