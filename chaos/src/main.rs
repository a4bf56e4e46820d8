//! The test rig of Quorate: real servers, real nodes, faults, an independent client, and checks.
//!
//! In reading order: `install` (servers under `target/`), `topology` and `server`, `net` (loopback or namespaces),
//! `client` and `watch` (what the world sees), `node` (Quorate), `scenario` and `judge`. The rig knows Quorate only as a
//! program: its command line and what it prints.

mod cli;
mod client;
mod flavor;
mod install;
mod net;
mod paths;
mod process;
mod rig_error;
mod run_dir;
mod selftest;
mod server;
mod sql;
mod template;
mod topology;
mod wait;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
