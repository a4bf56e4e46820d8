//! The directory of one rig process: data, logs, and the pids of its children, so that a later run can clean up
//! after one that was killed with SIGKILL.

use crate::{paths, process};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Removed when dropped, unless kept.
pub struct RunDir {
    dir: PathBuf,
    sockets: PathBuf,
    keep: bool,
}

impl RunDir {
    /// Makes the directory, after sweeping what dead runs left.
    pub fn create(keep: bool) -> Result<RunDir> {
        sweep();
        let me = std::process::id();
        let dir = paths::runs().join(format!("run-{me}"));
        // A Unix socket's path may hold 107 bytes; a checkout may lie deep.
        let sockets = std::env::temp_dir().join(format!("quorate-chaos-{me}"));
        for d in [&dir, &sockets] {
            let _ = std::fs::remove_dir_all(d);
            std::fs::create_dir_all(d).with_context(|| d.display().to_string())?;
        }
        let started = process::stat(me as i32).map_or(0, |(_, start)| start);
        std::fs::write(dir.join("owner"), format!("{me} {started} {}", sockets.display()))?;
        if keep {
            std::fs::write(dir.join("keep"), "")?;
        }
        Ok(RunDir { dir, sockets, keep })
    }

    /// Where data and logs of this process go.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A short directory for Unix sockets.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Notes a child, for the sweeper.
    pub fn register(&self, pid: i32) {
        let started = process::stat(pid).map_or(0, |(_, start)| start);
        if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(self.dir.join("pids")) {
            let _ = writeln!(file, "{pid} {started}");
        }
    }

    /// Whether data and logs stay after the run.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// Removes everything, unless it is kept.
    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.sockets);
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Kills and removes what runs left whose owner is gone.
fn sweep() {
    for entry in std::fs::read_dir(paths::runs()).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Ok(owner) = std::fs::read_to_string(dir.join("owner")) else { continue };
        let mut words = owner.split_whitespace();
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let (pid, started) = (number(), number());
        if is_alive(pid, started) {
            continue;
        }
        for line in std::fs::read_to_string(dir.join("pids")).unwrap_or_default().lines() {
            let Some((pid, started)) = line.split_once(' ') else { continue };
            if let (Ok(pid), Ok(started)) = (pid.parse::<u64>(), started.parse::<u64>())
                && is_alive(pid, started)
            {
                process::kill_pid(pid as i32);
            }
        }
        if let Some(sockets) = words.next().filter(|s| s.contains("quorate-chaos-")) {
            let _ = std::fs::remove_dir_all(sockets);
        }
        if !dir.join("keep").exists() {
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// The same process, not another one with its pid.
fn is_alive(pid: u64, started: u64) -> bool {
    started != 0 && process::stat(pid as i32).is_some_and(|(state, start)| start == started && state != 'Z')
}
