//! The simulation: the real core and the real actors in a world of one seed. `docs/chaos.md` says what it is and how it
//! is run.

mod alone;
mod args;
mod batch;
mod check;
mod client;
mod count;
mod executor;
mod fault;
mod fleet;
mod generate;
mod host;
mod lines;
mod net;
mod node;
mod operator;
mod peers;
mod prober;
mod raft;
mod real;
mod rng;
mod run;
mod scenario;
mod session;
mod stories;
mod told;
mod trace;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(args::Wish::Batches(batches)) => batch::all(batches),
        Ok(args::Wish::One { sort, seed, verbose }) => batch::one(sort, seed, verbose),
        Ok(args::Wish::Told { sort, seed, keep }) => alone::tell(sort, seed, keep),
        Ok(args::Wish::Nothing) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}
