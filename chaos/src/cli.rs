//! The command line: `cargo chaos VERB`.

use crate::{flavor::Flavor, install, net::reexec, process, rig_error::RigError, run_dir::RunDir, selftest};
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::future::Future;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Real servers, real nodes, faults and checks for Quorate.
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
    },
    /// Examine the rig itself, without Quorate
    Selftest {
        /// Only this flavour
        #[arg(long)]
        flavor: Option<Flavor>,
    },
}

/// Exit codes: 0 as demanded, 1 a violation, 2 the rig failed or skipped, 130 interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            let code = if error.downcast_ref::<RigError>().is_some() { 2 } else { 1 };
            ExitCode::from(code)
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Install { flavor, write_lock } => {
            install::command(&flavors(flavor), write_lock)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Selftest { flavor } => {
            let flavors = flavors(flavor);
            prepare(&flavors)?;
            let mut partitions = true;
            if !reexec::is_inside()
                && let Err(why) = enter_namespace()?
            {
                println!("selftest of partitions: {why}");
                partitions = false;
            }
            let run = RunDir::create(false)?;
            to_the_end(&run, selftest::run(&run, &flavors, partitions))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Does what needs the network before this process gives its network up.
fn prepare(flavors: &[Flavor]) -> Result<()> {
    for flavor in flavors {
        install::ensure(*flavor)?;
    }
    for name in ["ip", "nft"] {
        install::tool(name)?;
    }
    Ok(())
}

/// Does not return when it works. `Err` inside is the reason why partitions are skipped.
fn enter_namespace() -> Result<Result<(), RigError>> {
    match reexec::enter() {
        Ok(()) => Ok(Ok(())),
        Err(error) => error.downcast::<RigError>().map(Err),
    }
}

/// Runs to the end or to the first SIGINT or SIGTERM; either way nothing of the rig is left behind.
fn to_the_end<T>(run: &RunDir, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => Some(done).transpose(),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    });
    process::kill_all();
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
