//! The simulation: the real core and the real actors in a world of one seed.

mod host;
mod net;
mod node;
mod raft;
mod rng;
mod trace;
mod world;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let began = std::time::Instant::now();
    for seed in 0..20 {
    runtime.block_on(async {
        let sim = world::Sim::new(seed);
        sim.with(|w| {
            for id in 1..=3 {
                w.nodes.insert(id, node::Node::new(id, raft::Disk { incarnation: format!("i{id}"), snapshot_every: (20, 5), ..Default::default() }));
            }
            w.found_group(&[1, 2, 3]);
            for id in 1..=3 { w.boot_node(id); }
            w.net.near_ms = 1;
        });
        let end = sim.with(|w| w.now) + 60_000;
        for k in 0..58 {
            let at = 500 + k * 1000;
            sim.with(|w| w.at(at, move |w| {
                match k % 6 {
                    1 => { if let Some(l) = w.leader() { w.kill_node(l); w.after(700, move |w| { w.boot_node(l); }); } }
                    3 => { if let Some(l) = w.leader() { w.pause_node(l); w.after(1200, move |w| { w.resume_node(l, 1200, false); }); } }
                    5 => { if let Some(l) = w.leader() { let r = w.net.harm(net::Select::One(net::End::Node(l)), net::Select::Nodes, net::Harm::Cut, w.now); w.after(1500, move |w| { w.net.heal(r); }); } }
                    _ => {}
                }
            }));
        }
        let log: std::collections::BTreeMap<u64, raft::SimLog> = Default::default();
        let _ = log;
        let s2 = sim.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                let Some(l) = s2.with(|w| w.leader()) else { continue };
                let (log, term) = s2.with(|w| (raft::SimLog::new(w, l), w.nodes[&l].disk.term));
                use quorate::server::ports::Log as _;
                let c = quorate::core::replicated::Command { at_ms: 0, wall_ms: 0, node: l, term, by: "x".into(), request_id: None, change: quorate::core::replicated::Change::Tick };
                let _ = log.propose(term, c).await;
            }
        });
        sim.run_until(end).await;
        sim.with(|w| { for id in 1..=3 { w.compare_now(id); } });
        let w = sim.end();
        if seed == 0 { for l in w.trace.lines().filter(|l| !l.contains("tick")) { println!("{l}"); } }
        println!("committed {} leaders {}", w.group.committed.len(), w.group.leaders.len());
    });
    }
    println!("{:?}", began.elapsed());
}
