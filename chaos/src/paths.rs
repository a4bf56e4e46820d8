//! Where the rig keeps things: all of it under `target/`, except the download cache and short-lived sockets.

use std::path::{Path, PathBuf};

/// The root of the repository this rig was built from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("chaos/ has a parent: the workspace").to_path_buf()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Unpacked servers and their initialised templates.
pub fn servers() -> PathBuf {
    target().join("servers")
}

/// One directory a run: data directories, logs, the owner's pid.
pub fn runs() -> PathBuf {
    target().join("chaos")
}

/// Downloads; outside `target/` so that `cargo clean` keeps them. `QUORATE_CACHE` names another place.
pub fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("QUORATE_CACHE").filter(|d| !d.is_empty()) {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME")
        .filter(|d| !d.is_empty())
        .map_or_else(|| target().join("cache"), PathBuf::from);
    home.join(".cache/quorate")
}

/// The committed list of exact packages.
pub fn lock_file() -> PathBuf {
    root().join("chaos/servers.lock")
}
