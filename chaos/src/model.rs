//! `cargo chaos model`: explores the life of a recovery as far as it is told (`tests/model`).

use crate::{paths, sim};
use anyhow::Result;
use clap::Args;
use std::process::Command;

/// What is handed on to the model.
#[derive(Args)]
pub struct ModelArgs {
    /// Events on one path, at most
    #[arg(long)]
    depth: Option<usize>,
    /// Faults on one path, at most
    #[arg(long)]
    faults: Option<u32>,
    /// Only scenarios with these words in their name
    #[arg(long)]
    only: Option<String>,
    /// The profile of ordinary tests: built at once, a fifth as fast
    #[arg(long)]
    dev: bool,
}

/// Builds and runs it; its exit code is this one's.
pub fn run(args: &ModelArgs) -> Result<u8> {
    let mut command = Command::new(sim::build("model", args.dev)?);
    command.current_dir(paths::root());
    let depth = args.depth.map(|depth| depth.to_string());
    let faults = args.faults.map(|faults| faults.to_string());
    for (name, value) in [("--depth", depth), ("--faults", faults), ("--only", args.only.clone())] {
        command.args(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    }
    let status = command.status()?;
    Ok(status.code().map_or(2, |code| code as u8))
}
