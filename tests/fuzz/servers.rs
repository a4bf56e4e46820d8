//! Servers that talk nonsense, in every phase: the greeting, the login, the middle of a row. Readings, probers and steps
//! end with an error that has a name, in their time.

use std::time::Duration;

use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use quorate::{
    core::plan::step::{Action, SourceOptions, Step, StepEnd, Target},
    executor::{Executor, ExecutorOptions, Permit},
    model::{
        address::Address,
        facts::ServerFacts,
        gtid::GtidSet,
        server::{Flavor, Identity, ServerId},
        words::is_plain,
    },
    probe::{self, Outcome, ProbeSettings, ProbeTarget},
    session::{Account, Reading},
};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};

use crate::{
    mysql::{
        Script, Server, What,
        packets::{error, greeting, header, ok, row},
    },
    spoil::{cases, odd_text, spoil},
    texts::recorded,
};

/// Every wait for a fact ends here, and fails.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a reading is given.
const WITHIN: Duration = Duration::from_millis(500);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn account() -> Account {
    Account::plain("quorate", "secret")
}

fn replica(mariadb: bool) -> Script {
    let name = if mariadb { Flavor::MariaDb } else { Flavor::MySql };
    let version = if mariadb { "10.11.19" } else { "9.7.4" };
    let all = recorded();
    // The recorded replica: the one with a channel.
    let fits = |(flavor, v, text): &&(Flavor, String, String)| {
        *flavor == name && v == version && text.contains("Using_Gtid: S") | text.contains("Auto_Position: 1")
    };
    let (_, version, text) = all.iter().find(fits).expect("a recorded replica");
    let greeted = if mariadb { format!("5.5.5-{version}-MariaDB") } else { version.clone() };
    Script::honest(&greeted, text)
}

/// One reading with an inventory; its end, in words.
async fn read(script: Script) -> Result<Reading, String> {
    read_within(script, WITHIN).await
}

async fn read_within(script: Script, within: Duration) -> Result<Reading, String> {
    let server = Server::start(script).await;
    let address = Address::new("127.0.0.1", server.address.port());
    let account = account();
    let reading = probe::read_once(&address, &account, 1, true, within);
    let end = timeout(DEADLINE, reading).await.expect("a reading ends");
    end.map_err(|error| error.to_string())
}

fn what() -> impl Strategy<Value = What> {
    let payload = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            odd_text().prop_map(String::into_bytes),
            (any::<u16>(), odd_text()).prop_map(|(code, text)| error(code, "HY000", text.as_bytes())),
            prop::collection::vec(odd_text(), 0..6)
                .prop_map(|texts| row(&texts.into_iter().map(|t| Some(t.into_bytes())).collect::<Vec<_>>())),
            (
                prop::sample::select(vec![0xfb_u8, 0xfc, 0xfd, 0xfe, 0x00, 0x01, 0xff]),
                prop::collection::vec(any::<u8>(), 0..12)
            )
                .prop_map(|(first, rest)| [vec![first], rest].concat()),
        ]
    };
    let switch = (
        prop::sample::select(vec![
            "caching_sha2_password",
            "mysql_native_password",
            "parsec",
            "client_ed25519",
            "mysql_old_password",
            "mysql_clear_password",
            "x",
        ]),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(plugin, data)| [&[0xfe], plugin.as_bytes(), &[0], &data[..]].concat());
    let login = prop_oneof![switch, payload(), Just(vec![1, 4]), Just(vec![1, 3])];
    prop_oneof![
        8 => prop::collection::vec(spoil(), 1..4).prop_map(What::Spoilt),
        4 => payload().prop_map(What::Payload),
        4 => prop::collection::vec(login, 1..4).prop_map(What::Payloads),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(What::Raw),
        2 => Just(What::Half),
        1 => Just(What::HalfAndSilence),
        2 => Just(What::Close),
        1 => Just(What::Silence),
    ]
}

type Cells = Vec<(usize, Option<Vec<u8>>)>;

fn cells() -> impl Strategy<Value = Cells> {
    let value = prop_oneof![
        5 => odd_text().prop_map(|text| Some(text.into_bytes())),
        1 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
        1 => (any::<u8>(), 100_000..400_000_usize).prop_map(|(byte, length)| Some(vec![byte; length])),
    ];
    prop::collection::vec((0..150_usize, value), 0..8)
}

