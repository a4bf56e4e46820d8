//! Playing one run from beginning to end, and what the exit code says about some of them.

use crate::{
    act::Act,
    depth::Depth,
    flavor::Flavor,
    install,
    judge::judge,
    net::{Net, reexec},
    preload,
    product::{Build, Product},
    record::{Outcome, Record},
    rig_error::RigError,
    run_dir::RunDir,
    stage::{Setup, Stage},
    story,
    topology::Shape,
};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the command line asks for, whatever is played.
#[derive(Clone, Debug)]
pub struct Ask {
    /// On which servers.
    pub flavors: Vec<Flavor>,
    /// With how many nodes.
    pub nodes: u64,
    /// Where choices come from.
    pub seed: u64,
    /// Where the records go.
    pub json: Option<PathBuf>,
    /// The topology asked for; what is played may add to it.
    pub shape: Shape,
    /// Which binary.
    pub build: Build,
    /// How much is written down.
    pub depth: Depth,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What is asked for.
    pub ask: &'a Ask,
    /// What is played.
    pub act: Act,
    /// On which servers.
    pub flavor: Flavor,
    /// Its number, from 1.
    pub number: u64,
}

/// No run takes longer; one that does hangs.
const RUN_WITHIN: Duration = Duration::from_secs(300);

/// Plays a scenario some number of times a flavour; the exit code is 0 only if each run ended as it demands.
pub async fn run(run_dir: &RunDir, ask: &Ask, act: Act, runs: u64) -> Result<u8> {
    let mut records = Vec::new();
    for flavor in &ask.flavors {
        for number in 1..=runs {
            let record = one(run_dir, &Plan { ask, act, flavor: *flavor, number }).await?;
            println!("{}", record.line());
            records.push(record);
            // After each, so that an interrupted batch leaves what it has.
            write(ask.json.as_deref(), &records)?;
        }
    }
    if runs > 1 {
        for flavor in &ask.flavors {
            println!("{}", summary(&records.iter().filter(|r| r.flavor == *flavor).collect::<Vec<_>>()));
        }
    }
    Ok(exit_code(records.iter().map(|record| (act, record))))
}

/// A time of a record, if it occurred.
type Time = fn(&Record) -> Option<f64>;

/// Median and maximum of each time of a batch.
fn summary(records: &[&Record]) -> String {
    let Some(first) = records.first() else { return String::new() };
    let mut line =
        format!("{} {} nodes={} runs={}:", first.scenario, first.flavor, first.nodes, records.len());
    let times: [(&str, Time); 6] = [
        ("detected", |r| r.detected_ms),
        ("started", |r| r.started_ms),
        ("writable", |r| r.writable_ms),
        ("first write", |r| r.first_write_ms),
        ("repointed", |r| r.repointed_ms),
        ("returned acks", |r| r.returned_acks_ms),
    ];
    for (name, time) in times {
        let mut all: Vec<f64> = records.iter().filter_map(|r| time(r)).collect();
        all.sort_by(f64::total_cmp);
        // Of an even number the mean of the two in the middle.
        let middle = |i: usize| all.get(i).copied();
        let median =
            middle(all.len() / 2).zip(middle(all.len().saturating_sub(1) / 2)).map(|(a, b)| (a + b) / 2.0);
        if let (Some(median), Some(max)) = (median, all.last()) {
            line += &format!(" {name} median {median:.0} max {max:.0} ms (n={});", all.len());
        }
    }
    let count = |what: fn(&Record) -> usize| records.iter().map(|r| what(r)).sum::<usize>();
    line += &format!(
        " lost {}, recoveries {}, violations {}",
        count(|r| r.lost_acked_writes),
        count(|r| r.recoveries),
        count(|r| r.violations.len())
    );
    line
}

/// The record of a run that cannot be played here at all.
pub fn skipped(plan: &Plan<'_>, why: &str) -> Record {
    let mut record = begin(plan);
    record.outcome = Outcome::Skipped;
    record.reason = why.trim_start_matches("skipped: ").to_string();
    record
}

/// Writes the records where they were asked for.
pub fn write(file: Option<&Path>, records: &[Record]) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(records)? + "\n";
    if file == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

/// 0 each run ended as it must, 1 a violation, 2 the rig's.
pub fn exit_code<'a>(records: impl Iterator<Item = (Act, &'a Record)>) -> u8 {
    let worst = records.map(|(act, record)| match record.verdict(act.demand()) {
        Verdict::Passed => 0,
        // A violation says more than a skip.
        Verdict::NoResult => 1,
        Verdict::Broken => 2,
    });
    match worst.max() {
        Some(2) => 1,
        Some(1) => 2,
        _ => 0,
    }
}

/// What a record says about Quorate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it must.
    Passed,
    /// Nothing: the rig failed, or skipped it.
    NoResult,
    /// A promise was broken, or the run ended otherwise than it must.
    Broken,
}

impl Record {
    /// What it says about Quorate, where the run may end in any of `demand`.
    pub fn verdict(&self, demand: &[Outcome]) -> Verdict {
        match self.outcome {
            _ if !self.violations.is_empty() => Verdict::Broken,
            Outcome::RigFailed | Outcome::Skipped => Verdict::NoResult,
            outcome if demand.contains(&outcome) => Verdict::Passed,
            _ => Verdict::Broken,
        }
    }
}

