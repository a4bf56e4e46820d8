//! One seed in a process of its own. Tier B needs that: what tokio and std do at random is the same only from the start
//! of a process (`chance`).

use std::{
    io::Write as _,
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
};

use super::{args::TELL, batch, check::Violation, generate, run::Report, scenario::Sort, world::POISON};

/// Panics of tasks, which only end these.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// An assertion of openraft's that only builds with debug assertions have: a cursor that nothing reads goes back when a
/// follower is given a snapshot that ends before what it holds and has not applied (docs/chaos.md). The node stops; one
/// of a release goes on.
const OF_DEBUG_BUILDS: [&str; 2] = ["raft_state/io_state/io_progress.rs", "expect submitted:"];

/// Runs it in a process of its own.
pub fn play(sort: Sort, seed: u64, keep: bool) -> Report {
    let failed = |what: String| Report {
        seed,
        violations: vec![Violation { at: 0, check: "the rig works".into(), what }],
        ..Report::default()
    };
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.arg(TELL).args(sort.args()).args(["--seed", &seed.to_string()]);
    if keep {
        command.arg("--verbose");
    }
    let output = match command.stdin(Stdio::null()).stderr(Stdio::inherit()).output() {
        Ok(output) => output,
        Err(error) => return failed(format!("the process of seed {seed} does not start: {error}")),
    };
    rmp_serde::from_slice(&output.stdout)
        .unwrap_or_else(|error| failed(format!("its process ended with {}: {error}", output.status)))
}

/// Whether the newest panic is one that a release would not know.
pub fn only_in_debug_builds() -> bool {
    PANICS.lock().expect(POISON).last().is_some_and(|what| is_of_debug_builds(what))
}

fn is_of_debug_builds(panic: &str) -> bool {
    OF_DEBUG_BUILDS.iter().all(|words| panic.contains(words))
}

/// The other end of it.
pub fn tell(sort: Sort, seed: u64, keep: bool) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| PANICS.lock().expect(POISON).push(panic.to_string())));
    // So that the crate is linked.
    let _ = chance::drawn();
    let scenario = generate::scenario(sort, seed);
    let mut report = batch::guarded(seed, &scenario, keep);
    let panics = PANICS.lock().expect(POISON);
    let of_task =
        |what: &String| Violation { at: report.simulated_ms, check: batch::PANIC.into(), what: what.clone() };
    let more: Vec<Violation> = panics.iter().filter(|what| !is_of_debug_builds(what)).map(of_task).collect();
    report.violations.extend(more);
    let bytes = rmp_serde::to_vec_named(&report).expect("a report can be written");
    match std::io::stdout().write_all(&bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}
