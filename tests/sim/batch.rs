//! Many seeds, one after another, over as many threads as asked for; and what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    alone,
    args::Batch,
    check::Violation,
    count::{Counts, MODEL_STATES, RAFT_STATES, STATES},
    generate,
    real::Tier,
    run::{self, Report},
    scenario::{Scenario, Sort},
    stories::stories,
    world::POISON,
};

/// A seed counts only with so many faults that met something.
const FAULTS_MIN: usize = 3;
/// Violations shown in full; all are counted.
const SHOWN: usize = 3;
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
pub fn one(sort: Sort, seed: u64, verbose: bool) -> ExitCode {
    let began = Instant::now();
    let scenario = generate::scenario(sort, seed);
    let report = play(sort, seed, true);
    if verbose {
        println!("{scenario:#?}");
    }
    if verbose || !report.violations.is_empty() {
        for line in report.lines.iter().filter(|line| verbose || !line.contains("acknowledges row")) {
            println!("{line}");
        }
    }
    for violation in &report.violations {
        println!("{}", say(sort, seed, violation));
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

/// Batches, one after another.
pub fn all(batches: Vec<Batch>) -> ExitCode {
    let mut worst = true;
    for batch in batches {
        worst &= run(batch);
    }
    if worst { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Many; whether no promise was broken.
fn run(batch: Batch) -> bool {
    let Batch { sort, seeds, jobs, bound } = batch;
    let began = Instant::now();
    // What was found before comes first.
    let stories = if sort.kind.is_none() { stories(sort.tier) } else { &[] };
    let (next_story, next) = (AtomicUsize::new(0), AtomicU64::new(seeds.start));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some((seed, story)) = stories.get(next_story.fetch_add(1, Relaxed)) {
                    let report = play(sort, *seed, false);
                    if !report.violations.is_empty() {
                        println!("again: {story}");
                    }
                    take(sort, &mut sum.lock().expect(POISON), report, true);
                }
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    let late = bound.is_some_and(|bound| began.elapsed() >= bound);
                    // The first is played however slow the machine is.
                    if seed >= seeds.end || late && seed != seeds.start {
                        return;
                    }
                    let (report, same) = maybe_twice(sort, seed);
                    take(sort, &mut sum.lock().expect(POISON), report, same);
                }
            });
        }
    });
    summary(sort, &sum.into_inner().expect(POISON), began.elapsed(), jobs)
}

/// A seed's report, and whether it came out the same where it was played twice.
fn maybe_twice(sort: Sort, seed: u64) -> (Report, bool) {
    let twice = seed.is_multiple_of(twice_every(sort.tier));
    let report = play(sort, seed, twice);
    let same = !twice || play(sort, seed, true).lines == report.lines;
    (report, same)
}

/// One seed of that sort.
pub fn play(sort: Sort, seed: u64, keep: bool) -> Report {
    match sort.tier {
        Tier::A => guarded(seed, &generate::scenario(sort, seed), keep),
        Tier::B => alone::play(sort, seed, keep),
    }
}

/// A panic of a run is a violation with a seed, not the end of the batch.
pub fn guarded(seed: u64, scenario: &Scenario, keep: bool) -> Report {
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run::run(seed, scenario, keep)));
    ran.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_else(|| "a panic without words".into());
        let violations = vec![Violation { at: 0, check: PANIC.into(), what }];
        Report { seed, violations, ..Report::default() }
    })
}

fn take(sort: Sort, sum: &mut Sum, report: Report, same: bool) {
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
        println!("{}", say(sort, report.seed, &violation));
        sum.broken.push((report.seed, violation));
    }
}

fn say(sort: Sort, seed: u64, violation: &Violation) -> String {
    format!(
        "VIOLATION of \"{}\" at {:.3} s: {}\n  commit {}: sim {} --seed {seed} --verbose",
        violation.check,
        violation.at as f64 / 1_000.0,
        violation.what,
        commit(),
        sort.args().join(" ")
    )
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let said = asked.ok().filter(|out| out.status.success());
    said.and_then(|out| String::from_utf8(out.stdout).ok()).map_or_else(|| "?".into(), |s| s.trim().into())
}

fn summary(sort: Sort, sum: &Sum, took: Duration, jobs: usize) -> bool {
    println!("interesting states, over {} seeds:", sum.seeds);
    let states: Vec<&str> = states(sort.tier).collect();
    for state in &states {
        println!("  {:>9}  {state}", sum.counts.of(state));
    }
    let mut by_check: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (seed, violation) in &sum.broken {
        by_check.entry(&violation.check).or_default().insert(*seed);
    }
    for (check, seeds) in &by_check {
        let some: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
        println!("broken in {} seeds: {check} ({})", seeds.len(), some.join(", "));
    }
    for seed in &sum.undetermined {
        println!("seed {seed} is not the same history twice");
    }
    let never: Vec<&str> = states.iter().filter(|state| sum.counts.of(state) == 0).copied().collect();
    if !never.is_empty() {
        println!("never reached: {}", never.join("; "));
    }
    let minutes = sum.simulated_ms as f64 / 60_000.0;
    println!(
        "sim {}: {} seeds ({} with {FAULTS_MIN} faults and more), {minutes:.0} simulated minutes, {} faults, {} \
         recoveries, {} of {} states, {:.1} minutes/s on {jobs} thread(s), {} polls/minute, {} violations",
        sort.args().join(" "),
        sum.seeds,
        sum.counted,
        sum.faults,
        sum.counts.of("failover succeeded") + sum.counts.of("switchover succeeded"),
        states.len() - never.len(),
        states.len(),
        minutes / took.as_secs_f64(),
        sum.polls / (minutes as u64).max(1),
        sum.broken.len()
    );
    // One kind alone does not come by all of them.
    let missed = sort.kind.is_none() && sum.seeds >= enough(sort.tier) && !never.is_empty();
    sum.broken.is_empty() && sum.undetermined.is_empty() && !missed
}

/// The states that a batch of this tier is to come by.
fn states(tier: Tier) -> impl Iterator<Item = &'static str> {
    let own = if tier == Tier::B { RAFT_STATES } else { MODEL_STATES };
    STATES.iter().chain(own).copied()
}

/// A batch of so many seeds must have come by every counted state.
fn enough(tier: Tier) -> u64 {
    match tier {
        Tier::A => 2_000,
        Tier::B => 1_000,
    }
}

/// Every so many seeds one is run twice and compared.
fn twice_every(tier: Tier) -> u64 {
    match tier {
        Tier::A => 101,
        Tier::B => 23,
    }
}
