//! Bringing real servers under `target/servers/` without root and without changing the host.
//!
//! A *bundle* is a set of Debian packages with its whole library closure, libc included, unpacked side by side
//! with what the host has and run by its own loader. The packages come from `servers.lock`, exactly; when those can
//! no longer be had, from today's closure, with a warning.

pub mod apt;
pub mod bundle;
pub mod fetch;
pub mod lock;

use crate::{flavor::Flavor, paths, rig_error::rig_failure};
use anyhow::Result;
use bundle::Bundle;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server program that can be run, and the directories it must be told about.
#[derive(Clone, Debug)]
pub struct Install {
    /// Which family.
    pub flavor: Flavor,
    /// What `--version` says, shortened to the number.
    pub version: String,
    /// The program, or the wrapper that runs it under its own loader.
    pub program: PathBuf,
    /// `--basedir`
    pub basedir: PathBuf,
    /// `--plugin-dir`
    pub plugins: PathBuf,
    /// Error messages, character sets and the SQL that creates the system tables.
    pub share: PathBuf,
}

/// The server of this flavour: the one named in the environment, the one unpacked earlier or now, or, where that
/// cannot be done, one on `PATH`. A flavour that cannot be had is a rig failure.
pub fn ensure(flavor: Flavor) -> Result<Install> {
    if let Some(program) = std::env::var_os(flavor.variable()).filter(|p| !p.is_empty()) {
        let program = PathBuf::from(program);
        return on_host(flavor, &program).ok_or_else(|| {
            rig_failure(format!(
                "{} names {}, which does not run as {flavor}",
                flavor.variable(),
                program.display()
            ))
        });
    }
    let bundle = Bundle::of(flavor);
    if bundle.is_current() {
        return unpacked(flavor, &bundle);
    }
    let Err(error) = bundle.install() else { return unpacked(flavor, &bundle) };
    match on_path(flavor.program()).and_then(|p| on_host(flavor, &p)) {
        Some(found) => {
            eprintln!(
                "chaos: warning: {flavor} could not be installed ({error:#}); using {}",
                found.program.display()
            );
            Ok(found)
        }
        None => Err(rig_failure(format!("{flavor} could not be installed: {error:#}"))),
    }
}

/// A small program of the network tools: the host's own, else the unpacked one.
pub fn tool(name: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(name) {
        return Ok(found);
    }
    let bundle = Bundle::tools();
    if !bundle.is_current() {
        bundle
            .install()
            .map_err(|e| rig_failure(format!("{name} is not here and could not be installed: {e:#}")))?;
    }
    let path = bundle.program(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(rig_failure(format!("{name}: not on PATH and not in {}", path.display())))
    }
}

/// The first program of that name on `PATH`, `/usr/sbin` and `/sbin` included.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|d| d.join(name)).find(|p| p.is_file())
}

fn unpacked(flavor: Flavor, bundle: &Bundle) -> Result<Install> {
    let program = bundle.program(flavor.program());
    let version = version_of(flavor, &program)
        .ok_or_else(|| rig_failure(format!("{} does not run", program.display())))?;
    let usr = bundle.root().join("usr");
    Ok(install(flavor, version, program, usr))
}

fn on_host(flavor: Flavor, program: &Path) -> Option<Install> {
    let version = version_of(flavor, program)?;
    // .../usr/sbin/mysqld -> .../usr; a wrapper of ours -> the root it runs.
    let above = program.canonicalize().ok()?.parent()?.parent()?.to_path_buf();
    let unpacked = above.join("root/usr");
    let basedir = if unpacked.exists() { unpacked } else { above };
    Some(install(flavor, version, program.to_path_buf(), basedir))
}

fn install(flavor: Flavor, version: String, program: PathBuf, usr: PathBuf) -> Install {
    // Debian's layout; a vendor's tarball has lib/plugin and share itself.
    let first = |choices: &[&str]| {
        let found = choices.iter().map(|choice| usr.join(choice)).find(|path| path.exists());
        found.unwrap_or_else(|| usr.join(choices[0]))
    };
    let share = first(&["share/mysql", "share/mariadb", "share"]);
    let plugins = first(&["lib/mysql/plugin", "lib/plugin"]);
    Install { flavor, version, program, basedir: usr, plugins, share }
}

/// The version, when the program runs and is of this flavour.
fn version_of(flavor: Flavor, program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_mariadb = text.contains("MariaDB");
    if is_mariadb != (flavor == Flavor::Mariadb) {
        return None;
    }
    let version = text.split_whitespace().skip_while(|w| *w != "Ver").nth(1)?;
    Some(version.split('-').next().unwrap_or(version).to_string())
}

/// What `cargo chaos install` does: each flavour asked for, and the network tools; says what is used.
pub fn command(flavors: &[Flavor], write_lock: bool) -> Result<()> {
    if write_lock {
        let all =
            [Bundle::of(Flavor::Mysql), Bundle::of(Flavor::Mariadb), Bundle::tools(), Bundle::mariadb_11_8()];
        return lock::write(&all);
    }
    for flavor in flavors {
        let found = ensure(*flavor)?;
        println!("{flavor} {} ({})", found.version, relative(&found.program));
    }
    for name in ["ip", "nft"] {
        println!("{name} ({})", relative(&tool(name)?));
    }
    Ok(())
}

/// What `cargo chaos install --mariadb-11-8` does: it is used only where its program is named.
pub fn later_mariadb() -> Result<()> {
    let bundle = Bundle::mariadb_11_8();
    if !bundle.is_current() {
        bundle.install().map_err(|e| rig_failure(format!("MariaDB 11.8 could not be installed: {e:#}")))?;
    }
    let found = unpacked(Flavor::Mariadb, &bundle)?;
    println!(
        "MariaDB {}; use it with {}={}",
        found.version,
        Flavor::Mariadb.variable(),
        found.program.display()
    );
    Ok(())
}

fn relative(path: &Path) -> String {
    path.strip_prefix(paths::root()).unwrap_or(path).display().to_string()
}
