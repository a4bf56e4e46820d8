//! A bundle: packages unpacked under `target/servers/NAME`, run by their own loader through a wrapper.

use super::{
    apt::{self, Mirrors},
    fetch,
    lock::{self, Deb},
};
use crate::{flavor::Flavor, paths};
use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program of the prefix under the prefix's own loader. It execs: the pid the rig starts is the server.
const WRAPPER: &str = r#"#!/bin/sh
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)/root
name=${0##*/}
for dir in usr/sbin usr/bin sbin bin; do
  [ -x "$here/$dir/$name" ] && prog=$here/$dir/$name && break
done
for ld in "$here"/lib/*-linux-gnu/ld-linux-*.so.* "$here"/usr/lib/*-linux-gnu/ld-linux-*.so.*; do
  [ -x "$ld" ] && break
done
libs=
for dir in "$here"/lib/*-linux-gnu "$here"/usr/lib/*-linux-gnu; do
  [ -d "$dir" ] && libs=$libs:$dir
done
exec "$ld" --argv0 "$prog" --library-path "${libs#:}" "$prog" "$@"
"#;

/// What to unpack, from where.
pub struct Bundle {
    /// Directory name and the first word of its lock lines.
    pub name: &'static str,
    packages: &'static [&'static str],
    suites: &'static [(&'static str, &'static str)],
    programs: &'static [&'static str],
}

impl Bundle {
    /// The servers of a flavour.
    pub fn of(flavor: Flavor) -> Bundle {
        match flavor {
            Flavor::Mysql => Bundle {
                name: "mysql",
                packages: &["mysql-server-core", "mysql-client-core"],
                suites: &[("debian", "sid")],
                programs: &["mysqld", "mysql"],
            },
            Flavor::Mariadb => Bundle {
                name: "mariadb",
                packages: &["mariadb-server-core", "mariadb-client-core"],
                suites: &[("debian", "bookworm"), ("debian-security", "bookworm-security")],
                programs: &["mariadbd", "mariadb"],
            },
        }
    }

    /// A later MariaDB, for those who ask for it.
    pub fn mariadb_11_8() -> Bundle {
        Bundle {
            name: "mariadb-11.8",
            packages: &["mariadb-server-core"],
            suites: &[("debian", "trixie"), ("debian-security", "trixie-security")],
            programs: &["mariadbd"],
        }
    }

    /// Programs for partitions, where the host has none.
    pub fn tools() -> Bundle {
        Bundle {
            name: "tools",
            packages: &["nftables", "iproute2"],
            suites: &[("debian", "bookworm"), ("debian-security", "bookworm-security")],
            programs: &["nft", "ip"],
        }
    }

    fn dir(&self) -> PathBuf {
        paths::servers().join(self.name)
    }

    /// The root the packages were unpacked into.
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// The wrapper of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir().join("bin").join(name)
    }

    /// Unpacked and complete, and not from an older lock.
    pub fn is_current(&self) -> bool {
        let Ok(mark) = std::fs::read_to_string(self.dir().join(".complete")) else { return false };
        // Today's closure was the fallback: it stays until `cargo clean` or a new lock.
        mark.ends_with(&lock_mark(self.name))
    }

    /// Today's closure.
    pub fn closure(&self, mirrors: &Mirrors) -> Result<Vec<Deb>> {
        apt::closure(
            mirrors,
            &paths::servers().join(format!("apt-{}", self.name)),
            self.suites,
            self.packages,
        )
    }

    /// Downloads and unpacks: the locked packages, else today's with a warning.
    pub fn install(&self) -> Result<()> {
        let mirrors = Mirrors::of_host();
        let locked = lock::read(self.name)?;
        let exact = match &mirrors {
            Ok(m) => fetch::all(&locked, Some(m)),
            Err(_) => fetch::all(&locked, None),
        };
        match exact {
            Ok(()) if !locked.is_empty() => self.unpack(&locked, "locked"),
            outcome => {
                let why = outcome
                    .err()
                    .map_or_else(|| "the lock does not name it".to_string(), |e| format!("{e:#}"));
                eprintln!(
                    "chaos: warning: {}: the exact packages of servers.lock cannot be had ({why})",
                    self.name
                );
                eprintln!("chaos: warning: {}: taking today's versions instead", self.name);
                let mirrors = mirrors?;
                let today = self.closure(&mirrors)?;
                fetch::all(&today, Some(&mirrors))?;
                self.unpack(&today, "closure")
            }
        }
    }

    fn unpack(&self, debs: &[Deb], source: &str) -> Result<()> {
        let building = paths::servers().join(format!("{}.{}.part", self.name, std::process::id()));
        let _ = std::fs::remove_dir_all(&building);
        std::fs::create_dir_all(building.join("root"))?;
        for deb in debs {
            let file = fetch::cached(deb);
            let status = Command::new("dpkg")
                .arg("-x")
                .arg(&file)
                .arg(building.join("root"))
                .status()
                .context("dpkg")?;
            if !status.success() {
                bail!("dpkg -x {}: {status}", file.display());
            }
        }
        write_wrappers(&building, self.programs)?;
        for program in self.programs {
            let output =
                Command::new(building.join("bin").join(program)).arg(version_flag(program)).output()?;
            if !output.status.success() {
                bail!(
                    "{program} was unpacked but does not run: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        std::fs::write(building.join(".complete"), format!("{source} {}", lock_mark(self.name)))?;
        let _ = std::fs::remove_dir_all(self.dir());
        std::fs::rename(&building, self.dir())?;
        Ok(())
    }
}

fn version_flag(program: &str) -> &'static str {
    if program == "ip" { "-V" } else { "--version" }
}

fn write_wrappers(dir: &Path, programs: &[&str]) -> Result<()> {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin)?;
    let run = bin.join(".run");
    std::fs::write(&run, WRAPPER)?;
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755))?;
    for program in programs {
        symlink(".run", bin.join(program))?;
    }
    Ok(())
}

/// Changes when the lock's lines of this bundle, or the wrapper, change.
fn lock_mark(bundle: &str) -> String {
    let mut hasher = DefaultHasher::new();
    WRAPPER.hash(&mut hasher);
    for deb in lock::read(bundle).unwrap_or_default() {
        deb.sha256.hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
