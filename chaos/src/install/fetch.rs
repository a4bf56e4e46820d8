//! Downloading packages into the cache, by apt's own transport (it knows the host's proxies), checked by hash.

use super::{apt::Mirrors, lock::Deb};
use crate::paths;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where a package lies in the cache.
pub fn cached(deb: &Deb) -> PathBuf {
    let short = deb.sha256.get(..12).unwrap_or(&deb.sha256);
    paths::cache().join("debs").join(format!(
        "{}_{}_{short}.deb",
        deb.package,
        deb.version.replace(['/', ':'], ".")
    ))
}

/// Makes sure that every package is in the cache and hashes to what is expected.
pub fn all(debs: &[Deb], mirrors: Option<&Mirrors>) -> Result<()> {
    std::fs::create_dir_all(paths::cache().join("debs"))
        .with_context(|| format!("the cache {}", paths::cache().display()))?;
    three_times("download packages", || {
        let missing: Vec<&Deb> = debs.iter().filter(|d| !is_good(d)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mirrors = mirrors
            .context("packages are missing in the cache, and this host has no Debian archive to ask")?;
        download(&missing, mirrors)
    })
}

fn download(debs: &[&Deb], mirrors: &Mirrors) -> Result<()> {
    let helper = "/usr/lib/apt/apt-helper";
    let mut command = Command::new(helper);
    command.args(["-oAPT::Sandbox::User=root", "-qq", "download-file"]).env("LC_ALL", "C");
    let mut partial = Vec::new();
    for deb in debs {
        // Downloaded under another name, so that an interrupted or concurrent run leaves no half file in place.
        let part = cached(deb).with_extension(format!("{}.part", std::process::id()));
        let _ = std::fs::remove_file(&part);
        command.arg(format!("{}/{}", mirrors.archive(&deb.archive), deb.path));
        command.arg(&part).arg(format!("SHA256:{}", deb.sha256));
        partial.push((part, cached(deb), *deb));
    }
    let output = command.output().with_context(|| helper.to_string())?;
    for (part, whole, deb) in &partial {
        if hash(part).is_some_and(|h| h == deb.sha256) {
            std::fs::rename(part, whole)?;
        } else {
            let _ = std::fs::remove_file(part);
        }
    }
    if let Some(deb) = debs.iter().find(|d| !is_good(d)) {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find(|l| l.starts_with("E:")).unwrap_or("no error given");
        bail!("{} {}: {line}", deb.package, deb.version);
    }
    Ok(())
}

fn is_good(deb: &Deb) -> bool {
    let path = cached(deb);
    path.exists() && hash(&path).is_some_and(|h| h == deb.sha256)
}

fn hash(path: &Path) -> Option<String> {
    let output = Command::new("sha256sum").arg(path).output().ok().filter(|o| o.status.success())?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().map(str::to_string)
}

/// Three attempts, a second apart: a mirror's hiccup is not worth a red run.
pub fn three_times<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut left = 3;
    loop {
        left -= 1;
        match attempt() {
            Ok(done) => return Ok(done),
            Err(e) if left == 0 => return Err(e.context(format!("{what}: three attempts failed"))),
            Err(e) => {
                eprintln!("chaos: {what}: {e:#}; trying again");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
