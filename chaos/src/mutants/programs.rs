//! The programs that catch: the simulation and the test targets, built once with all mistakes in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{paths, rig_error::rig_failure, targets};

/// Names the mistake to a program (`src/mistake.rs`).
const VARIABLE: &str = "QUORATE_MISTAKE";
/// The simulation.
const SIM: &str = "sim";
/// The longest that one program may take; a mistake may make it go on for ever.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// A planted mistake, as the program tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Planted {
    /// What it is called.
    pub name: String,
    /// Which promise it breaks.
    pub promise: String,
    /// What is wrong.
    pub wrong: String,
}

#[derive(Deserialize)]
struct List {
    compiled_in: bool,
    mistakes: Vec<Planted>,
}

/// A check that failed.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its name.
    pub check: String,
    /// Seeds played until then, that one included.
    pub seeds: u64,
    /// Simulated minutes until then.
    pub minutes: u64,
}

/// What the simulation said.
#[derive(Debug, Clone)]
pub struct Hunted {
    /// Seeds played.
    pub seeds: u64,
    /// Simulated minutes.
    pub minutes: u64,
    /// Checks that failed.
    pub broken: Vec<Broken>,
    /// All checks there are.
    pub checks: Vec<String>,
}

#[derive(Deserialize)]
struct Told {
    seeds: u64,
    minutes: u64,
    broken: BTreeMap<String, ToldBroken>,
    checks: Vec<String>,
}

#[derive(Deserialize)]
struct ToldBroken {
    seed: u64,
    seeds: u64,
    minutes: u64,
    what: String,
}

/// All of them, by target.
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Builds the simulation and these test targets.
    pub fn build<'a>(dev: bool, targets: impl Iterator<Item = &'a str>) -> Result<Self> {
        let wanted: BTreeSet<&str> = targets.chain([SIM]).collect();
        targets::build(if dev { "dev" } else { "sim" }, Some("planted-mistakes"), &wanted).map(Self)
    }

    /// The mistakes that were built in.
    pub fn planted(&self) -> Result<BTreeMap<String, Planted>> {
        let said = self.command(SIM, None).arg("--mistakes").output()?;
        let list: List = serde_json::from_slice(&said.stdout).context("the list of planted mistakes")?;
        match list.compiled_in {
            true => Ok(list.mistakes.into_iter().map(|one| (one.name.clone(), one)).collect()),
            false => Err(rig_failure("this build holds no mistakes")),
        }
    }

    /// The program's own words about a name it does not know.
    pub fn refusal_of(&self, name: &str) -> Result<String> {
        let said = self.command(SIM, Some(name)).arg("--mistakes").output()?;
        Ok(String::from_utf8_lossy(&said.stderr).trim().to_owned())
    }

    /// The checks of the simulation.
    pub fn checks(&self) -> Result<Vec<String>> {
        Ok(self.hunt(None, 1, 1, true)?.checks)
    }

    /// Plays seeds from 1 on, until a check fails, or `all` of them.
    pub fn hunt(&self, mistake: Option<&str>, seeds: u64, jobs: usize, all: bool) -> Result<Hunted> {
        let mut command = self.command(SIM, mistake);
        command.args(["--hunt", "--seeds", &format!("1..{}", seeds + 1), "--jobs", &jobs.to_string()]);
        command.args(all.then_some("--all"));
        let (passed, said) = run(command, mistake.unwrap_or("none"))?;
        let last = said.lines().last().filter(|_| passed);
        let told: Option<Told> = last.and_then(|line| serde_json::from_str(line).ok());
        let mut told =
            told.ok_or_else(|| rig_failure(format!("the simulation broke off: {}", end(&said))))?;
        // A panic, or a process that ended, is nobody's finding.
        let nameless: Vec<String> =
            told.broken.keys().filter(|name| !told.checks.contains(name)).cloned().collect();
        let nameless: Vec<ToldBroken> = nameless.iter().filter_map(|name| told.broken.remove(name)).collect();
        if let (Some(first), true) = (nameless.first(), told.broken.is_empty()) {
            let what = format!("seed {} breaks off, and no check fails: {}", first.seed, first.what);
            return Err(rig_failure(format!("{}: {what}", mistake.unwrap_or("without a mistake"))));
        }
        let broken = told.broken.into_iter().map(|(check, one)| {
            println!("    {check}: seed {}: {}", one.seed, one.what);
            Broken { check, seeds: one.seeds, minutes: one.minutes }
        });
        let broken = broken.collect();
        Ok(Hunted { seeds: told.seeds, minutes: told.minutes, broken, checks: told.checks })
    }

    /// Runs one test; whether it passed. That it ran at all is seen in its own words.
    pub fn test(&self, mistake: Option<&str>, target: &str, name: &str) -> Result<bool> {
        let mut command = self.command(target, mistake);
        command.args(["--exact", name, "--test-threads", "1"]);
        let (passed, said) = run(command, mistake.unwrap_or("none"))?;
        let ended = |how: &str| said.lines().any(|line| line.ends_with(how) && line.contains(name));
        match (passed, ended("... ok"), ended("... FAILED")) {
            (true, true, false) => Ok(true),
            (false, _, true) => Ok(false),
            _ => Err(rig_failure(format!("test {name} of {target} was not run to its end: {}", end(&said)))),
        }
    }

    fn command(&self, target: &str, mistake: Option<&str>) -> Command {
        let mut command = Command::new(&self.0[target]);
        command.current_dir(paths::root()).stdin(Stdio::null()).env_remove(VARIABLE);
        command.envs(mistake.map(|name| (VARIABLE, name)));
        command
    }
}

/// Runs it; whether it succeeded, and all that it said, which is also kept beside the other runs.
fn run(mut command: Command, name: &str) -> Result<(bool, String)> {
    let folder = paths::runs().join("mutants");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let file = File::create(&path)?;
    let mut child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Err(rig_failure(format!("{name}: no end within {} min", LIMIT.as_secs() / 60)));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    Ok((status.success(), said))
}

/// The end of what a program said.
fn end(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}
