//! The daemon. A stub until the parts are wired.

/// Runs a node until it is told to stop.
pub async fn run(_config: crate::config::Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no daemon yet")
}
