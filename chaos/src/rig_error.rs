//! Failures of the rig itself. They are never a result about Quorate: exit code 2, outcome `rig-failed` or `skipped`.

use std::fmt;

/// Why the rig could not do its part.
#[derive(Debug)]
pub enum RigError {
    /// Something the rig needs is broken: a flavour cannot be installed, a fault did not take.
    Failed(String),
    /// This machine does not offer what the scenario needs.
    Skipped(String),
}

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RigError::Failed(why) => write!(f, "rig failure: {why}"),
            RigError::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl std::error::Error for RigError {}

/// A rig failure as an `anyhow` error.
pub fn rig_failure(why: impl Into<String>) -> anyhow::Error {
    RigError::Failed(why.into()).into()
}
