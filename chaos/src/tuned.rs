//! The simulation built with a profile of itself: an instrumented build plays some seeds, and what it counted tells the
//! compiler which code is hot. A fifth faster; it costs two more builds, the first of them once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{paths, rig_error::rig_failure, targets};

/// Seeds that an instrumented build plays, by tier.
const MEASURED: [(&str, &str); 2] = [("a", "1..251"), ("b", "1..6")];

/// Where all of it lies.
fn folder() -> PathBuf {
    paths::target().join("tuned")
}

/// Builds the simulation with its profile; measures first where that was never done here. A profile of older sources
/// still serves: what changed since is compiled without.
pub fn build() -> Result<PathBuf> {
    let profile = folder().join("sim.profdata");
    if !profile.exists() {
        measure(&profile)?;
    }
    with_flags("used", &format!("-Cprofile-use={}", profile.display()))
}

fn measure(profile: &Path) -> Result<()> {
    let merger = merger()?;
    let raw = folder().join("raw");
    if raw.exists() {
        std::fs::remove_dir_all(&raw)?;
    }
    let program = with_flags("measured", &format!("-Cprofile-generate={}", raw.display()))?;
    // What build scripts and macros counted of themselves.
    std::fs::remove_dir_all(&raw).with_context(|| format!("{} holds no profile", raw.display()))?;
    for (tier, seeds) in MEASURED {
        let played = Command::new(&program).args(["--tier", tier, "--seeds", seeds]).status()?;
        if !played.success() {
            return Err(rig_failure(format!(
                "tier {tier}, seeds {seeds}: {played}; nothing is measured on that"
            )));
        }
    }
    let part = profile.with_extension("part");
    let merged = Command::new(&merger).arg("merge").arg("-o").arg(&part).arg(&raw).status()?;
    if !merged.success() {
        return Err(rig_failure(format!("{} merges no profile: {merged}", merger.display())));
    }
    std::fs::rename(&part, profile)?;
    Ok(std::fs::remove_dir_all(folder().join("measured"))?)
}

fn with_flags(name: &str, flags: &str) -> Result<PathBuf> {
    let set = [("CARGO_TARGET_DIR", folder().join(name).into_os_string()), ("RUSTFLAGS", flags.into())];
    let programs = targets::build_with("sim", None, &["sim"].into(), &set)?;
    Ok(programs["sim"].clone())
}

/// An `llvm-profdata` of rustc's own LLVM: profiles of another one cannot be read.
fn merger() -> Result<PathBuf> {
    let said = |program: &str, args: &[&str]| -> Option<String> {
        let output =
            Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let of_rustc = said("rustc", &["-vV"]).unwrap_or_default();
    let field =
        |name: &str| of_rustc.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let (host, version) = (field("host:"), field("LLVM version:"));
    let major = version.split('.').next().unwrap_or_default();
    let sysroot = said("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let component = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/llvm-profdata");
    let candidates = [component, format!("llvm-profdata-{major}").into(), "llvm-profdata".into()];
    let fits = |program: &PathBuf| {
        let told = program.to_str().and_then(|program| said(program, &["--version"]));
        told.is_some_and(|told| told.contains(&format!("version {major}.")))
    };
    candidates.into_iter().find(fits).ok_or_else(|| {
        rig_failure(format!(
            "no llvm-profdata of LLVM {version}: `rustup component add llvm-tools`, or Debian's package llvm-{major}; \
             without it leave --tuned out"
        ))
    })
}
