//! The command line.

use std::{ops::Range, thread::available_parallelism, time::Duration};

use super::{
    real::Tier,
    scenario::{Kind, Sort},
};

/// How it is called.
pub const USAGE: &str = "usage: sim [--tier a|b] [--kind storm|observers|flap] --seeds A..B [--jobs N] | --seed S [--verbose]\n\
or: sim --hunt [--tier a|b] [--kind storm|observers|flap] --seeds A..B [--all] [--jobs N] | --mistakes\n\
without arguments: a batch of each tier, which end after some 40 s";
/// What `cargo test` runs: of each tier, from which seed on, and for how long. The first of tier B is one that is played
/// twice and compared.
const BOUNDS: [(Tier, u64, Duration); 2] =
    [(Tier::A, 1, Duration::from_secs(20)), (Tier::B, 23, Duration::from_secs(20))];
/// At once, there.
const JOBS_MAX: usize = 4;
/// How a batch of tier B calls the process of one seed.
pub const TELL: &str = "--tell";
/// Seeds of those batches, at most.
const BOUND_SEEDS: u64 = 20_000;

/// What is wished for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Batches, one after another.
    Batches(Vec<Batch>),
    /// One seed.
    One {
        /// Of which sort.
        sort: Sort,
        /// Which.
        seed: u64,
        /// With all that happened.
        verbose: bool,
    },
    /// Seeds until a check fails.
    Hunt(Hunt),
    /// A list of the planted mistakes.
    Mistakes,
    /// One seed of tier B, its report for the process that asked, on standard output.
    Told {
        /// Of which sort.
        sort: Sort,
        /// Which.
        seed: u64,
        /// With all that happened.
        keep: bool,
    },
    /// The test harness' own question for a list.
    Nothing,
}

/// Seeds until a check fails.
#[derive(Debug, PartialEq, Eq)]
pub struct Hunt {
    /// Of which sort.
    pub sort: Sort,
    /// Which.
    pub seeds: Range<u64>,
    /// All of them, whatever fails.
    pub all: bool,
    /// At once.
    pub jobs: usize,
}

/// Many seeds.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Of which sort.
    pub sort: Sort,
    /// Which.
    pub seeds: Range<u64>,
    /// At once.
    pub jobs: usize,
    /// No seed but the first begins later than this.
    pub bound: Option<Duration>,
}

/// Reads it.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Wish, String> {
    let (mut tier, mut kind, mut seeds, mut jobs, mut seed) = (None, None, None, None, None);
    let (mut verbose, mut told, mut hunt, mut all) = (false, false, false, false);
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--tier" => match value()?.as_str() {
                "a" => tier = Some(Tier::A),
                "b" => tier = Some(Tier::B),
                other => return Err(format!("there is no tier {other}")),
            },
            "--kind" => {
                let name = value()?;
                kind = Some(Kind::named(&name).ok_or_else(|| format!("there is no kind {name}"))?);
            }
            "--seeds" => seeds = Some(range(&value()?)?),
            "--jobs" => jobs = Some(value()?.parse().map_err(|_| "--jobs needs a number".to_owned())?),
            "--seed" => seed = Some(value()?.parse().map_err(|_| "--seed needs a number".to_owned())?),
            "--verbose" | "--timeline" => verbose = true,
            "--hunt" => hunt = true,
            "--all" => all = true,
            "--mistakes" => return Ok(Wish::Mistakes),
            TELL => told = true,
            "--list" => return Ok(Wish::Nothing),
            // What `cargo test` hands to every target.
            "--quiet" | "-q" | "--nocapture" | "--include-ignored" => {}
            other if other.starts_with("--test-threads") || other.starts_with("--format") => {}
            other => return Err(format!("what is {other}?")),
        }
    }
    let sort = Sort { tier: tier.unwrap_or_default(), kind };
    if hunt {
        let seeds = seeds.ok_or("--hunt needs --seeds")?;
        return Ok(Wish::Hunt(Hunt { sort, seeds, all, jobs: jobs.unwrap_or(1) }));
    }
    Ok(match (seed, seeds) {
        (Some(seed), _) if told => Wish::Told { sort, seed, keep: verbose },
        (Some(seed), _) => Wish::One { sort, seed, verbose },
        (None, Some(seeds)) => {
            Wish::Batches(vec![Batch { sort, seeds, jobs: jobs.unwrap_or(1), bound: None }])
        }
        (None, None) => {
            let wanted = BOUNDS.into_iter().filter(|(bounded, ..)| tier.is_none_or(|tier| tier == *bounded));
            let jobs = jobs.unwrap_or_else(|| available_parallelism().map_or(1, usize::from).min(JOBS_MAX));
            let batch = |(tier, from, bound)| {
                let seeds = from..from + BOUND_SEEDS;
                Batch { sort: Sort { tier, kind }, seeds, jobs, bound: Some(bound) }
            };
            Wish::Batches(wanted.map(batch).collect())
        }
    })
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text} is no range of seeds: write A..B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.replace('_', "").parse().map_err(|_| wrong());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}