fn facts_are_plain(facts: &ServerFacts) -> Result<(), TestCaseError> {
    let said = format!(
        "{} {} {:?}",
        facts.identity,
        facts.version,
        facts.reports_as.as_ref().map(ToString::to_string)
    );
    prop_assert!(said.chars().all(is_plain), "{said}");
    let bytes = rmp_serde::to_vec_named(facts).unwrap();
    prop_assert_eq!(&rmp_serde::from_slice::<ServerFacts>(&bytes).unwrap(), facts);
    Ok(())
}

/// What fits no reading, and what a reading is not.
fn judge(end: Result<Reading, String>) -> Result<(), TestCaseError> {
    match end {
        Ok(reading) => facts_are_plain(&reading.facts),
        Err(error) => {
            prop_assert!(
                !error.is_empty() && error.len() < 5_000 && error.chars().all(is_plain),
                "{}",
                error
            );
            Ok(())
        }
    }
}

/// Readings of all of these at once: one that waits for its deadline holds nobody up.
fn read_all(scripts: Vec<Script>) -> Result<(), TestCaseError> {
    let ends = runtime().block_on(join_all(scripts.into_iter().map(read)));
    ends.into_iter().try_for_each(judge)
}

fn spoiling() -> impl Strategy<Value = Script> {
    let from = prop_oneof![0..4_usize, 0..120_usize];
    (any::<bool>(), from, what(), cells())
        .prop_map(|(mariadb, from, what, cells)| Script { cells, ..replica(mariadb).but(from, what) })
}

fn odd() -> impl Strategy<Value = Script> {
    let missing = prop_oneof![9 => Just((0, 0)), 1 => (0..3_usize, 1..4_usize)];
    (any::<bool>(), cells(), missing).prop_map(|(mariadb, cells, answers_missing)| Script {
        cells,
        answers_missing,
        ..replica(mariadb)
    })
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn whatever_a_server_sends_a_reading_ends(scripts in prop::collection::vec(spoiling(), 1..32)) {
        read_all(scripts)?;
    }

    #[test]
    fn odd_values_are_facts_or_an_error(scripts in prop::collection::vec(odd(), 1..32)) {
        read_all(scripts)?;
    }
}

fn identity(mariadb: bool) -> Identity {
    let facts = runtime().block_on(read(replica(mariadb))).expect("the honest server is read").facts;
    facts.identity
}

fn actions(flavor: Flavor) -> Vec<Action> {
    let (channel, until) = (String::new, GtidSet::empty(flavor));
    let options = SourceOptions {
        source: Address::new("127.0.0.1", 1),
        heartbeat_ms: 500,
        connect_retry_s: 1,
        gtid_slave_pos: Some("0-1-1".into()),
    };
    vec![
        Action::StopReceiver { channel: channel() },
        Action::StartReceiver { channel: channel() },
        Action::RestartReceiver { channel: channel() },
        Action::ReadFacts,
        Action::Fence,
        Action::Unfence { semi_sync_acks: Some(1), must_hold: until.clone() },
        Action::Drain { channel: channel(), until: until.clone() },
        Action::Detach { channel: channel(), until: until.clone() },
        Action::Point { channel: channel(), options, semi_sync_replica: Some(true), wait: true },
        Action::EnableSemiSyncSource { acks: 1 },
        Action::DisableSemiSyncSource,
        Action::MakeWritable { must_hold: until },
        Action::MakeReadOnly { lock_wait_s: 1 },
        Action::VerifyWrite { recovery: "7".into(), epoch: 1 },
        Action::ListBlockers { older_than_ms: 10 },
        Action::KillWriters,
        Action::KillPredecessors,
    ]
}

async fn step(script: Script, identity: Identity, action: Action) -> StepEnd {
    let server = Server::start(script).await;
    let address = Address::new("127.0.0.1", server.address.port());
    let executor = Executor::new(ExecutorOptions {
        group: "fuzz".into(),
        node: 1,
        account: account(),
        replication: account(),
        nodes: vec![1, 2, 3],
    });
    let deadline = WITHIN / 2;
    let step = Step { target: Target { server: ServerId("s".into()), identity, address }, action };
    let ends = async {
        if let Err(why) = executor.open(&step.target, deadline).await {
            return StepEnd::Refused { why };
        }
        let permit = Permit::new("7", 7, 1, tokio::time::Instant::now(), deadline);
        executor.run(&permit, &step, deadline).await
    };
    timeout(DEADLINE, ends).await.expect("a step ends")
}

