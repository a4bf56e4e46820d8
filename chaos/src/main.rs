//! The test rig of Quorate: real servers, real nodes, faults, an independent client, and checks.
//!
//! In reading order: `install` (servers under `target/`), `topology` and `server`, `net` (loopback or namespaces),
//! `client` and `watch` (what the world sees), `node` (Quorate), `scenario` and `kill_matrix` (what is played), `runner`;
//! `gather` (what a run left), `check` (what that says), `judge`. The rig knows Quorate only as a program: its command
//! line and what it prints.

mod act;
mod check;
mod cli;
mod client;
mod cost;
mod depth;
mod flavor;
mod gather;
mod group;
mod install;
mod judge;
mod kill_matrix;
mod load;
mod model;
mod mutants;
mod net;
mod node;
mod paths;
mod pause;
mod preload;
mod process;
mod product;
mod record;
mod report;
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
mod story;
mod suite;
mod targets;
mod template;
mod topology;
mod tuned;
mod wait;
mod wall;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
