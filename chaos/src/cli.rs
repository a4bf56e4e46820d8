//! The command line: `cargo chaos VERB`.

pub mod play;

use crate::{
    cost::Cost,
    flavor::Flavor,
    install,
    kill_matrix::{self, KillMatrixArgs},
    load::Load,
    model::{self, ModelArgs},
    mutants::{self, MutantsArgs},
    net::reexec,
    process,
    product::Build,
    report::{self, ReportArgs},
    rig_error::RigError,
    run_dir::RunDir,
    scenario::Scenario,
    selftest,
    server::options::Settings,
    show::Show,
    sim::{self, SimArgs},
    suite::{self, SuiteArgs},
    topology::Shape,
};
use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use play::{RunArgs, enter_namespace, prepare};
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Real servers, real nodes, faults and checks for Quorate.
///
/// Exit codes: 0 each run ended as its scenario demands, 1 a violation, 2 the rig failed or skipped, 130 interrupted.
#[derive(Parser)]
#[command(name = "cargo chaos", bin_name = "cargo chaos", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring MySQL, MariaDB and the network tools under target/, without root
    Install {
        /// Only this flavour
        #[arg(long)]
        flavor: Option<Flavor>,
        /// Write chaos/servers.lock anew from today's packages
        #[arg(long)]
        write_lock: bool,
        /// Only MariaDB 11.8, which nothing uses unless it is told to
        #[arg(long)]
        mariadb_11_8: bool,
    },
    /// Show every scenario, what it needs and how it must end
    List,
    /// Play a scenario
    Run(RunArgs),
    /// Stop the executing leader before and after each step of a recovery, in every way
    KillMatrix(KillMatrixArgs),
    /// Play scenarios at random for some time
    Suite(SuiteArgs),
    /// Write an HTML page that tells what happened
    Report(ReportArgs),
    /// Start a topology and a group, print the commands to try, and wait for Ctrl-C
    Up(StageArgs),
    /// One failover from beginning to end, told as it happens
    Demo {
        #[command(flatten)]
        stage: StageArgs,
        /// Leave everything running at the end, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Measure CPU and memory of nodes that only watch
    Cost {
        #[command(flatten)]
        stage: StageArgs,
        /// Clusters to watch, each of one primary and its replicas
        #[arg(long, default_value_t = 1)]
        clusters: usize,
        /// How long
        #[arg(long, default_value_t = 45)]
        seconds: u64,
    },
    /// Nodes under load: streams by the thousand, rude and broken clients, floods, and a failover meanwhile
    Load {
        #[command(flatten)]
        stage: StageArgs,
        /// Streams of events
        #[arg(long, default_value_t = 10_000)]
        watchers: usize,
        /// How long each attack goes on
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// Play seeds of the simulation: the real core and actors in a world of their own (docs/chaos.md)
    Sim(SimArgs),
    /// Make each planted mistake and see that a check of the simulation or a test catches it (docs/safety.md)
    Mutants(MutantsArgs),
    /// Explore the life of a recovery exhaustively, as far as it is told (docs/chaos.md)
    Model(ModelArgs),
    /// Examine the rig itself, without Quorate
    Selftest {
        /// Only this flavour
        #[arg(long)]
        flavor: Option<Flavor>,
    },
}

#[derive(Args)]
pub struct StageArgs {
    /// Only this flavour (`up` and `demo`: MySQL unless told)
    #[arg(long)]
    flavor: Option<Flavor>,
    /// Nodes of the group
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: u64,
    /// Replicas of the primary
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Further replicas below the first replica
    #[arg(long, default_value_t = 0)]
    below_first: usize,
    /// Semi-sync, waiting for this many acknowledgements
    #[arg(long)]
    semi_sync: Option<u32>,
    /// Servers flush on each commit and have performance_schema on
    #[arg(long)]
    durable: bool,
    /// Heartbeat period of the replicas, in seconds; the server's default would be 30
    #[arg(long, default_value_t = 0.5)]
    heartbeat: f64,
    /// The replicas' net time-out, in seconds; the server's default is 60
    #[arg(long)]
    net_timeout: Option<u32>,
    /// Build and use the release profile
    #[arg(long)]
    release: bool,
}

impl StageArgs {
    fn shape(&self) -> Shape {
        let settings = Settings {
            semi_sync: self.semi_sync,
            durable: self.durable,
            net_timeout: self.net_timeout,
            ..Settings::default()
        };
        let heartbeat = Duration::from_secs_f64(self.heartbeat.clamp(0.001, 4_294_967.0));
        Shape { replicas: self.replicas, below_first: self.below_first, heartbeat, settings }
    }

    fn build(&self) -> Build {
        Build { release: self.release, pause_points: false }
    }
}

/// See `Cli` for the exit codes.
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(if error.downcast_ref::<RigError>().is_some() { 2 } else { 1 })
        }
    }
}

