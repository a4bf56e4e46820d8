//! What watching costs: a measurement, run by name (`--ignored --nocapture`), asserting nothing about time.

use std::fs;

use super::*;

/// CPU seconds this process has used, from `/proc/self/stat` (clock ticks of 10 ms).
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

on_both_ignored! { watching_four_servers }

async fn watching_four_servers(install: Install) {
    let primary = Server::start(&install, 1, &[]).await;
    let mut servers = Vec::new();
    for number in 2..5 {
        let replica = Server::start(&install, number, &[]).await;
        replica.follow(&primary).await;
        servers.push(replica);
    }
    servers.insert(0, primary);
    let settings = |n| match n {
        0 => ProbeSettings { interval: Duration::from_millis(250), ..ProbeSettings::default() },
        _ => ProbeSettings::default(),
    };
    let mut watches: Vec<Watch> =
        servers.iter().enumerate().map(|(n, s)| Watch::of(s, settings(n))).collect();
    for watch in &mut watches {
        watch.until("an answer", is_answer).await;
    }
    let (began, cpu) = (Instant::now(), cpu_s());
    let mut took = Vec::new();
    while began.elapsed() < Duration::from_secs(30) {
        for watch in &mut watches {
            while let Ok(event) = watch.events.try_recv() {
                took.push(event.ended - event.began);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    took.sort();
    let share = (cpu_s() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{}: {} probes, median {median:?}, longest {longest:?}, {share:.2} % of a core",
        install.flavor,
        took.len()
    );
}

mod line {
    use mysql_async::prelude::Queryable;
    use quorate::session::{Purpose, Session, SessionOptions};

    use super::*;

    on_both_ignored! { the_line_under_a_session }

    /// The same round trips over the driver alone and over a session.
    async fn the_line_under_a_session(install: Install) {
        const TRIPS: u32 = 5_000;
        let server = Server::start(&install, 1, &[]).await;
        let mut conn = server.root().await;
        let (began, cpu) = (Instant::now(), cpu_s());
        for _ in 0..TRIPS {
            let _: Option<u8> = conn.query_first("SELECT 1").await.unwrap();
        }
        let direct = (began.elapsed() / TRIPS, (cpu_s() - cpu) * 1e6 / f64::from(TRIPS));
        let options = SessionOptions::new(Purpose::Probe, 9);
        let mut session = Session::open(&server.address(), &account(), &options).await.unwrap();
        let (began, cpu) = (Instant::now(), cpu_s());
        for _ in 0..TRIPS {
            session.run("SELECT 1", PATIENCE).await.unwrap();
        }
        let carried = (began.elapsed() / TRIPS, (cpu_s() - cpu) * 1e6 / f64::from(TRIPS));
        println!(
            "{}: driver {:?} {:.0} us CPU, session {:?} {:.0} us CPU",
            install.flavor, direct.0, direct.1, carried.0, carried.1
        );
    }
}
