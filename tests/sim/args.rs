//! The command line.

use std::{ops::Range, time::Duration};

/// How it is called.
pub const USAGE: &str = "usage: sim [--tier a] --seeds A..B [--jobs N] | --seed S [--verbose]\n\
without arguments: a batch that ends after some 20 s";
/// What `cargo test` runs.
const BOUND: Duration = Duration::from_secs(20);
/// Seeds of that batch, at most.
const BOUND_SEEDS: Range<u64> = 1..20_001;

/// What is wished for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Many seeds.
    Batch {
        /// Which.
        seeds: Range<u64>,
        /// Processes at once.
        jobs: usize,
        /// No seed begins later than this.
        bound: Option<Duration>,
    },
    /// One seed.
    One {
        /// Which.
        seed: u64,
        /// With all that happened.
        verbose: bool,
    },
    /// The test harness' own question for a list.
    Nothing,
}

/// Reads it.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Wish, String> {
    let (mut seeds, mut jobs, mut seed, mut verbose) = (None, 1, None, false);
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--tier" => match value()?.as_str() {
                "a" => {}
                other => return Err(format!("there is no tier {other} yet")),
            },
            "--seeds" => seeds = Some(range(&value()?)?),
            "--jobs" => jobs = value()?.parse().map_err(|_| "--jobs needs a number".to_owned())?,
            "--seed" => seed = Some(value()?.parse().map_err(|_| "--seed needs a number".to_owned())?),
            "--verbose" | "--timeline" => verbose = true,
            "--list" => return Ok(Wish::Nothing),
            // What `cargo test` hands to every target.
            "--quiet" | "-q" | "--nocapture" | "--include-ignored" => {}
            other if other.starts_with("--test-threads") || other.starts_with("--format") => {}
            other => return Err(format!("what is {other}?")),
        }
    }
    Ok(match (seed, seeds) {
        (Some(seed), _) => Wish::One { seed, verbose },
        (None, Some(seeds)) => Wish::Batch { seeds, jobs, bound: None },
        (None, None) => Wish::Batch { seeds: BOUND_SEEDS, jobs, bound: Some(BOUND) },
    })
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text} is no range of seeds: write A..B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.replace('_', "").parse().map_err(|_| wrong());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}
