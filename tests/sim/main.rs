//! The simulation: the real core and the real actors in a world of one seed. `docs/chaos.md` says what it is and how it
//! is run.

mod agenda;
mod alone;
mod args;
mod batch;
mod check;
mod client;
mod clock;
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
mod rest;
mod rng;
mod run;
mod scenario;
mod session;
mod stories;
mod stranger;
mod together;
mod told;
mod trace;
mod world;

use std::process::ExitCode;

use quorate::mistake;

/// A run makes and drops a hundred thousand small things.
#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

fn main() -> ExitCode {
    if let Err(why) = mistake() {
        eprintln!("{why}");
        return ExitCode::from(2);
    }
    match args::parse(std::env::args().skip(1)) {
        Ok(args::Wish::Batches(batches)) => batch::all(batches),
        Ok(args::Wish::One { sort, seed, verbose }) => batch::one(sort, seed, verbose),
        Ok(args::Wish::Told { sort, seed, keep }) => alone::tell(sort, seed, keep),
        Ok(args::Wish::Hunt(hunt)) => hunt::run(&hunt),
        Ok(args::Wish::Mistakes) => hunt::list(),
        Ok(args::Wish::Nothing) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

/// A mistake that is asked for must be known, and this build must be able to make it.
fn mistake() -> Result<(), String> {
    let asked = std::env::var_os(mistake::VARIABLE).is_some();
    match mistake::chosen() {
        Err(unknown) => Err(unknown.to_string()),
        Ok(None) if asked => Err(format!(
            "{} asks for a mistake, and this build can make none: it lacks the feature `planted-mistakes`",
            mistake::VARIABLE
        )),
        Ok(_) => Ok(()),
    }
}