fn begin(plan: &Plan<'_>) -> Record {
    let Plan { ask, act, flavor, number } = plan;
    let seed = ask.seed.wrapping_add(number - 1);
    let mut record = Record::begin(&act.name(), *flavor, ask.nodes, *number, seed);
    record.variant = act.variant(ask.seed, *number);
    record.evidence = ask.depth;
    record
}

/// Plays one run.
pub async fn one(run_dir: &RunDir, plan: &Plan<'_>) -> Result<Record> {
    let act = plan.act;
    let mut record = begin(plan);
    let build = Build { pause_points: act.needs_pause_points(), ..plan.ask.build };
    let product = build.found()?;
    record.commit = product.commit.clone();
    record.profile = product.profile.to_string();
    let variant: String = record.variant.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let name = format!("{}-{}-{}{variant}", act.name(), plan.flavor, plan.number);
    let played = play(run_dir, plan, &product, &name, &mut record);
    let played = match tokio::time::timeout(RUN_WITHIN, played).await {
        Ok(played) => played,
        Err(_) => Err(anyhow::anyhow!("the run did not end within {RUN_WITHIN:?}")),
    };
    match played {
        Ok(()) if !record.fault_installed => {
            record.outcome = Outcome::RigFailed;
            record.reason = format!("the fault was not installed; {}", record.reason);
        }
        Ok(()) => {}
        Err(error) => {
            record.outcome = match error.downcast_ref::<RigError>() {
                Some(RigError::Skipped(_)) => Outcome::Skipped,
                Some(RigError::Failed(_)) => Outcome::RigFailed,
                None => Outcome::Failed,
            };
            record.reason = format!("{error:#}");
        }
    }
    keep(run_dir, plan, &name, &mut record);
    clear(run_dir, &name);
    Ok(record)
}

async fn play(
    run_dir: &RunDir,
    plan: &Plan<'_>,
    product: &Product,
    name: &str,
    record: &mut Record,
) -> Result<()> {
    let (ask, act) = (plan.ask, plan.act);
    let install = install::ensure(plan.flavor)?;
    let net = if reexec::is_inside() { Net::namespaces()? } else { Net::loopback() };
    let mut env = Vec::new();
    let mut pause_dir = None;
    if act.needs_pause_points() {
        let dir = run_dir.path().join(format!("{name}-pause"));
        std::fs::create_dir_all(&dir)?;
        env.push(("QUORATE_PAUSE".to_string(), act.pause_point(&record.variant)));
        env.push(("QUORATE_PAUSE_DIR".to_string(), dir.display().to_string()));
        pause_dir = Some(dir);
    }
    if act.needs_dials() {
        env.push((preload::PRELOAD.to_string(), preload::library().display().to_string()));
    }
    let setup = Setup {
        run_dir,
        install: &install,
        net: &net,
        product,
        shape: act.shape(&ask.shape, &record.variant),
        nodes: ask.nodes,
        name: name.to_string(),
        env,
        seed: record.seed,
        pause_dir,
        depth: ask.depth,
        terms: act.terms(),
    };
    let mut stage = Stage::set(setup, record).await?;
    let played = act.play(&mut stage).await;
    let judged = judge(&mut stage).await;
    *record = stage.record.clone();
    if let Ok(judgement) = &judged {
        story::write(&run_dir.path().join(format!("{name}-{}", story::FILE)), &stage, judgement)?;
    }
    played.and(judged.map(drop))
}

/// Keeps what belongs to the record: beside its file, and under `target/chaos/failed` where it did not end as demanded.
fn keep(run_dir: &RunDir, plan: &Plan<'_>, name: &str, record: &mut Record) {
    let passed = record.verdict(plan.act.demand()) == Verdict::Passed;
    let beside = plan.ask.json.as_deref().filter(|file| *file != Path::new("-"));
    let mut places = Vec::new();
    if let Some(file) = beside {
        let dir = story::beside(file).join(name);
        let last = dir.iter().rev().take(2).collect::<Vec<_>>();
        record.artefacts = Some(last.iter().rev().collect::<PathBuf>().display().to_string());
        places.push(dir);
    }
    if !passed {
        places.push(crate::paths::runs().join("failed").join(name));
    }
    for to in places {
        match copy(run_dir, name, &to, record) {
            Ok(()) if !passed => eprintln!("chaos: logs of {name} are in {}", to.display()),
            Ok(()) => {}
            Err(e) => eprintln!("chaos: logs of {name} could not be kept: {e:#}"),
        }
    }
}

/// Copies a run's story and every log of it to a place that stays.
fn copy(run_dir: &RunDir, name: &str, to: &Path, record: &Record) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(run_dir.path())?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(short) = file.strip_prefix(&format!("{name}-")) else { continue };
        if short.ends_with(".log") {
            std::fs::copy(entry.path(), to.join(short))?;
        } else if entry.path().join("node.log").exists() {
            std::fs::copy(entry.path().join("node.log"), to.join(format!("{short}.log")))?;
        } else if short == story::FILE {
            story::seal(&entry.path(), &to.join(short), record)?;
        }
    }
    Ok(())
}

/// Removes a run's data: a batch would fill the disk.
fn clear(run_dir: &RunDir, name: &str) {
    if run_dir.is_kept() {
        return;
    }
    for entry in std::fs::read_dir(run_dir.path()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            let _ = std::fs::remove_dir_all(entry.path());
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
