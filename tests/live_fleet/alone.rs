//! What only the simulated servers can be made to do at will: cuts in one direction, a power failure, a hanging disk.

use quorate::model::{facts::Receiver, server::Flavor};

use crate::fleet::{
    Account, Dialled, Fleet, Happened, Kill, Net, OpenNet, Reply, ServerNo, ServerSpec, SessionNo, Statement,
};

const SOURCE: ServerNo = ServerNo(0);
const REPLICA: ServerNo = ServerNo(1);

/// Everything arrives after a while, but in one direction nothing may.
struct Cut(Option<(ServerNo, ServerNo)>);

impl Net for Cut {
    fn path(&mut self, from: ServerNo, to: ServerNo) -> Option<u64> {
        (self.0 != Some((from, to))).then_some(3)
    }
}

fn pair(flavor: Flavor, sync_binlog: u32) -> Fleet {
    let spec =
        |number| ServerSpec { sync_binlog, net_timeout_ms: 4_000, ..ServerSpec::ordinary(flavor, number) };
    let mut fleet = Fleet::new([spec(1), spec(2)]);
    fleet.follow(REPLICA, SOURCE, 500, 1);
    fleet
}

fn login(fleet: &mut Fleet, server: ServerNo, now_ms: u64) -> SessionNo {
    match fleet.connect(server, "here", Account::App, now_ms) {
        Dialled::Greeted(session) => session,
        other => panic!("{other:?}"),
    }
}

/// Lets everything happen until then, at its own time.
fn pass(fleet: &mut Fleet, net: &mut dyn Net, until_ms: u64) -> Vec<Happened> {
    while let Some(at) = fleet.next_ms().filter(|at| *at <= until_ms) {
        fleet.advance(at, net);
    }
    fleet.advance(until_ms, net);
    fleet.take_done()
}

fn facts(fleet: &mut Fleet, server: ServerNo, now_ms: u64) -> quorate::model::facts::ServerFacts {
    let Dialled::Greeted(session) = fleet.connect(server, "looker", Account::Probe, now_ms) else {
        panic!("no login");
    };
    fleet.send(session, vec![Statement::ReadFacts(true)], now_ms);
    let done = pass(fleet, &mut OpenNet, now_ms);
    fleet.hang_up(session, now_ms);
    let found = done.into_iter().find_map(|happened| match happened {
        Happened::Answered { answer, .. } => match answer.replies.into_iter().next() {
            Some(Reply::Facts(facts)) => Some((*facts).clone()),
            _ => None,
        },
        Happened::Closed { .. } => None,
    });
    found.expect("facts")
}

#[test]
fn a_cut_towards_the_replica_is_noticed_at_its_time_out_and_loses_nothing() {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let mut fleet = pair(flavor, 1);
        pass(&mut fleet, &mut Cut(None), 2_100);
        let session = login(&mut fleet, SOURCE, 2_100);
        assert!(facts(&mut fleet, REPLICA, 2_100).channels[0].heartbeats >= Some(3));
        let mut net = Cut(Some((SOURCE, REPLICA)));
        fleet.paths_changed(2_100);
        fleet.send(session, vec![Statement::Insert(1)], 2_200);
        pass(&mut fleet, &mut net, 5_900);
        assert_eq!(facts(&mut fleet, REPLICA, 5_900).channels[0].receiver, Receiver::Running);
        pass(&mut fleet, &mut net, 7_000);
        assert_eq!(facts(&mut fleet, REPLICA, 7_000).channels[0].receiver, Receiver::Connecting);
        fleet.paths_changed(9_000);
        pass(&mut fleet, &mut Cut(None), 40_000);
        let of_source = facts(&mut fleet, SOURCE, 40_000);
        let of_replica = facts(&mut fleet, REPLICA, 40_000);
        assert_eq!(of_source.executed, of_replica.executed);
        assert_eq!(of_replica.channels[0].receiver, Receiver::Running);
        assert_eq!(of_source.dump_clients.map(|dumps| dumps.len()), Some(1), "no dump thread is left behind");
    }
}

