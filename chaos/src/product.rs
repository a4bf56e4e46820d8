//! The `quorate` binary under test: built before it is used, and named by commit in every record.

use crate::{paths, process, rig_error::rig_failure};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Names a binary to test instead of the one built here, e.g. an older release, or what a long batch began with. A file
/// beside it with the extension `commit` says where it comes from.
const GIVEN: &str = "QUORATE_CHAOS_BINARY";

/// A built binary.
#[derive(Clone, Debug)]
pub struct Product {
    /// The program.
    pub program: PathBuf,
    /// Short commit, `-dirty` appended when the checkout has changes.
    pub commit: String,
    /// `debug` or `release`.
    pub profile: &'static str,
}

/// Which build.
#[derive(Clone, Copy, Debug, Default)]
pub struct Build {
    /// The release profile.
    pub release: bool,
    /// With pause points compiled in.
    pub pause_points: bool,
}

impl Build {
    /// Builds the binary and puts it aside, so that builds with other features do not replace it.
    pub fn make(self) -> Result<Product> {
        if std::env::var_os(GIVEN).is_some() {
            return self.found();
        }
        let profile = if self.release { "release" } else { "debug" };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--bin", "quorate"]).current_dir(paths::root());
        if self.release {
            command.arg("--release");
        }
        if self.pause_points {
            command.args(["--features", "pause-points"]);
        }
        let status = command.status()?;
        if !status.success() {
            return Err(rig_failure(format!("quorate does not build ({status})")));
        }
        let program = self.program();
        std::fs::create_dir_all(paths::runs().join("bin"))?;
        // Renamed into place: another rig may be running the old one.
        let part = program.with_extension(format!("{}.part", std::process::id()));
        std::fs::copy(paths::target().join(profile).join("quorate"), &part)?;
        std::fs::rename(&part, &program)?;
        // A long batch is named by what it runs, whatever becomes of the checkout meanwhile.
        std::fs::write(program.with_extension("commit"), commit())?;
        self.found()
    }

    /// What `make` built, without building: inside a namespace there is no network for cargo.
    pub fn found(self) -> Result<Product> {
        if let Some(given) = std::env::var_os(GIVEN) {
            let program = PathBuf::from(given);
            let commit = std::fs::read_to_string(program.with_extension("commit"));
            return Ok(Product {
                commit: commit.unwrap_or_else(|_| "given".into()),
                program,
                profile: "given",
            });
        }
        let program = self.program();
        if !program.exists() {
            return Err(rig_failure(format!("{} was not built", program.display())));
        }
        let profile = if self.release { "release" } else { "debug" };
        let commit = std::fs::read_to_string(program.with_extension("commit"));
        Ok(Product { commit: commit.unwrap_or_else(|_| "unknown".into()), program, profile })
    }

    fn program(self) -> PathBuf {
        let profile = if self.release { "release" } else { "debug" };
        let pause = if self.pause_points { "-pause" } else { "" };
        paths::runs().join("bin").join(format!("quorate-{profile}{pause}"))
    }
}

fn commit() -> String {
    let root = paths::root().display().to_string();
    let git = |args: &[&str]| process::run("git", &[&["-C", &root], args].concat());
    match (git(&["rev-parse", "--short=12", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no"]))
    {
        (Ok(head), Ok(changes)) if changes.trim().is_empty() => head.trim().to_string(),
        (Ok(head), _) => format!("{}-dirty", head.trim()),
        _ => "unknown".into(),
    }
}
