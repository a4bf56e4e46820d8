//! The test rig of Quorate: real servers, real nodes, faults, an independent client, and checks.
//!
//! In reading order: `install` (servers under `target/`), `topology` and `server`, `net` (loopback or namespaces),
//! `client` and `watch` (what the world sees), `node` (Quorate), `scenario` and `judge`. The rig knows Quorate only as a
//! program: its command line and what it prints.

mod cli;
mod client;
mod cost;
mod flavor;
mod group;
mod install;
mod judge;
mod mutants;
mod net;
mod node;
mod paths;
mod process;
mod product;
mod record;
mod rig_error;
mod run_dir;
mod runner;
mod scenario;
mod selftest;
mod server;
mod show;
mod sim;
mod sql;
mod stage;
mod targets;
mod template;
mod topology;
mod wait;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