#[test]
fn a_power_failure_takes_what_was_not_flushed_and_the_replica_is_ahead() {
    for (sync_binlog, kept) in [(0, false), (1, true)] {
        let mut fleet = pair(Flavor::MySql, sync_binlog);
        let mut net = Cut(None);
        pass(&mut fleet, &mut net, 1_000);
        let session = login(&mut fleet, SOURCE, 1_000);
        fleet.send(session, vec![Statement::Insert(1)], 1_000);
        pass(&mut fleet, &mut net, 5_000);
        fleet.send(session, vec![Statement::Insert(2)], 5_000);
        pass(&mut fleet, &mut net, 5_100);
        fleet.kill(SOURCE, Kill::Power { lost_ms: 2_000 }, 5_100);
        assert_eq!(fleet.connect(SOURCE, "here", Account::App, 5_100), Dialled::Silent);
        pass(&mut fleet, &mut net, 6_000);
        fleet.restart(SOURCE, 6_000);
        pass(&mut fleet, &mut net, 60_000);
        assert!(fleet.server(SOURCE).log.rows().contains(&1));
        assert_eq!(fleet.server(SOURCE).log.rows().contains(&2), kept);
        assert!(fleet.server(REPLICA).log.rows().contains(&2));
        let channel = facts(&mut fleet, REPLICA, 60_000).channels.remove(0);
        match kept {
            true => assert_eq!(channel.receiver, Receiver::Running, "{channel:?}"),
            false => assert_eq!(channel.receiver_error.map(|(code, _)| code), Some(13_114)),
        }
    }
}

#[test]
fn a_hanging_disk_holds_commits_and_lets_readers_go_on() {
    let mut fleet = pair(Flavor::MySql, 1);
    let session = login(&mut fleet, SOURCE, 100);
    fleet.stall(SOURCE, 100);
    fleet.send(session, vec![Statement::Insert(1)], 100);
    assert!(pass(&mut fleet, &mut OpenNet, 5_000).is_empty());
    assert!(facts(&mut fleet, SOURCE, 5_000).executed.is_empty());
    fleet.unstall(SOURCE, 6_000);
    let done = pass(&mut fleet, &mut OpenNet, 6_000);
    assert!(matches!(&done[..], [Happened::Answered { answer, .. }] if answer.error.is_none()), "{done:?}");
}

#[test]
fn a_quiet_fleet_has_nothing_to_do() {
    let mut fleet = pair(Flavor::MariaDb, 1);
    pass(&mut fleet, &mut Cut(None), 20_000);
    assert_eq!(fleet.next_ms(), None, "heartbeats need no looking at");
    assert!(facts(&mut fleet, REPLICA, 60_000).channels[0].heartbeats >= Some(110));
}

/// Told, not judged: how fast a busy fleet of six goes.
#[test]
fn six_busy_servers() {
    let mut fleet = Fleet::new((1..=6).map(|number| ServerSpec::ordinary(Flavor::MySql, number)));
    (1..6).for_each(|replica| fleet.follow(ServerNo(replica), SOURCE, 500, 1));
    let mut net = Cut(None);
    pass(&mut fleet, &mut net, 1_000);
    let writer = login(&mut fleet, SOURCE, 1_000);
    let lookers: Vec<SessionNo> = (0..6).map(|server| login(&mut fleet, ServerNo(server), 1_000)).collect();
    let began = std::time::Instant::now();
    let seconds = 2_000;
    for tick in 4..4 * seconds {
        let now = 250 * tick;
        // Four looks a second at the primary by three nodes, one at each replica; four writes.
        fleet.send(writer, vec![Statement::Insert(tick)], now);
        for (at, looker) in lookers.iter().enumerate() {
            let looks = if at == 0 { 3 } else { 3 * usize::from(tick % 4 == 0) };
            for _ in 0..looks {
                fleet.send(*looker, vec![Statement::ReadFacts(false)], now);
            }
        }
        drop(pass(&mut fleet, &mut net, now + 249));
    }
    let took = began.elapsed();
    eprintln!("{seconds} s of six servers in {} ms", took.as_millis());
    assert_eq!(fleet.server(ServerNo(5)).log.rows().len() as u64, 4 * seconds - 4);
}