#[test]
fn whatever_a_server_sends_a_step_ends() {
    let identities = [identity(false), identity(true)];
    let one = (any::<usize>(), 0..60_usize, prop::option::of(what()), cells());
    proptest!(cases(8), |(mariadb in any::<bool>(), steps in prop::collection::vec(one, 1..24))| {
        let identity = &identities[usize::from(mariadb)];
        let steps = steps.into_iter().map(|(which, from, what, cells)| {
            let mut actions = actions(identity.flavor);
            let action = actions.swap_remove(which % actions.len());
            step(Script { what, from, cells, ..replica(mariadb) }, identity.clone(), action)
        });
        for end in runtime().block_on(join_all(steps)) {
            prop_assert!(end.to_string().len() < 8_000 && !end.to_string().contains("secret"), "{}", end);
        }
    });
}

/// Each of these ended the process, the task, or the memory of a node once, or was believed.
#[test]
fn what_a_server_is_not_believed_has_a_name() {
    let runtime = runtime();
    let count = |columns: u64| [&[0xfe][..], &columns.to_le_bytes()].concat();
    let switch = |plugin: &str, data: &[u8]| [&[0xfe], plugin.as_bytes(), &[0], data].concat();
    let packet = |sequence: u8, payload: &[u8]| [&header(payload.len(), sequence)[..], payload].concat();
    let parsec = |factor: u8| [&[1, b'P', factor], &[7; 18][..]].concat();
    // The greeting, the login, the settings; then an answer: its size, its two columns, its rows.
    let (answer, row_at) = (3, 6);
    let cases: Vec<(&str, usize, What, &str)> = vec![
        (
            "more columns than memory",
            answer,
            What::Payload(count(1 << 40)),
            "a result set of 1099511627776 columns",
        ),
        ("more columns than numbers", answer, What::Payload(count(u64::MAX)), "columns"),
        (
            "an answer before the question",
            1,
            What::Raw([packet(2, &ok(0)), packet(1, &count(1 << 40))].concat()),
            "more than was asked for",
        ),
        ("an empty packet", answer, What::Payload(Vec::new()), "an empty packet"),
        ("an empty packet in the login", 1, What::Payload(Vec::new()), "an empty packet"),
        ("endless rows", row_at, What::Endless(row(&[Some(b"x".to_vec()), None])), "sends more than"),
        (
            "endless large rows",
            row_at,
            What::Endless(row(&[Some(vec![b'x'; 1 << 20]), None])),
            "longer than 32 MiB",
        ),
        ("endless answers", answer, What::Endless(vec![0, 0, 0, 10, 0, 0, 0]), "sends more than"),
        ("a file of ours", answer, What::Payload(b"\xfb/etc/passwd".to_vec()), "unexpected answer"),
        ("a long error", answer, What::Payload(error(1227, "42000", &[b'x'; 60_000])), "xxx ..."),
        ("an error that steers", answer, What::Payload(error(1227, "42000", b"\x1b[2J\n")), "\\u{1b}[2J"),
        (
            "a password in clear",
            1,
            What::Payload(switch("mysql_clear_password", b"")),
            "must be enabled on the client side",
        ),
        ("an unknown plug-in", 1, What::Payload(switch(&"p".repeat(500), b"x")), "does not speak"),
        (
            "a nonce of nothing",
            1,
            What::Payloads(vec![switch("caching_sha2_password", b""), vec![1, 4], b"\x01k".to_vec()]),
            "make no sense",
        ),
        (
            "a key that is none",
            1,
            What::Payloads(vec![
                switch("caching_sha2_password", &[7; 20]),
                vec![1, 4],
                b"\x01no key".to_vec(),
            ]),
            "make no sense",
        ),
        (
            "a switch and another",
            1,
            What::Payloads(vec![switch("parsec", &[7; 32]), switch("parsec", &[7; 32])]),
            "make no sense",
        ),
        (
            "a million rounds",
            1,
            What::Payloads(vec![switch("parsec", &[7; 32]), parsec(20)]),
            "`parsec` with 1024 << 20 rounds",
        ),
        ("half a row", row_at, What::Half, "closed"),
        ("silence in the greeting", 0, What::Silence, "no greeting within"),
        ("silence in the login", 1, What::Silence, "no login within"),
        ("silence in an answer", answer, What::Silence, "no answer within"),
        ("silence in a row", row_at, What::HalfAndSilence, "no answer within"),
        ("another greeting", 0, What::Payload(b"\x09old".to_vec()), "not a MySQL or MariaDB port"),
        (
            "an endless greeting",
            0,
            What::Payload(greeting(&"9".repeat(2_000))),
            "not a MySQL or MariaDB port",
        ),
    ];
    for (name, from, what, wanted) in cases {
        // What has no end is to reach its bound, not its deadline.
        let within = if matches!(what, What::Endless(_)) { DEADLINE / 2 } else { WITHIN };
        let end = runtime.block_on(read_within(replica(false).but(from, what), within));
        let error = end.expect_err(name);
        assert!(error.contains(wanted) && error.len() < 700, "{name}: {error}");
    }
}

