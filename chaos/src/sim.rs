//! `cargo chaos sim`: builds the simulation with its own profile and runs it. The simulation itself is `tests/sim`, which
//! knows nothing of this rig.

use crate::{paths, rig_error::rig_failure};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What is handed on to the simulation.
#[derive(Args)]
pub struct SimArgs {
    /// Which tier: `a` is the model log, `b` the product's own Raft
    #[arg(long, default_value = "a")]
    tier: String,
    /// Runs of this kind only: `storm`, `observers` (only a minority's view, or one direction, is harmed) or `flap`
    #[arg(long)]
    kind: Option<String>,
    /// Seeds, as A..B (B not among them)
    #[arg(long, required_unless_present = "seed")]
    seeds: Option<String>,
    /// One seed, with what happened where a promise is broken
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// With that seed: all that happened, whatever comes of it
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// Seeds at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The profile of ordinary tests: built at once, a fifth as fast
    #[arg(long)]
    dev: bool,
}

/// Builds and runs it; its exit code is this one's.
pub fn run(args: &SimArgs) -> Result<u8> {
    let mut command = Command::new(build("sim", if args.dev { "dev" } else { "sim" })?);
    command.current_dir(paths::root()).args(["--tier", &args.tier, "--jobs", &args.jobs.to_string()]);
    if let Some(kind) = &args.kind {
        command.args(["--kind", kind]);
    }
    if let Some(seeds) = &args.seeds {
        command.args(["--seeds", seeds]);
    }
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if args.verbose {
        command.arg("--verbose");
    }
    let status = command.status()?;
    Ok(status.code().map_or(2, |code| code as u8))
}

/// Builds a test target of the product; returns the program that cargo names.
pub fn build(target: &str, profile: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["test", "--quiet", "--package", "quorate", "--test", target, "--no-run"])
        .args(["--profile", if profile == "dev" { "test" } else { profile }, "--message-format", "json"])
        .current_dir(paths::root())
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err(rig_failure(format!("{target} does not build ({})", built.status)));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let program = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut program = program.filter_map(|message| {
        let is_it = message["target"]["name"] == target;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    program.next().ok_or_else(|| rig_failure(format!("cargo names no program for {target}")))
}
