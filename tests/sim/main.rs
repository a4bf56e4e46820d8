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
mod hunt;
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
mod together;
mod told;
mod trace;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(unknown) = quorate::mistake::chosen() {
        eprintln!("{unknown}");
        return ExitCode::from(2);
    }
    match args::parse(std::env::args().skip(1)) {
        Ok(args::Wish::Batches(batches)) => batch::all(batches),
        Ok(args::Wish::One { tier, seed, verbose }) => batch::one(tier, seed, verbose),
        Ok(args::Wish::Told { seed, keep }) => alone::tell(seed, keep),
        Ok(args::Wish::Hunt(hunt)) => hunt::run(&hunt),
        Ok(args::Wish::Mistakes) => hunt::list(),
        Ok(args::Wish::Nothing) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}
