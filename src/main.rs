//! The one binary: the daemon (`serve`) and the client commands.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::{
    cli::{self, CliError, Verb},
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
            _ => cli::run(cli).await,
        }
    })
}

async fn serve(file: &std::path::Path, check: bool) -> Result<(), CliError> {
    let config = Config::load(file).map_err(|error| CliError::local(chain(&error.into())))?;
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
