//! Getting namespaces of our own, for the network and for mounts: the rig execs itself again under `unshare`.

use crate::rig_error::RigError;
use anyhow::Result;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const INSIDE: &str = "QUORATE_CHAOS_NAMESPACE";

/// True once this process runs in namespaces of its own.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Replaces this process by itself in new namespaces: as an unprivileged user's first, else as root.
/// Returns only with the reason why neither works.
pub fn enter() -> Result<std::convert::Infallible> {
    for flags in
        [["--user", "--map-root-user", "--net", "--mount"].as_slice(), ["--net", "--mount"].as_slice()]
    {
        let works = Command::new("unshare")
            .args(flags)
            .arg("true")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !works.is_ok_and(|s| s.success()) {
            continue;
        }
        let error = Command::new("unshare")
            .args(flags)
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        return Err(error.into());
    }
    Err(RigError::Skipped("needs root or user namespaces".into()).into())
}
