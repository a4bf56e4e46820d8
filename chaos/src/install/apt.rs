//! Asking apt for a complete package closure, with lists, sources and status of our own.
//!
//! The host's apt configuration (proxies) is used, its state is not touched. The status file is empty, so "what
//! would be installed" is everything that is needed, libc included.

use super::lock::Deb;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Debian's two archives, as this host reaches them.
#[derive(Clone, Debug)]
pub struct Mirrors {
    /// The main archive, e.g. `http://deb.debian.org/debian`.
    pub debian: String,
    /// The security archive.
    pub security: String,
}

impl Mirrors {
    /// Reads the sources this host's apt uses already.
    pub fn of_host() -> Result<Mirrors> {
        let output = Command::new("apt-get")
            .args(["indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"])
            .output()
            .context("apt-get is not here: the rig unpacks Debian packages")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Mirrors::from_targets(&text).context("this host's apt has no Debian archive among its sources")
    }

    /// `text` holds one `SITE RELEASE` a line.
    fn from_targets(text: &str) -> Option<Mirrors> {
        let targets: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once(' ')).collect();
        let debian = targets
            .iter()
            .find(|(site, release)| {
                site.trim_end_matches('/').ends_with("/debian")
                    && !release.contains("security")
                    && !release.contains("updates")
            })?
            .0
            .trim_end_matches('/');
        let security = targets
            .iter()
            .find(|(_, release)| release.ends_with("-security"))
            .map(|(site, _)| site.trim_end_matches('/'));
        let security = security.map_or_else(|| format!("{debian}-security"), str::to_string);
        Some(Mirrors { debian: debian.to_string(), security })
    }

    /// The address of the archive a lock line names.
    pub fn archive(&self, name: &str) -> &str {
        if name == "debian-security" { &self.security } else { &self.debian }
    }

    /// Splits an address into archive name and path.
    fn split(&self, uri: &str) -> Option<(String, String)> {
        let inside =
            |base: &str| uri.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')).map(str::to_string);
        inside(&self.security)
            .map(|p| ("debian-security".to_string(), p))
            .or_else(|| inside(&self.debian).map(|p| ("debian".to_string(), p)))
    }
}

/// The closure of `packages` in `suites` (archive name, suite), as it is today. State is kept in `dir`.
pub fn closure(
    mirrors: &Mirrors,
    dir: &Path,
    suites: &[(&str, &str)],
    packages: &[&str],
) -> Result<Vec<Deb>> {
    for sub in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(dir.join(sub))?;
    }
    std::fs::write(dir.join("status"), "")?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(keyring).exists() { format!("[signed-by={keyring}] ") } else { String::new() };
    let sources: String = suites
        .iter()
        .map(|(archive, suite)| format!("deb {signed}{} {suite} main\n", mirrors.archive(archive)))
        .collect();
    std::fs::write(dir.join("sources.list"), sources)?;

    super::fetch::three_times("read the package lists", || {
        let output = apt_get(dir).args(["-qq", "update"]).output()?;
        if !output.status.success() {
            bail!("apt-get update: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    })?;
    let output = apt_get(dir).args(["-y", "--print-uris", "install"]).args(packages).output()?;
    if !output.status.success() {
        bail!("apt-get install --print-uris: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let debs: Vec<Deb> = text
        .lines()
        .filter_map(|line| parse_uri_line(mirrors, line))
        .filter(|d| wanted(&d.package))
        .collect();
    match packages.iter().find(|p| !debs.iter().any(|d| d.package == **p)) {
        Some(missing) => bail!("{missing} is not in the archive's answer"),
        None => Ok(debs),
    }
}

fn apt_get(dir: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let option = |name: &str, value: String| format!("-o{name}={value}");
    let inside = |name: &str| dir.join(name).display().to_string();
    command.args([
        option("Dir::State::Lists", inside("lists")),
        option("Dir::State::status", inside("status")),
        option("Dir::Etc::sourcelist", inside("sources.list")),
        option("Dir::Etc::sourceparts", "/dev/null".into()),
        option("Dir::Etc::preferences", "/dev/null".into()),
        option("Dir::Etc::preferencesparts", "/dev/null".into()),
        option("Dir::Cache", inside("cache")),
        option("APT::Install-Recommends", "0".into()),
        option("APT::Sandbox::User", "root".into()),
        option("Acquire::ForceHash", "SHA256".into()),
        option("Acquire::Languages", "none".into()),
        option("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
    ]);
    command.env("LC_ALL", "C");
    command
}

/// `'URI' file size SHA256:hash`
fn parse_uri_line(mirrors: &Mirrors, line: &str) -> Option<Deb> {
    let mut words = line.split_whitespace();
    let uri = words.next()?.trim_matches('\'');
    let file = words.next()?;
    let sha256 = words.nth(1)?.strip_prefix("SHA256:")?.to_string();
    let (archive, path) = mirrors.split(uri)?;
    let mut parts = file.split('_');
    let package = parts.next()?.to_string();
    let version = parts.next()?.replace("%3a", ":");
    Some(Deb { package, version, sha256, archive, path })
}

/// Maintenance tools and interpreters that no server loads are left out.
fn wanted(package: &str) -> bool {
    let exact = ["perl", "dpkg", "tar", "debconf", "coreutils", "libcap2-bin", "libpam-cap"];
    let prefix = ["perl-", "libperl", "libgdbm"];
    !exact.contains(&package) && !prefix.iter().any(|p| package.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mirror_is_used_and_other_vendors_are_not() {
        let text = "http://packages.example/debian-like nodistro\nhttp://mirror.example/debian bookworm-updates\n\
                    http://mirror.example/debian bookworm\nhttp://mirror.example/debian-security bookworm-security\n";
        let mirrors = Mirrors::from_targets(text).unwrap();
        assert_eq!(mirrors.debian, "http://mirror.example/debian");
        assert_eq!(mirrors.security, "http://mirror.example/debian-security");
    }

    #[test]
    fn a_line_of_print_uris_becomes_a_lock_entry() {
        let mirrors =
            Mirrors { debian: "http://m/debian".into(), security: "http://m/debian-security".into() };
        let line = "'http://m/debian-security/pool/updates/main/o/x_3.0%7e2_amd64.deb' x_2%3a3.0~2_amd64.deb 20 SHA256:ab12";
        let deb = parse_uri_line(&mirrors, line).unwrap();
        assert_eq!((deb.package.as_str(), deb.version.as_str()), ("x", "2:3.0~2"));
        assert_eq!(
            (deb.archive.as_str(), deb.path.as_str()),
            ("debian-security", "pool/updates/main/o/x_3.0%7e2_amd64.deb")
        );
    }
}
