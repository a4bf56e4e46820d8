//! The command line.

use std::{ops::Range, time::Duration};

use super::scenario::Kind;

/// How it is called.
pub const USAGE: &str = "usage: sim [--tier a] --seeds A..B [--jobs N] | --seed S [--verbose]\n\
or: sim --hunt --seeds A..B [--kind storm|observers|flap] [--all] [--jobs N] | --mistakes\n\
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
    /// Seeds until a check fails.
    Hunt(Hunt),
    /// A list of the planted mistakes.
    Mistakes,
    /// The test harness' own question for a list.
    Nothing,
}

/// Seeds until a check fails.
#[derive(Debug, PartialEq, Eq)]
pub struct Hunt {
    /// Which.
    pub seeds: Range<u64>,
    /// Only runs of this kind.
    pub kind: Option<Kind>,
    /// All of them, whatever fails.
    pub all: bool,
    /// Threads.
    pub jobs: usize,
}

/// Reads it.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Wish, String> {
    let (mut seeds, mut jobs, mut seed, mut verbose) = (None, 1, None, false);
    let (mut hunt, mut kind, mut all) = (false, None, false);
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
            "--hunt" => hunt = true,
            "--kind" => kind = Some(kind_of(&value()?)?),
            "--all" => all = true,
            "--mistakes" => return Ok(Wish::Mistakes),
            "--list" => return Ok(Wish::Nothing),
            // What `cargo test` hands to every target.
            "--quiet" | "-q" | "--nocapture" | "--include-ignored" => {}
            other if other.starts_with("--test-threads") || other.starts_with("--format") => {}
            other => return Err(format!("what is {other}?")),
        }
    }
    if hunt {
        let seeds = seeds.ok_or("--hunt needs --seeds")?;
        return Ok(Wish::Hunt(Hunt { seeds, kind, all, jobs }));
    }
    Ok(match (seed, seeds) {
        (Some(seed), _) => Wish::One { seed, verbose },
        (None, Some(seeds)) => Wish::Batch { seeds, jobs, bound: None },
        (None, None) => Wish::Batch { seeds: BOUND_SEEDS, jobs, bound: Some(BOUND) },
    })
}

fn kind_of(text: &str) -> Result<Kind, String> {
    match text {
        "storm" => Ok(Kind::Storm),
        "observers" => Ok(Kind::Observers),
        "flap" => Ok(Kind::Flap),
        other => Err(format!("there is no kind {other} of runs")),
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text} is no range of seeds: write A..B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.replace('_', "").parse().map_err(|_| wrong());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}