fn dispatch(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Install { mariadb_11_8: true, .. } => install::later_mariadb().map(|()| 0),
        Verb::Install { flavor, write_lock, .. } => {
            install::command(&flavors(flavor), write_lock).map(|()| 0)
        }
        Verb::List => {
            for scenario in Scenario::value_variants() {
                let needs = if scenario.needs_namespaces() { " (needs namespaces)" } else { "" };
                let ends: Vec<String> = scenario.demand().iter().map(|end| format!("{end:?}")).collect();
                println!("{:<27}{}; ends {}{needs}", scenario.name(), scenario.about(), ends.join(" or "));
            }
            Ok(0)
        }
        Verb::Run(args) => play::run(&args),
        Verb::KillMatrix(args) => kill_matrix::command(&args),
        Verb::Suite(args) => suite::command(&args),
        Verb::Report(args) => report::command(&args),
        Verb::Up(args) => {
            let (show, run) = show(&args)?;
            to_the_end(&run, show.up(&run)).map(|()| 0)
        }
        Verb::Demo { stage, keep } => {
            let (show, run) = show(&stage)?;
            to_the_end(&run, show.demo(&run, keep)).map(|()| 0)
        }
        Verb::Cost { stage, clusters, seconds } => {
            let (Show { flavor, nodes, shape, product }, run) = show(&stage)?;
            let cost = Cost { flavor, nodes, clusters, shape, seconds, product };
            to_the_end(&run, cost.measure(&run)).map(|()| 0)
        }
        Verb::Load { stage, watchers, seconds } => {
            let (Show { flavor, nodes, shape, product }, run) = show(&stage)?;
            let during = Duration::from_secs(seconds);
            let load = Load { flavor, nodes, shape, watchers, during, product };
            to_the_end(&run, load.play(&run))
        }
        Verb::Sim(args) => sim::run(&args),
        Verb::Mutants(args) => mutants::run(&args),
        Verb::Model(args) => model::run(&args),
        Verb::Selftest { flavor } => examine(&flavors(flavor)),
    }
}

fn show(args: &StageArgs) -> Result<(Show, RunDir)> {
    let product = args.build().make()?;
    let flavor = args.flavor.unwrap_or(Flavor::Mysql);
    prepare(&[flavor], false)?;
    Ok((Show { flavor, nodes: args.nodes, shape: args.shape(), product }, RunDir::create(false)?))
}

fn examine(flavors: &[Flavor]) -> Result<u8> {
    let mut partitions = true;
    if !reexec::is_inside() {
        prepare(flavors, true)?;
        let why = enter_namespace()?;
        println!("selftest of partitions: {why}");
        partitions = false;
    }
    let run = RunDir::create(false)?;
    to_the_end(&run, selftest::run(&run, flavors, partitions)).map(|()| 0)
}

/// Runs to the end or to the first SIGINT or SIGTERM; either way nothing of the rig is left behind.
pub fn to_the_end<T>(run: &RunDir, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    });
    process::kill_all();
    // Not waited for: a command line that still hangs is bounded by its own time-out.
    runtime.shutdown_background();
    match outcome? {
        Some(done) => Ok(done),
        None => {
            run.remove();
            eprintln!("chaos: interrupted; everything was stopped");
            std::process::exit(130);
        }
    }
}

fn flavors(one: Option<Flavor>) -> Vec<Flavor> {
    one.map_or_else(|| Flavor::ALL.to_vec(), |f| vec![f])
}
