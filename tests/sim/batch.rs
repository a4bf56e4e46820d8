//! Many seeds, one after another, over as many threads as asked for; and what came of them.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    check::Violation,
    count::{Counts, STATES},
    generate,
    run::{self, Report},
    stories::STORIES,
    world::POISON,
};

/// A batch of so many seeds must have come by every counted state.
const ENOUGH: u64 = 2_000;
/// A seed counts only with so many faults that met something.
const FAULTS_MIN: usize = 3;
/// Violations shown in full; all are counted.
const SHOWN: usize = 3;
/// Every so many seeds one is run twice and compared.
const TWICE_EVERY: u64 = 101;
/// What a panic is called where a check would be.
pub const PANIC: &str = "no panic";

#[derive(Default)]
struct Sum {
    seeds: u64,
    counted: u64,
    simulated_ms: u64,
    faults: usize,
    polls: u64,
    counts: Counts,
    broken: Vec<(u64, Violation)>,
    undetermined: Vec<u64>,
}

/// One seed.
pub fn one(seed: u64, verbose: bool) -> ExitCode {
    let began = Instant::now();
    let scenario = generate::scenario(seed);
    let report = guarded(seed, true);
    if verbose {
        println!("{scenario:#?}");
    }
    if verbose || !report.violations.is_empty() {
        for line in report.lines.iter().filter(|line| verbose || !line.contains("acknowledges row")) {
            println!("{line}");
        }
    }
    for violation in &report.violations {
        println!("{}", say(seed, violation));
    }
    println!(
        "seed {seed}: {:?} over {} nodes, {} servers ({:?}{}): {:.1} s simulated in {} ms, {} faults, {} violations",
        scenario.kind,
        scenario.nodes.len(),
        scenario.servers.len(),
        scenario.flavor,
        scenario.semi_sync.map(|k| format!(", semi-sync {k}")).unwrap_or_default(),
        report.simulated_ms as f64 / 1_000.0,
        began.elapsed().as_millis(),
        report.faults,
        report.violations.len()
    );
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Many.
pub fn run(seeds: Range<u64>, jobs: usize, bound: Option<Duration>) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    for (seed, story) in STORIES {
        let report = guarded(*seed, false);
        if !report.violations.is_empty() {
            println!("again: {story}");
        }
        take(&mut sum.lock().expect(POISON), report, true);
    }
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end || bound.is_some_and(|bound| began.elapsed() >= bound) {
                        return;
                    }
                    let twice = seed.is_multiple_of(TWICE_EVERY);
                    let report = guarded(seed, twice);
                    let same = !twice || guarded(seed, true).lines == report.lines;
                    take(&mut sum.lock().expect(POISON), report, same);
                }
            });
        }
    });
    summary(&sum.into_inner().expect(POISON), began.elapsed(), jobs)
}

/// A panic of a run is a violation with a seed, not the end of the batch.
pub fn guarded(seed: u64, keep: bool) -> Report {
    let scenario = generate::scenario(seed);
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run::run(seed, &scenario, keep)));
    ran.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_else(|| "a panic without words".into());
        Report {
            seed,
            violations: vec![Violation { at: 0, check: PANIC, what }],
            simulated_ms: 0,
            faults: 0,
            counts: Counts::default(),
            lines: Vec::new(),
            polls: 0,
        }
    })
}

fn take(sum: &mut Sum, report: Report, same: bool) {
    sum.seeds += 1;
    sum.counted += u64::from(report.faults >= FAULTS_MIN && report.simulated_ms >= 60_000);
    sum.simulated_ms += report.simulated_ms;
    sum.faults += report.faults;
    sum.polls += report.polls;
    sum.counts.add(&report.counts);
    if !same {
        sum.undetermined.push(report.seed);
    }
    if report.violations.is_empty() {
        return;
    }
    if sum.broken.len() < SHOWN {
        let about = report.lines.iter().filter(|line| !line.contains("acknowledges row"));
        about.for_each(|line| println!("{line}"));
    }
    for violation in report.violations {
        println!("{}", say(report.seed, &violation));
        sum.broken.push((report.seed, violation));
    }
}

fn say(seed: u64, violation: &Violation) -> String {
    format!(
        "VIOLATION of \"{}\" at {:.3} s: {}\n  commit {}, tier a: sim --seed {seed} --verbose",
        violation.check,
        violation.at as f64 / 1_000.0,
        violation.what,
        commit()
    )
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let said = asked.ok().filter(|out| out.status.success());
    said.and_then(|out| String::from_utf8(out.stdout).ok()).map_or_else(|| "?".into(), |s| s.trim().into())
}

fn summary(sum: &Sum, took: Duration, jobs: usize) -> ExitCode {
    println!("interesting states, over {} seeds:", sum.seeds);
    for state in STATES {
        println!("  {:>9}  {state}", sum.counts.of(state));
    }
    let mut by_check: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, violation) in &sum.broken {
        by_check.entry(violation.check).or_default().push(*seed);
    }
    for (check, seeds) in &by_check {
        let some: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
        println!("broken {} times: {check} (seeds {})", seeds.len(), some.join(", "));
    }
    for seed in &sum.undetermined {
        println!("seed {seed} is not the same history twice");
    }
    let never: Vec<&str> = STATES.iter().filter(|state| sum.counts.of(state) == 0).copied().collect();
    if !never.is_empty() {
        println!("never reached: {}", never.join("; "));
    }
    let minutes = sum.simulated_ms as f64 / 60_000.0;
    println!(
        "sim tier a: {} seeds ({} with {FAULTS_MIN} faults and more), {minutes:.0} simulated minutes, {} faults, {} \
         recoveries, {} of {} states, {:.1} minutes/s on {jobs} thread(s), {} polls/minute, {} violations",
        sum.seeds,
        sum.counted,
        sum.faults,
        sum.counts.of("failover succeeded") + sum.counts.of("switchover succeeded"),
        STATES.len() - never.len(),
        STATES.len(),
        minutes / took.as_secs_f64(),
        sum.polls / (minutes as u64).max(1),
        sum.broken.len()
    );
    let missed = sum.seeds >= ENOUGH && !never.is_empty();
    match sum.broken.is_empty() && sum.undetermined.is_empty() && !missed {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    }
}
