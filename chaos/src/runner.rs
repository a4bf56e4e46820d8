//! Playing a scenario some number of times, and what the exit code says about it.

use crate::{
    flavor::Flavor,
    install,
    judge::judge,
    net::Net,
    product::{Build, Product},
    record::{Outcome, Record},
    rig_error::RigError,
    run_dir::RunDir,
    scenario::Scenario,
    stage::{Setup, Stage},
    topology::Shape,
};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What to play.
    pub scenario: Scenario,
    /// On which servers.
    pub flavors: Vec<Flavor>,
    /// With how many nodes.
    pub nodes: u64,
    /// How often, per flavour.
    pub runs: u64,
    /// Where choices come from.
    pub seed: u64,
    /// Where the records go.
    pub json: Option<PathBuf>,
    /// The topology asked for; the scenario may add to it.
    pub shape: Shape,
    /// Which binary.
    pub build: Build,
}

/// No run takes longer; one that does hangs.
const RUN_WITHIN: Duration = Duration::from_secs(300);

/// Plays every run; the exit code is 0 only if each ended as the scenario demands.
pub async fn run(run_dir: &RunDir, ask: &Ask) -> Result<u8> {
    let product = ask.build.found()?;
    let mut records = Vec::new();
    for flavor in &ask.flavors {
        for number in 1..=ask.runs {
            let record = one(run_dir, ask, &product, *flavor, number).await;
            println!("{}", record.line());
            records.push(record);
            // After each, so that an interrupted batch leaves what it has.
            write(ask.json.as_deref(), &records)?;
        }
    }
    if ask.runs > 1 {
        for flavor in &ask.flavors {
            println!("{}", summary(&records.iter().filter(|r| r.flavor == *flavor).collect::<Vec<_>>()));
        }
    }
    Ok(exit_code(ask.scenario, &records))
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

/// The records of a scenario that cannot be played here at all.
pub fn skipped(ask: &Ask, why: &RigError) -> Result<u8> {
    let reason = why.to_string().trim_start_matches("skipped: ").to_string();
    let mut records = Vec::new();
    for flavor in &ask.flavors {
        let mut record = Record::begin(&ask.scenario.name(), *flavor, ask.nodes, 1, ask.seed);
        record.outcome = Outcome::Skipped;
        record.reason = reason.clone();
        println!("{}", record.line());
        records.push(record);
    }
    write(ask.json.as_deref(), &records)?;
    Ok(2)
}

fn write(file: Option<&Path>, records: &[Record]) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(records)? + "\n";
    if file == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

fn exit_code(scenario: Scenario, records: &[Record]) -> u8 {
    let is_rig = |r: &Record| matches!(r.outcome, Outcome::RigFailed | Outcome::Skipped);
    if records.iter().any(|r| !r.violations.is_empty() || (!is_rig(r) && r.outcome != scenario.demand())) {
        1
    } else if records.iter().any(is_rig) {
        2
    } else {
        0
    }
}

async fn one(run_dir: &RunDir, ask: &Ask, product: &Product, flavor: Flavor, number: u64) -> Record {
    let seed = ask.seed.wrapping_add(number - 1);
    let mut record = Record::begin(&ask.scenario.name(), flavor, ask.nodes, number, seed);
    record.commit = product.commit.clone();
    record.profile = product.profile.to_string();
    record.variant = ask.scenario.variant(ask.seed, number);
    let name = format!("{}-{flavor}-{number}", ask.scenario.name());
    let played =
        match tokio::time::timeout(RUN_WITHIN, play(run_dir, ask, product, flavor, &name, &mut record)).await
        {
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
    if record.outcome != ask.scenario.demand() || !record.violations.is_empty() {
        match keep_logs(run_dir, &name) {
            Ok(dir) => eprintln!("chaos: logs of {name} are in {}", dir.display()),
            Err(e) => eprintln!("chaos: logs of {name} could not be kept: {e:#}"),
        }
    }
    clear(run_dir, &name);
    record
}

async fn play(
    run_dir: &RunDir,
    ask: &Ask,
    product: &Product,
    flavor: Flavor,
    name: &str,
    record: &mut Record,
) -> Result<()> {
    let install = install::ensure(flavor)?;
    let net = if ask.scenario.needs_partitions() { Net::namespaces()? } else { Net::loopback() };
    let mut env = Vec::new();
    let mut pause_dir = None;
    if ask.scenario.needs_pause_points() {
        let dir = run_dir.path().join(format!("{name}-pause"));
        std::fs::create_dir_all(&dir)?;
        env.push(("QUORATE_PAUSE".to_string(), record.variant.clone()));
        env.push(("QUORATE_PAUSE_DIR".to_string(), dir.display().to_string()));
        pause_dir = Some(dir);
    }
    let setup = Setup {
        run_dir,
        install: &install,
        net: &net,
        product,
        shape: ask.scenario.shape(&ask.shape, &record.variant),
        nodes: ask.nodes,
        name: name.to_string(),
        env,
        seed: record.seed,
        pause_dir,
    };
    let mut stage = Stage::set(setup, record).await?;
    let played = ask.scenario.play(&mut stage).await;
    let judged = judge(&mut stage).await;
    *record = stage.record.clone();
    played.and(judged)
}

/// Copies every log of a run to a place that stays.
fn keep_logs(run_dir: &RunDir, name: &str) -> Result<PathBuf> {
    let to = crate::paths::runs().join("failed").join(name);
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(run_dir.path())?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(short) = file.strip_prefix(&format!("{name}-")) else { continue };
        if short.ends_with(".log") {
            std::fs::copy(entry.path(), to.join(short))?;
        } else if entry.path().join("node.log").exists() {
            std::fs::copy(entry.path().join("node.log"), to.join(format!("{short}.log")))?;
        }
    }
    Ok(to)
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
