//! The client commands: parse, ask a node, print. They know the API and nothing else of the program; `serve` alone
//! goes to the daemon, by way of `main`.

pub mod args;
mod connect;
mod duration;
mod error;
mod json;
mod show;
mod verbs;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;

use self::{
    args::Color,
    show::paint::{Paint, harmless},
};
pub use self::{
    args::{Cli, NodesVerb, Verb},
    error::{CliError, EXIT_FAILED, EXIT_NO_LEADER, EXIT_UNREACHABLE, EXIT_USAGE},
};

/// How and where a command prints.
pub struct Printer {
    json: bool,
    paint: Paint,
}

impl Printer {
    fn new(cli: &Cli) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let paint = match cli.color {
            Color::Auto => terminal,
            Color::Always => true,
            Color::Never => false,
        };
        Self { json: cli.json, paint: Paint(paint) }
    }

    /// Prints the answer in the form that was asked for.
    fn print(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        human: impl FnOnce(Paint) -> String,
    ) -> Result<(), CliError> {
        let text = if self.json { format!("{:#}\n", json()) } else { human(self.paint) };
        write_out(&harmless(&text, self.json))
    }

    /// Prints one object a line, for streams.
    fn print_line(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        human: impl FnOnce(Paint) -> String,
    ) -> Result<(), CliError> {
        let text = if self.json { format!("{}\n", json()) } else { human(self.paint) };
        write_out(&harmless(&text, self.json))
    }
}

/// A reader that went away (`| head`) is no error of ours.
fn write_out(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(CliError::local(format!("cannot write the answer: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Reads the command line; exits with 2 and an error, as JSON with `--json`, when it makes no sense.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        // Help and version come this way, too. Whatever could not be read, this word was meant.
        if error.use_stderr() && std::env::args_os().skip(1).any(|word| word == "--json") {
            let text = error.render().to_string();
            let text = text.trim().trim_start_matches("error: ");
            report(&CliError::usage(text), true);
            std::process::exit(i32::from(EXIT_USAGE));
        }
        error.exit()
    })
}

/// Runs a client command and prints what came of it.
pub async fn run(cli: Cli) -> ExitCode {
    let printer = Printer::new(&cli);
    match verbs::run(cli, &printer).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error, printer.json),
    }
}

/// Prints an error to the standard error output, as JSON with `--json`.
pub fn report(error: &CliError, json: bool) -> ExitCode {
    let text = if json { error.json().to_string() } else { error.human() };
    eprintln!("{}", harmless(&text, json));
    ExitCode::from(error.exit)
}
