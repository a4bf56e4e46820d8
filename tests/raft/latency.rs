//! How long a commit takes. A measurement, run by name: `cargo test --test raft latency -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use crate::support::{Group, command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn commit_and_read_barrier() {
    let mut group = Group::running(3, |_| {}).await;
    let leader = group.leader().await;
    let raft = group.raft(leader).clone();
    let follower = group.raft(leader % 3 + 1).clone();

    let mut commits = Vec::new();
    for at_ms in 0..3_000 {
        let begun = Instant::now();
        raft.propose(command(at_ms)).await.expect("committed");
        commits.push(begun.elapsed());
    }
    report("commit, one client", commits);

    let begun = Instant::now();
    for round in 0..100 {
        let writes = (0..64).map(|nth| raft.propose(command(round * 64 + nth)));
        for written in futures::future::join_all(writes).await {
            written.expect("committed");
        }
    }
    println!("64 at a time: {:.0} commits/s", 6_400.0 / begun.elapsed().as_secs_f64());

    for (name, raft) in [("read barrier, leader", &raft), ("read barrier, follower", &follower)] {
        let mut barriers = Vec::new();
        for _ in 0..1_000 {
            let begun = Instant::now();
            raft.read_barrier().await.expect("passed");
            barriers.push(begun.elapsed());
        }
        report(name, barriers);
    }
    println!("syncs at the leader: {:?}", raft.sync_stats());
    drop((raft, follower));
    group.stop_all().await;
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{name}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
}
