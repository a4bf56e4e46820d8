//! x
pub mod clock;
pub mod discovery;
pub mod driver;
pub mod fencer;
pub mod group;
pub mod leader;
pub mod observer;
pub mod pause;
pub mod peer;
pub mod reporter;

/// Runs a node until it is told to stop.
pub async fn run(_config: crate::config::Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no daemon yet")
}
