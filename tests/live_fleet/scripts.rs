//! The scripts. Those about lost data tell what `docs/` and the executor's comments say was measured.

mod replication;
mod semi_sync;
mod sessions;
mod steps;

use quorate::model::server::Flavor;

use crate::line::Script;

/// Told for both flavours.
const BOTH: &[Flavor] = &[Flavor::MySql, Flavor::MariaDb];
/// Of one.
const MYSQL: &[Flavor] = &[Flavor::MySql];
const MARIADB: &[Flavor] = &[Flavor::MariaDb];

/// All of them.
pub fn all() -> Vec<Script> {
    let parts = [replication::scripts(), semi_sync::scripts(), sessions::scripts(), steps::scripts()];
    parts.into_iter().flatten().collect()
}