#[test]
fn what_would_be_read_as_absence_is_an_error() {
    let runtime = runtime();
    for (answers_missing, wanted) in [((1, 1), "answers to"), ((1, 5), "answers to"), ((0, 1), "no answer")] {
        let cut = Script { answers_missing, ..replica(false) };
        let error = runtime.block_on(read(cut)).expect_err("answers are missing");
        assert!(error.contains(wanted), "{error}");
    }
    for (line, wanted) in [
        ("server_uuid: 4f2aa85c-e60d-11f1-a68b-02fc00000001", "no server_uuid"),
        ("  server_id: 2", "no server_id"),
        ("  read_only: 1", "no read_only"),
        ("Source_Host: 127.0.0.1", ""),
    ] {
        let honest = replica(false);
        let (name, _) = line.trim().split_once(": ").unwrap();
        assert!(honest.answers.contains(line), "{line}");
        for value in ["NULL", "nonsense of a liar"] {
            let answers =
                honest.answers.replace(line, &format!("{}: {value}", line.split_once(": ").unwrap().0));
            let end = runtime.block_on(read(Script { answers, ..honest.clone() }));
            match (name, value, end) {
                // A channel without a source is none to the server either.
                ("Source_Host", "NULL", Ok(reading)) => assert!(reading.facts.channels.is_empty()),
                ("Source_Host", _, end) => assert!(end.unwrap_err().contains("for the source of a channel")),
                ("read_only", "nonsense of a liar", Ok(reading)) => assert!(reading.facts.read_only),
                (_, _, end) => assert!(end.as_ref().unwrap_err().contains(wanted), "{name} {value}: {end:?}"),
            }
        }
    }
}

#[test]
fn a_clock_that_was_set_back_is_no_heartbeat_of_now() {
    let runtime = runtime();
    let honest = replica(false);
    let line = honest.answers.lines().find(|line| line.contains("age_us: ")).expect("a heartbeat").to_owned();
    for (age, wanted) in [
        ("443000", Some(443)),
        ("-20000", Some(0)),
        ("-3600000000", None),
        ("-9223372036854775808", None),
        ("x", None),
    ] {
        let answers = honest.answers.replace(&line, &format!("age_us: {age}"));
        let reading = runtime.block_on(read(Script { answers, ..honest.clone() })).expect("it is read");
        assert_eq!(reading.facts.channels[0].heartbeat_age_ms, wanted, "{age}");
    }
}

/// A prober whose server spoke nonsense goes on, and hears it when it speaks sense.
#[test]
fn a_prober_outlives_nonsense() {
    runtime().block_on(async {
        for (from, what) in [
            (1, What::Payloads(vec![[&[0xfe], &b"parsec"[..], &[0], &[7; 32]].concat(); 2])),
            (2, What::Payload(Vec::new())),
            (4, What::Half),
            (0, What::Raw(b"SSH-2.0-x\r\n".to_vec())),
        ] {
            let script = Script { well_from: 3, ..replica(false).but(from, what.clone()) };
            let server = Server::start(script).await;
            let (events, mut told) = mpsc::channel(64);
            let address = Address::new("127.0.0.1", server.address.port());
            let settings = ProbeSettings { interval: Duration::from_millis(50), ..ProbeSettings::default() };
            let _prober =
                probe::spawn(ProbeTarget { server: None, address }, account().into(), 1, settings, events);
            let answered = async {
                while let Some(event) = told.recv().await {
                    if matches!(event.outcome, Outcome::Answered { .. }) {
                        return;
                    }
                }
            };
            timeout(DEADLINE, answered).await.unwrap_or_else(|_| panic!("never heard again after {what:?}"));
        }
    });
}
