//! Named points at which a recovery can be held, for the rig: `QUORATE_PAUSE=<step>:<before|after>` with
//! `QUORATE_PAUSE_DIR`. Compiled in by the feature `pause-points` only, which a release build refuses.

#[cfg(all(feature = "pause-points", not(debug_assertions)))]
compile_error!("pause points hold recoveries up: a release build may not have them");

/// Holds here when this point is the one named in the environment.
#[cfg(feature = "pause-points")]
pub async fn point(node: u64, step: &str, when: &str) {
    let (Ok(wanted), Ok(dir)) = (std::env::var("QUORATE_PAUSE"), std::env::var("QUORATE_PAUSE_DIR")) else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    if wanted != format!("{step}:{when}") || dir.join("continue").exists() {
        return;
    }
    if let Err(error) = std::fs::write(dir.join(format!("node-{node}")), &wanted) {
        tracing::error!(%error, "the pause point cannot be announced");
        return;
    }
    tracing::warn!(wanted, "held at a pause point");
    while !dir.join("continue").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Nothing, in a build without pause points.
#[cfg(not(feature = "pause-points"))]
pub async fn point(_node: u64, _step: &str, _when: &str) {}
