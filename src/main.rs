//! The one binary: the daemon (`serve`) and the client commands.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::{
    cli::{self, CliError, NodesVerb, Verb},
    config::Config,
};

fn main() -> ExitCode {
    let cli = cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&CliError::local(format!("cannot start: {error}")), cli.json),
    };
    runtime.block_on(async {
        match &cli.verb {
            Verb::Serve { config, check } => {
                let done = serve(config, *check).await;
                done.map_or_else(|error| cli::report(&error, cli.json), |()| ExitCode::SUCCESS)
            }
            Verb::Nodes(NodesVerb::Rebuild { config, .. }) => {
                let done = match load(config) {
                    Ok(config) => quorate::server::rescue::rebuild(&config)
                        .await
                        .map_err(|e| CliError::local(chain(&e))),
                    Err(error) => Err(error),
                };
                told(done, cli.json)
            }
            Verb::Nodes(NodesVerb::Restore { config, backup }) => {
                let done = match load(config) {
                    Ok(config) => {
                        let restored = quorate::server::rescue::restore(&config, backup).await;
                        restored.map_err(|e| CliError::local(chain(&e)))
                    }
                    Err(error) => Err(error),
                };
                told(done, cli.json)
            }
            _ => cli::run(cli).await,
        }
    })
}

fn load(file: &std::path::Path) -> Result<Config, CliError> {
    Config::load(file).map_err(|error| CliError::local(chain(&error.into())))
}

fn told(done: Result<String, CliError>, json: bool) -> ExitCode {
    match done {
        Ok(text) if json => println!("{}", serde_json::json!({ "done": text })),
        Ok(text) => println!("{text}"),
        Err(error) => return cli::report(&error, json),
    }
    ExitCode::SUCCESS
}

async fn serve(file: &std::path::Path, check: bool) -> Result<(), CliError> {
    let config = load(file)?;
    if check {
        println!("{} is fine", file.display());
        return Ok(());
    }
    start_log();
    quorate::server::run(config).await.map_err(|error| CliError::local(chain(&error)))
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// An error with its causes, in one line.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
