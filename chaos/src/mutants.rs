//! `cargo chaos mutants`: each planted mistake (`src/mistake.rs`) is made, and must be caught: by a named check of the
//! simulation, or by the test that `ways` names. A check or test that nothing can fail proves nothing; these were seen to.

mod programs;
mod table;
mod ways;

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use clap::Args;

use self::{
    programs::{Hunted, Planted, Programs},
    ways::{By, WAYS, Way},
};
use crate::{install, rig_error::rig_failure};

/// What is asked for.
#[derive(Args)]
pub struct MutantsArgs {
    /// Only these; without it, all
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Seeds after which a mistake counts as not caught
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Seeds at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Plays all seeds, to see every check that fails, and not only the first
    #[arg(long)]
    all_checks: bool,
    /// The profile of ordinary tests: built at once, a fifth as fast
    #[arg(long)]
    dev: bool,
}

/// What caught a mistake, one way.
#[derive(Debug, Clone)]
pub struct Catch {
    /// The check or the test.
    by: String,
    /// Seeds and simulated minutes, where it was the simulation.
    after: Option<(u64, u64)>,
}

/// A mistake with what became of it.
struct Tried {
    planted: Planted,
    /// By each way: what caught it, or why it was not caught.
    ends: Vec<Result<Catch, String>>,
    /// Checks of the simulation that failed, with the seeds that took.
    checks: BTreeMap<String, u64>,
}

impl Tried {
    fn caught(&self) -> bool {
        !self.ends.is_empty() && self.ends.iter().all(Result::is_ok)
    }
}

/// Builds, tries, tells; the exit code.
pub fn run(args: &MutantsArgs) -> Result<u8> {
    let only = |way: &&Way| args.only.is_empty() || args.only.iter().any(|name| name == way.mistake);
    let ways: Vec<&Way> = WAYS.iter().filter(only).collect();
    let programs = Programs::build(args.dev, ways.iter().flat_map(|way| way.by).filter_map(By::target))?;
    let planted = programs.planted()?;
    for name in &args.only {
        if !planted.contains_key(name) {
            return Err(rig_failure(programs.refusal_of(name)?));
        }
    }
    agree(&planted)?;
    let began = Instant::now();
    for flavor in ways.iter().flat_map(|way| way.by).flat_map(|by| by.servers()) {
        install::ensure(*flavor)?;
    }
    if !green(&programs, &ways, args)? {
        println!("mutants: not even without a mistake is everything green");
        return Ok(1);
    }
    println!("without a mistake everything is green, after {} s", began.elapsed().as_secs());
    let mut tried = Vec::new();
    for way in ways {
        let one = attempt(&programs, way, &planted[way.mistake], args)?;
        println!("{}", table::line(&one));
        tried.push(one);
    }
    let checks = programs.checks()?;
    let file = table::write(&tried, &checks, args.all_checks)?;
    let missed: Vec<&str> =
        tried.iter().filter(|one| !one.caught()).map(|one| one.planted.name.as_str()).collect();
    println!("the table is in {}", file.display());
    let (caught, all, took) = (tried.len() - missed.len(), tried.len(), began.elapsed().as_secs());
    println!("mutants: {caught} of {all} mistakes were caught, in {took} s beside building");
    if !missed.is_empty() {
        println!("NOT CAUGHT: {}", missed.join(", "));
    }
    Ok(u8::from(!missed.is_empty()))
}

/// Every mistake of the program has its way here, and none is tried that it does not have.
fn agree(planted: &BTreeMap<String, Planted>) -> Result<()> {
    let known = |name: &str| WAYS.iter().any(|way| way.mistake == name);
    let nameless: Vec<&str> = planted.keys().map(String::as_str).filter(|name| !known(name)).collect();
    let gone: Vec<&str> =
        WAYS.iter().map(|way| way.mistake).filter(|name| !planted.contains_key(*name)).collect();
    match nameless.is_empty() && gone.is_empty() {
        true => Ok(()),
        false => Err(rig_failure(format!(
            "chaos/src/mutants/ways.rs and src/mistake.rs differ: no way for {nameless:?}, no mistake {gone:?}"
        ))),
    }
}

/// The same build without a mistake: everything that is to fail below must pass here.
fn green(programs: &Programs, ways: &[&Way], args: &MutantsArgs) -> Result<bool> {
    let mut all: Vec<&By> = ways.iter().flat_map(|way| way.by).collect();
    all.sort();
    all.dedup();
    let mut green = true;
    for by in all {
        let failed = match by {
            By::Sim => {
                let hunted = programs.hunt(None, args.seeds, args.jobs, true)?;
                println!("without a mistake: {} seeds, {} simulated minutes", hunted.seeds, hunted.minutes);
                hunted.broken.into_iter().map(|broken| broken.check).collect()
            }
            By::Test { target, name, .. } => match programs.test(None, target, name)? {
                true => Vec::new(),
                false => vec![format!("{target} {name}")],
            },
        };
        failed.iter().for_each(|what| println!("without a mistake FAILED: {what}"));
        green &= failed.is_empty();
    }
    Ok(green)
}

fn attempt(programs: &Programs, way: &Way, planted: &Planted, args: &MutantsArgs) -> Result<Tried> {
    let mut tried = Tried { planted: planted.clone(), ends: Vec::new(), checks: BTreeMap::new() };
    for by in way.by {
        let end = match by {
            By::Sim => {
                let hunted = programs.hunt(Some(way.mistake), args.seeds, args.jobs, args.all_checks)?;
                tried.checks.extend(hunted.broken.iter().map(|one| (one.check.clone(), one.seeds)));
                first(&hunted)
            }
            By::Test { target, name, .. } => match programs.test(Some(way.mistake), target, name)? {
                true => Err(format!("`{name}` of {target} passes")),
                false => Ok(Catch { by: format!("`{name}` ({target})"), after: None }),
            },
        };
        tried.ends.push(end);
    }
    Ok(tried)
}

/// The check that failed in the earliest seed; of several in that seed, all.
fn first(hunted: &Hunted) -> Result<Catch, String> {
    let Some(least) = hunted.broken.iter().min_by_key(|one| one.seeds) else {
        return Err(format!("no check failed in {} seeds", hunted.seeds));
    };
    let same = hunted.broken.iter().filter(|one| one.seeds == least.seeds);
    let by: Vec<&str> = same.map(|one| one.check.as_str()).collect();
    Ok(Catch { by: by.join(", "), after: Some((least.seeds, least.minutes)) })
}
