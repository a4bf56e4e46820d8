//! Where nothing may happen, nothing may be sent: the servers' general logs say what was.

use crate::{gather, stage::Stage};
use anyhow::Result;

/// A violation for each changing statement that any server was sent.
pub fn accuse(stage: &mut Stage<'_>) -> Result<()> {
    for statement in gather::statements(&stage.topology)? {
        let server = stage.topology.server(statement.server);
        stage.record.violations.push(format!("{server} was sent: {}", statement.sql));
    }
    Ok(())
}
