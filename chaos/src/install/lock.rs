//! `servers.lock`: the exact packages of each bundle, one a line: bundle, package, version, sha256, archive, path.

use super::{apt::Mirrors, bundle::Bundle};
use crate::paths;
use anyhow::{Context, Result};

/// One package file of a Debian archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deb {
    /// Package name.
    pub package: String,
    /// Full Debian version.
    pub version: String,
    /// What the file must hash to.
    pub sha256: String,
    /// `debian` or `debian-security`.
    pub archive: String,
    /// Path inside the archive.
    pub path: String,
}

/// The packages the lock names for a bundle; empty when the lock does not know it.
pub fn read(bundle: &str) -> Result<Vec<Deb>> {
    let text = std::fs::read_to_string(paths::lock_file()).context("chaos/servers.lock")?;
    Ok(parse(&text, bundle))
}

fn parse(text: &str, bundle: &str) -> Vec<Deb> {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [of, package, version, sha256, archive, path] = words.as_slice() else { return None };
            (*of == bundle).then(|| Deb {
                package: package.to_string(),
                version: version.to_string(),
                sha256: sha256.to_string(),
                archive: archive.to_string(),
                path: path.to_string(),
            })
        })
        .collect()
}

/// Writes the lock anew from today's closures.
pub fn write(bundles: &[Bundle]) -> Result<()> {
    let mirrors = Mirrors::of_host()?;
    let mut text = String::from(
        "# Exact packages of the rig's servers and network tools (amd64): bundle package version sha256 archive path\n\
         # Written by `cargo chaos install --write-lock`.\n",
    );
    for bundle in bundles {
        for d in bundle.closure(&mirrors)? {
            text += &format!(
                "{} {} {} {} {} {}\n",
                bundle.name, d.package, d.version, d.sha256, d.archive, d.path
            );
        }
    }
    std::fs::write(paths::lock_file(), text)?;
    println!("wrote chaos/servers.lock");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_bundle_are_read() {
        let text =
            "# head\nmysql a 1 h1 debian pool/a\nmariadb b 2 h2 debian-security pool/b\n\nbroken line\n";
        let debs = parse(text, "mariadb");
        assert_eq!(debs.len(), 1);
        assert_eq!((debs[0].package.as_str(), debs[0].archive.as_str()), ("b", "debian-security"));
    }

    #[test]
    fn the_committed_lock_names_both_servers_with_their_libc() {
        for (bundle, server) in
            [("mysql", "mysql-server-core"), ("mariadb", "mariadb-server-core"), ("tools", "nftables")]
        {
            let debs = read(bundle).unwrap();
            for package in [server, "libc6"] {
                assert!(
                    debs.iter().any(|d| d.package == package && d.sha256.len() == 64),
                    "{bundle}: {package}"
                );
            }
        }
    }
}
