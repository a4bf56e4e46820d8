//! The one binary: the daemon (`serve`), the rescue of a stopped node, and the client commands.
#![forbid(unsafe_code)]

use std::{future::Future, io::IsTerminal, path::Path, process::ExitCode};

use quorate::{
    cli::{self, CliError, NodesVerb, Verb},
    config::Config,
    mistake,
    server::{self, rescue::Rescued},
};

/// A node waits nearly all the time. A second worker is woken to look for work at every event, and finds none: that
/// was about a sixth of the CPU. What blocks (disk, names) runs on threads of its own.
const WORKERS: usize = 1;

fn main() -> ExitCode {
    let cli = cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return cli::report(&CliError::local(format!("cannot start: {error}")), cli.json),
        };
    let json = cli.json;
    let done = runtime.block_on(async {
        match &cli.verb {
            Verb::Serve { config, check } => serve(config, *check).await,
            Verb::Nodes(NodesVerb::Restore { config, backup }) => {
                let config = load(config)?;
                rescue(server::rescue::restore(&config, backup), json).await
            }
            Verb::Nodes(NodesVerb::Rebuild { config, .. }) => {
                let config = load(config)?;
                rescue(server::rescue::rebuild(&config), json).await
            }
            _ => return Ok(cli::run(cli).await),
        }
        .map(|()| ExitCode::SUCCESS)
    });
    done.unwrap_or_else(|error| cli::report(&error, json))
}

fn load(file: &Path) -> Result<Config, CliError> {
    Config::load(file).map_err(|error| CliError::local(chain(&error.into())))
}

async fn serve(file: &Path, check: bool) -> Result<(), CliError> {
    let config = load(file)?;
    if check {
        println!("{} is fine", file.display());
        return Ok(());
    }
    let mistake = mistake::chosen().map_err(|unknown| CliError::local(unknown.to_string()))?;
    start_log();
    if let Some(mistake) = mistake {
        tracing::warn!(?mistake, "this node makes a mistake on purpose");
    }
    server::run(config).await.map_err(|error| CliError::local(chain(&error)))
}

async fn rescue(work: impl Future<Output = anyhow::Result<Rescued>>, json: bool) -> Result<(), CliError> {
    let made = work.await.map_err(|error| CliError::local(chain(&error)))?;
    let Rescued { incarnation, generation, log_index, kept } = made;
    if json {
        let kept = kept.map(|path| path.display().to_string());
        println!(
            "{}",
            serde_json::json!({
                "incarnation": incarnation, "generation": generation, "log_index": log_index, "kept": kept,
            })
        );
        return Ok(());
    }
    println!("a new group of this one node was made, with the state as of log index {log_index}");
    if let Some(kept) = kept {
        println!("the old data was left in {}", kept.display());
    }
    println!(
        "next: make sure that the lost nodes never start again; `quorate serve`; `quorate nodes add ...` with new \
         numbers; look at each cluster; `quorate recoveries-enabled on`"
    );
    Ok(())
}

fn start_log() {
    // h2 warns of every frame that makes no sense: whoever reaches a port could fill the disk.
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=warn,h2=error"));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}

/// An error with its causes, in one line.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
