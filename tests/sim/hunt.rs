//! Seeds until a check fails: how planted mistakes are hunted (`cargo chaos mutants`). Says what came of it as one line of
//! JSON, for the rig.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use quorate::mistake;

use super::{args::Hunt, batch, check, check::Violation, run, world::POISON};

/// What one seed brought.
struct Played {
    seed: u64,
    simulated_ms: u64,
    violations: Vec<Violation>,
}

/// Plays seeds in their order until one is not kept, or all of them. Every seed before the first that failed was played,
/// however many are played at once.
pub fn run(hunt: &Hunt) -> ExitCode {
    let checks = checks();
    let next = AtomicU64::new(hunt.seeds.start);
    let found = AtomicBool::new(false);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..hunt.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= hunt.seeds.end || (found.load(Relaxed) && !hunt.all) {
                        return;
                    }
                    let run::Report { violations, simulated_ms, .. } = batch::play(hunt.sort, seed, false);
                    let named = violations.iter().any(|violation| checks.contains(&&*violation.check));
                    found.fetch_or(named, Relaxed);
                    played.lock().expect(POISON).push(Played { seed, simulated_ms, violations });
                }
            });
        }
    });
    let mut played = played.into_inner().expect(POISON);
    played.sort_by_key(|one| one.seed);
    println!("{}", told(&played, &checks));
    ExitCode::SUCCESS
}

fn checks() -> Vec<&'static str> {
    check::all().iter().map(|check| check.id()).collect()
}

/// By check: the first seed in which it failed, and how many seeds and simulated minutes had been played by then.
fn told(played: &[Played], checks: &[&str]) -> serde_json::Value {
    let (mut simulated_ms, mut broken) = (0, BTreeMap::new());
    for (at, one) in played.iter().enumerate() {
        simulated_ms += one.simulated_ms;
        for Violation { check, what, .. } in &one.violations {
            broken.entry(check).or_insert_with(|| {
                serde_json::json!({
                    "seed": one.seed, "seeds": at + 1, "minutes": simulated_ms / 60_000, "what": what,
                })
            });
        }
    }
    serde_json::json!({
        "seeds": played.len(), "minutes": simulated_ms / 60_000, "broken": broken, "checks": checks,
    })
}

/// The mistakes that this build can make.
pub fn list() -> ExitCode {
    let row = |row: &mistake::Row| serde_json::json!({"name": row.name, "promise": row.promise, "wrong": row.wrong});
    let rows: Vec<_> = mistake::TABLE.iter().map(row).collect();
    println!("{}", serde_json::json!({"compiled_in": mistake::COMPILED_IN, "mistakes": rows}));
    ExitCode::SUCCESS
}
