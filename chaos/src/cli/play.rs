//! Options of everything that plays runs, and what must be ready before the first one.

use super::{StageArgs, flavors};
use crate::{
    act::Act,
    depth::Depth,
    install,
    net::reexec,
    preload,
    product::Build,
    rig_error::RigError,
    run_dir::RunDir,
    runner::{self, Ask, Plan},
    scenario::Scenario,
};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// What is common to them.
#[derive(Args)]
pub struct PlayArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write the records to this file, `-` for standard output; what they are made of goes to FILE.d
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Keep data directories and logs under target/chaos/
    #[arg(long)]
    pub keep: bool,
    /// How much is written down; with `--release`, which figures are taken with, light unless told
    #[arg(long)]
    pub evidence: Option<Depth>,
}

impl PlayArgs {
    /// What they ask for.
    pub fn ask(&self) -> Ask {
        let depth = if self.stage.release { Depth::Light } else { Depth::Full };
        let depth = self.evidence.unwrap_or(depth);
        let mut shape = self.stage.shape();
        shape.settings.general_log = depth == Depth::Full;
        Ask {
            flavors: flavors(self.stage.flavor),
            nodes: self.stage.nodes,
            seed: self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
            json: self.json.clone(),
            shape,
            build: self.stage.build(),
            depth,
        }
    }
}

/// `cargo chaos run`.
#[derive(Args)]
pub struct RunArgs {
    /// Which one; `cargo chaos list` shows them
    scenario: Scenario,
    #[command(flatten)]
    play: PlayArgs,
    /// How often, per flavour
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
}

/// Plays a scenario.
pub fn run(args: &RunArgs) -> Result<u8> {
    let (ask, act) = (args.play.ask(), Act::Scenario(args.scenario));
    if let Some(why) = ready(&ask, &[act.needs_pause_points()], act.needs_namespaces())? {
        return skipped(&ask, act, &why);
    }
    let run_dir = RunDir::create(args.play.keep)?;
    super::to_the_end(&run_dir, runner::run(&run_dir, &ask, act, args.runs))
}

/// Builds and installs what is used, while the network is there, and enters a namespace where packets must be dropped.
/// Does not return where that works; the same command then runs on inside. Gives the reason where it does not.
pub fn ready(ask: &Ask, pause_points: &[bool], partitions: bool) -> Result<Option<RigError>> {
    if reexec::is_inside() {
        return Ok(None);
    }
    for pause_points in pause_points {
        Build { pause_points: *pause_points, ..ask.build }.make()?;
    }
    preload::make()?;
    prepare(&ask.flavors, partitions)?;
    if partitions { enter_namespace().map(Some) } else { Ok(None) }
}

/// Installs what is used.
pub fn prepare(flavors: &[crate::flavor::Flavor], partitions: bool) -> Result<()> {
    for flavor in flavors {
        install::ensure(*flavor)?;
    }
    if partitions {
        for name in ["ip", "nft"] {
            install::tool(name)?;
        }
    }
    Ok(())
}

/// Does not return when it works; else gives the reason why partitions are skipped.
pub fn enter_namespace() -> Result<RigError> {
    match reexec::enter() {
        Ok(never) => match never {},
        Err(error) => error.downcast::<RigError>(),
    }
}

fn skipped(ask: &Ask, act: Act, why: &RigError) -> Result<u8> {
    let plan = |flavor| Plan { ask, act, flavor, number: 1 };
    let records: Vec<_> =
        ask.flavors.iter().map(|flavor| runner::skipped(&plan(*flavor), &why.to_string())).collect();
    records.iter().for_each(|record| println!("{}", record.line()));
    runner::write(ask.json.as_deref(), &records)?;
    Ok(runner::exit_code(records.iter().map(|record| (act, record))))
}
