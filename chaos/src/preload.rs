//! Clocks and syncs of one node, apart from the machine's: a library that is loaded before libc (chaos/preload) reads from a
//! file what the rig wants. A process that was stopped, and whose monotonic clock is held back by as long, was on a machine
//! that was suspended.

use crate::{paths, rig_error::rig_failure};
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Names the file to the library.
pub const FILE: &str = "QUORATE_CHAOS_DIALS";
/// Names the library to the loader.
pub const PRELOAD: &str = "LD_PRELOAD";

const SECOND: i64 = 1_000_000_000;
const WALL: u64 = 0;
const MONOTONIC: u64 = 8;
const SYNC_TAKES: u64 = 16;
const SYNC_FAILS: u64 = 24;
const SYNCS_MET: u64 = 32;
const BYTES: usize = 40;

/// Builds the library and puts it aside.
pub fn make() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "chaos-preload"]).current_dir(paths::root());
    let status = command.status()?;
    if !status.success() {
        return Err(rig_failure(format!("the library that is preloaded does not build ({status})")));
    }
    let library = library();
    std::fs::create_dir_all(library.parent().expect("it is in a folder"))?;
    let part = library.with_extension(format!("{}.part", std::process::id()));
    std::fs::copy(paths::target().join("debug/libchaos_preload.so"), &part)?;
    Ok(std::fs::rename(&part, &library)?)
}

/// Where `make` put it.
pub fn library() -> PathBuf {
    paths::runs().join("bin/libchaos_preload.so")
}

/// What one node's library reads; all as the machine has it to begin with.
pub struct Dials(File);

impl Dials {
    /// Before its process begins.
    pub fn create(path: &Path) -> Result<Dials> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| path.display().to_string())?;
        file.write_all_at(&[0; BYTES], 0)?;
        Ok(Dials(file))
    }

    /// Its wall clock is off by so many seconds.
    pub fn set_wall(&self, seconds: i64) -> Result<()> {
        self.write(WALL, seconds * SECOND)
    }

    /// Its monotonic clock is behind by so much more.
    pub fn hold_back(&self, by: Duration) -> Result<()> {
        self.write(MONOTONIC, self.read(MONOTONIC)? - i64::try_from(by.as_nanos())?)
    }

    /// Each sync takes so much longer.
    pub fn slow_syncs(&self, by: Duration) -> Result<()> {
        self.write(SYNC_TAKES, i64::try_from(by.as_nanos())?)
    }

    /// Syncs fail with EIO from now on, or do no more.
    pub fn fail_syncs(&self, fail: bool) -> Result<()> {
        self.write(SYNC_FAILS, fail.into())
    }

    /// How many syncs were slow or failed.
    pub fn syncs_met(&self) -> Result<i64> {
        self.read(SYNCS_MET)
    }

    fn read(&self, at: u64) -> Result<i64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at)?;
        Ok(i64::from_le_bytes(bytes))
    }

    fn write(&self, at: u64, number: i64) -> Result<()> {
        Ok(self.0.write_all_at(&number.to_le_bytes(), at)?)
    }
}
