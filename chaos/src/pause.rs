//! Holding the executing leader at a named point of a recovery (`src/server/pause.rs` of the product).

use crate::{node::Node, rig_error::rig_failure, stage::Stage, wait};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;

/// A leader comes to its point within this.
const POINT_WITHIN: Duration = Duration::from_secs(30);

/// The leader, once it holds at that point. One that never came is the rig's failure: the fault was not installed.
pub async fn held(stage: &mut Stage<'_>, point: &str) -> Result<Arc<Node>> {
    let dir = stage.pause_dir.clone().context("no pause directory")?;
    let what = format!("a node to hold at {point}");
    let held = wait::until(&what, POINT_WITHIN, async || {
        let is_held = |node: &&Arc<Node>| dir.join(format!("node-{}", node.id)).exists();
        stage.group.nodes.iter().find(is_held).cloned()
    });
    match held.await {
        Ok(node) => {
            stage.say(format!("node {} holds at {point}", node.id));
            Ok(node)
        }
        Err(_) => {
            // The others must not hang for ever at a point that nobody watches.
            go_on(stage)?;
            Err(rig_failure(format!("{what}: it never came; the fault was not installed")))
        }
    }
}

/// From here on nobody pauses any more.
pub fn go_on(stage: &Stage<'_>) -> Result<()> {
    let dir = stage.pause_dir.as_ref().context("no pause directory")?;
    std::fs::write(dir.join("continue"), "").map_err(Into::into)
}
