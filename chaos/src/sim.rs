//! `cargo chaos sim`: builds the simulation with its own profile and runs it. The simulation itself is `tests/sim`, which
//! knows nothing of this rig.

use crate::{paths, targets, tuned};
use anyhow::Result;
use clap::Args;
use std::{path::PathBuf, process::Command};

/// What is handed on to the simulation.
#[derive(Args)]
pub struct SimArgs {
    /// Which tier: `a` is the model log, `b` the product's own Raft
    #[arg(long, default_value = "a")]
    tier: String,
    /// Runs of this kind only: `storm`, `observers` (only the nodes' view, or one direction of it, is harmed) or `flap`
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
    /// Built with a profile of itself: a fifth faster, for ranges of many thousands of seeds. The first time builds twice and
    /// needs llvm-profdata (Debian's package llvm-N, of rustc's LLVM)
    #[arg(long, conflicts_with = "dev")]
    tuned: bool,
}

/// Builds and runs it; its exit code is this one's.
pub fn run(args: &SimArgs) -> Result<u8> {
    let program = if args.tuned { tuned::build()? } else { build("sim", args.dev)? };
    let mut command = Command::new(program);
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

/// Builds a test target of the product, with the simulation's profile or that of ordinary tests; returns its program.
pub fn build(target: &str, dev: bool) -> Result<PathBuf> {
    let programs = targets::build(if dev { "dev" } else { "sim" }, None, &[target].into())?;
    Ok(programs[target].clone())
}
