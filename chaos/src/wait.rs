//! Waiting for a fact, with a deadline. The rig never sleeps for luck.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a fact is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `fact` is there, or fails naming what was waited for.
pub async fn until<T>(what: &str, within: Duration, fact: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    every(LOOK_EVERY, what, within, fact).await
}

/// The same, for facts that cost something to look at.
pub async fn every<T>(
    step: Duration,
    what: &str,
    within: Duration,
    mut fact: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = fact().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain for {what}");
        }
        tokio::time::sleep(step).await;
    }
}
