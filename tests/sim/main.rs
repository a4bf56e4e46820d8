//! The simulation: the real core and the real actors in a world of one seed. `docs/chaos.md` says what it is and how it
//! is run.

mod check;
mod client;
mod count;
mod executor;
mod fault;
mod fleet;
mod host;
mod lines;
mod net;
mod node;
mod operator;
mod peers;
mod prober;
mod raft;
mod rng;
mod run;
mod scenario;
mod session;
mod told;
mod trace;
mod world;

use fault::{Fault, Planned, When, Who};
use fleet::Kill;
use quorate::model::{policy::Policy, server::Flavor};
use scenario::{NodePlan, Scenario, ServerPlan};

fn main() {
    let server = |source| ServerPlan { datacenter: 0, source, apply_ms: 0, read_only: false, sync_binlog: 1 };
    let node = NodePlan { datacenter: 0, drift: 0, apply_lag_ms: 0, sync_ms: 0 };
    let scenario = Scenario {
        kind: scenario::Kind::Storm,
        nodes: vec![node.clone(), node.clone(), node],
        flavor: Flavor::MySql,
        servers: vec![server(None), server(Some(0)), server(Some(0)), server(Some(0))],
        semi_sync: None,
        policy: Policy::default(),
        timing: Default::default(),
        ways_ms: (1, 5, 0),
        snapshot_every: (100, 10),
        faulty_until: 40_000,
        end: 60_000,
        faults: vec![Planned { when: When::At(10_000), for_ms: 20_000, fault: Fault::KillServer(Who::Primary, Kill::Process) }],
        operations: vec![],
        clients: vec![100, 300],
    };
    let began = std::time::Instant::now();
    let report = run::run(1, &scenario, true);
    for l in report.lines.iter().filter(|l| !l.contains("acknowledges")) { println!("{l}"); }
    println!("{:?} {:?} polls {}", report.violations, report.counts, report.polls);
    println!("{:?}", began.elapsed());
}
