//! `cargo chaos suite`: scenarios strung together at random for some time, and a table of what came of them.
//!
//! The seed chooses scenarios, flavours and numbers of nodes; how many runs fit into the time is the machine's. No run
//! begins that is not expected to end in time; one that is under way at the end is cut short and counts for nothing.

use crate::{
    act::Act,
    cli::play::{PlayArgs, ready},
    flavor::Flavor,
    record::Record,
    run_dir::RunDir,
    runner::{self, Ask, Plan, Verdict},
    scenario::Scenario,
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a run is expected to take before one of its kind was played.
const EXPECTED: Duration = Duration::from_secs(40);
/// One run in so many has five nodes instead of those asked for.
const FIVE_NODES: u32 = 4;

/// `cargo chaos suite`.
#[derive(Args)]
pub struct SuiteArgs {
    /// For how long
    #[arg(long)]
    minutes: f64,
    #[command(flatten)]
    play: PlayArgs,
}

/// One line of the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    scenario: String,
    flavor: String,
    runs: usize,
    /// How many ended in which outcome.
    outcomes: BTreeMap<String, usize>,
    /// Runs that ended as they must.
    passed: usize,
    /// Of all its runs.
    violations: usize,
}

/// Plays until the time is over.
pub fn command(args: &SuiteArgs) -> Result<u8> {
    let ask = args.play.ask();
    let end = Instant::now() + Duration::from_secs_f64(args.minutes.max(0.0) * 60.0);
    let skip = ready(&ask, &[false, true], true)?;
    let skip = skip.map(|why| why.to_string());
    println!("suite: {} minutes, seed {}", args.minutes, ask.seed);
    let run_dir = RunDir::create(args.play.keep)?;
    crate::cli::to_the_end(&run_dir, async {
        let mut suite = Suite {
            ask: &ask,
            rng: StdRng::seed_from_u64(ask.seed),
            took: BTreeMap::new(),
            played: Vec::new(),
        };
        while let Some((act, flavor)) = suite.next(end) {
            let began = Instant::now();
            let played = suite.play(&run_dir, act, flavor, skip.as_deref());
            let Ok(record) = tokio::time::timeout_at(end.into(), played).await else {
                println!("suite: {} {flavor} was cut short by the end of the time", act.name());
                break;
            };
            let record = record?;
            println!("{}", record.line());
            suite.took.insert(act.name(), began.elapsed());
            suite.played.push((act, record));
            suite.write()?;
        }
        let lines = summary(&suite.played);
        println!("\n{}", table(&lines));
        let runs = suite.played.len();
        let broken =
            suite.played.iter().filter(|(act, r)| r.verdict(act.demand()) == Verdict::Broken).count();
        println!("suite: {runs} runs, {broken} broken, seed {}", ask.seed);
        Ok(runner::exit_code(suite.played.iter().map(|(act, record)| (*act, record))))
    })
}

struct Suite<'a> {
    ask: &'a Ask,
    rng: StdRng,
    /// By scenario: what its last run took.
    took: BTreeMap<String, Duration>,
    played: Vec<(Act, Record)>,
}

impl Suite<'_> {
    /// What is played next; `None` when it would not fit any more.
    fn next(&mut self, end: Instant) -> Option<(Act, Flavor)> {
        let scenario = *Scenario::value_variants().choose(&mut self.rng)?;
        let flavor = *self.ask.flavors.choose(&mut self.rng)?;
        let act = Act::Scenario(scenario);
        let expected = self.took.get(&act.name()).copied().unwrap_or(EXPECTED);
        (Instant::now() + expected <= end).then_some((act, flavor))
    }

    async fn play(
        &mut self,
        run_dir: &RunDir,
        act: Act,
        flavor: Flavor,
        skip: Option<&str>,
    ) -> Result<Record> {
        let mut ask = self.ask.clone();
        ask.seed = self.rng.random_range(0..1_000_000);
        if self.rng.random_ratio(1, FIVE_NODES) {
            ask.nodes = 5;
        }
        // Counted by scenario: it says which variant is played.
        let number = 1 + self.played.iter().filter(|(played, _)| *played == act).count() as u64;
        let plan = Plan { ask: &ask, act, flavor, number };
        match skip.filter(|_| act.needs_namespaces()) {
            Some(why) => Ok(runner::skipped(&plan, why)),
            None => runner::one(run_dir, &plan).await,
        }
    }

    /// The records so far, and the summary beside them.
    fn write(&self) -> Result<()> {
        let records: Vec<Record> = self.played.iter().map(|(_, record)| record.clone()).collect();
        runner::write(self.ask.json.as_deref(), &records)?;
        let Some(file) = self.ask.json.as_deref().filter(|file| *file != Path::new("-")) else {
            return Ok(());
        };
        let file = file.with_extension("summary.json");
        let text = serde_json::to_string_pretty(&summary(&self.played))? + "\n";
        std::fs::write(&file, text).with_context(|| file.display().to_string())
    }
}

/// By scenario and flavour.
fn summary(played: &[(Act, Record)]) -> Vec<Line> {
    let mut lines: BTreeMap<(String, String), Line> = BTreeMap::new();
    for (act, record) in played {
        let key = (record.scenario.clone(), record.flavor.to_string());
        let line = lines.entry(key.clone()).or_default();
        (line.scenario, line.flavor) = key;
        line.runs += 1;
        *line.outcomes.entry(record.outcome_name()).or_default() += 1;
        line.passed += usize::from(record.verdict(act.demand()) == Verdict::Passed);
        line.violations += record.violations.len();
    }
    lines.into_values().collect()
}

fn table(lines: &[Line]) -> String {
    let mut text =
        "| scenario | flavour | runs | outcomes | as demanded | violations |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Line { scenario, flavor, runs, outcomes, passed, violations } in lines {
        let outcomes: Vec<String> = outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text += &format!(
            "| {scenario} | {flavor} | {runs} | {} | {passed} | {violations} |\n",
            outcomes.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn runs_are_counted_by_scenario_and_flavour() {
        let played = |scenario: Scenario, outcome, violations: Vec<String>| {
            let record = Record::begin(&scenario.name(), Flavor::Mysql, 3, 1, 1);
            (Act::Scenario(scenario), Record { outcome, violations, ..record })
        };
        let lines = summary(&[
            played(Scenario::KillPrimary, Outcome::Recovered, vec![]),
            played(Scenario::KillPrimary, Outcome::Skipped, vec![]),
            played(Scenario::KillPrimary, Outcome::Recovered, vec!["lost".into()]),
            played(Scenario::Flap, Outcome::Refused, vec![]),
        ]);
        let text = table(&lines);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows[0], "| flap | mysql | 1 | refused 1 | 1 | 0 |");
        assert_eq!(rows[1], "| kill-primary | mysql | 3 | recovered 2, skipped 1 | 1 | 1 |");
    }
}
