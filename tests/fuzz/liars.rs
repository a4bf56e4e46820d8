//! Members of the group that lie to the peer service, and what the leader makes of their answers.

use std::{sync::atomic::Ordering, time::Duration};

use proptest::prelude::*;
use quorate::{
    core::{
        analysis::{Finding, Verdict},
        plan::step::{Action, Step, StepEnd, Target},
        replicated::Change,
    },
    model::{address::Address, server::ClusterId},
    proto::node::v1::{
        ConfirmRequest, DelegateRequest, HelloRequest, MarksRequest, Report, ReportRequest, Stamp,
        SubmitRequest, UrgentRequest,
    },
    server::ports::{
        Delegation, Peers as _,
        peers::{GrpcPeers, encode},
    },
};
use tonic::{Code as Grpc, Response, Status};

use crate::{
    group::{DEADLINE, Group, dead, identity, server},
    spoil::{cases, odd_number, odd_text, spoils},
};

fn report(verdict: &Verdict) -> ReportRequest {
    let report = Report { verdict_bytes: encode(verdict), ..Default::default() };
    ReportRequest { reports: vec![report], ..Default::default() }
}

fn refused<T: std::fmt::Debug>(name: &str, answer: Result<Response<T>, Status>, code: Grpc, wanted: &str) {
    let status = answer.expect_err(name);
    assert_eq!(status.code(), code, "{name}: {status}");
    assert!(
        status.message().contains(wanted) && status.message().len() < 500,
        "{name}: {}",
        status.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_is_not_believed_has_a_name() {
    let group = Group::start().await;
    let (mut client, two) = (group.client(), group.two.incarnation().to_owned());
    let index = group.one.status().last_log.expect("a leader has a log");

    let mut ask = async |verdict: &Verdict| client.report(report(verdict)).await;
    refused(
        "another's verdict",
        ask(&dead(3, "x", 1, "c1")).await,
        Grpc::PermissionDenied,
        "its own verdicts only",
    );
    refused(
        "of another life",
        ask(&dead(2, "x", 1, "c1")).await,
        Grpc::PermissionDenied,
        "its own verdicts only",
    );
    for n in 0..200 {
        let unknown = dead(2, &two, n, &format!("c-{n}-{}", "x".repeat(2_000)));
        refused("an unknown cluster", ask(&unknown).await, Grpc::NotFound, "no cluster");
    }
    let mut huge = dead(2, &two, 1, "c1");
    if let Finding::Failure { evidence, .. } = &mut huge.finding {
        evidence.text = "x".repeat(1 << 20);
    }
    refused("a huge verdict", ask(&huge).await, Grpc::InvalidArgument, "a verdict of");
    let nonsense = Report { verdict_bytes: vec![0xc1; 50], ..Default::default() };
    let many = ReportRequest { reports: vec![nonsense; 3], ..Default::default() };
    refused("nonsense", client.report(many).await, Grpc::InvalidArgument, "does not decode");

    let urgent =
        UrgentRequest { cluster: "nosuch".into(), bound_ms: u64::MAX, epoch: u64::MAX, ..Default::default() };
    refused("an unknown cluster", client.urgent(urgent).await, Grpc::NotFound, "does not watch");
    let marks = MarksRequest { cluster: "\u{0}".repeat(100_000) };
    refused("an unknown cluster", client.marks(marks).await, Grpc::NotFound, "does not watch");

    let submit = |change_bytes: Vec<u8>, by: &str, id: &str| SubmitRequest {
        change_bytes,
        by: by.into(),
        request_id: id.into(),
    };
    let tick = encode(&Change::Tick);
    refused(
        "no change",
        client.submit(submit(vec![0xc1], "b", "")).await,
        Grpc::InvalidArgument,
        "does not decode",
    );
    refused(
        "a long name",
        client.submit(submit(tick.clone(), &"b".repeat(9_999), "")).await,
        Grpc::InvalidArgument,
        "`by`",
    );
    refused(
        "a long id",
        client.submit(submit(tick.clone(), "b", &"i".repeat(9_999))).await,
        Grpc::InvalidArgument,
        "`request_id`",
    );
    let text = "x".repeat(2 << 20);
    let huge = Change::SettleWitness { cluster: ClusterId("c1".into()), witness: 1, said: text };
    refused("a huge change", client.submit(submit(encode(&huge), "b", "")).await, Grpc::Unavailable, "bytes");
    refused(
        "a huge message",
        client.submit(submit(vec![0; 5 << 20], "b", "")).await,
        Grpc::OutOfRange,
        "message length too large",
    );

    let step = Step {
        target: Target { server: server(1), identity: identity(1), address: Address::new("x", 1) },
        action: Action::Fence,
    };
    let delegate = |step_bytes: Vec<u8>, recovery| DelegateRequest {
        recovery,
        term: u64::MAX,
        epoch: u64::MAX,
        order: u64::MAX,
        log_index: u64::MAX,
        expires_in_ms: u64::MAX,
        deadline_ms: u64::MAX,
        step_bytes,
    };
    refused("no step", client.delegate(delegate(vec![], 1)).await, Grpc::InvalidArgument, "does not decode");
    for (recovery, wanted) in
        [(1, "does not run"), (u64::MAX, "has not applied log index 18446744073709551615")]
    {
        let end = client.delegate(delegate(encode(&step), recovery)).await.unwrap().into_inner();
        let end: StepEnd = rmp_serde::from_slice(&end.end_bytes).unwrap();
        assert!(matches!(&end, StepEnd::Refused { why } if why.contains(wanted)), "{end}");
    }
    // What node 1 sees itself (nothing: nobody is probed here) comes into it, sooner or later.
    let came = group.one.read(|state| {
        let own = |text: &str| text.starts_with("node 1 says");
        let news = state.audit.iter().filter(|entry| entry.index > index && !own(&entry.text));
        (
            state.verdicts.values().flat_map(|of| of.keys()).filter(|node| **node != 1).count(),
            state.recoveries.len(),
            news.map(|entry| entry.text.clone()).collect::<Vec<_>>(),
        )
    });
    assert_eq!(came, (0, 0, vec![]), "nothing of it came into the log");
    group.stop().await;
}

/// With node 3 gone, node 2's own verdict is one of three: it takes a second one to start a recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_for_another_makes_no_majority() {
    let group = Group::start().await;
    let two = group.two.incarnation().to_owned();
    let mut client = group.client();
    while group.liar.rounds.load(Ordering::SeqCst) < 8 {
        let sequence = group.liar.sequence.fetch_add(1, Ordering::SeqCst);
        client.report(report(&dead(2, &two, sequence, "c1"))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let said = group
        .one
        .read(|state| (state.recoveries.len(), state.verdicts.values().any(|of| of.contains_key(&3))));
    assert_eq!(said, (0, false), "recoveries, and whether anything of node 3 is on record");
    // What else it answers makes no sense either, and is said so.
    let peers = GrpcPeers::new(group.one.clone());
    let cluster = || ClusterId("c1".into());
    let marks = peers.marks(2, cluster()).await.unwrap_err();
    assert!(marks.contains("does not decode"), "{marks}");
    let submitted = peers.submit(2, Change::Tick, "b".into(), None).await.unwrap_err();
    assert!(submitted.contains("does not decode"), "{submitted}");
    let step = Step {
        target: Target { server: server(1), identity: identity(1), address: Address::new("x", 1) },
        action: Action::Fence,
    };
    let end = peers
        .delegate(2, Delegation { recovery: 1, term: 1, step, within: Duration::from_secs(1) })
        .await
        .unwrap_err();
    assert!(end.contains("does not decode"), "{end}");
    group.stop().await;
}

/// Every call of the peer service, with fields that are absurd and payloads that are spoilt.
#[test]
fn spoilt_calls_of_a_peer_end_with_a_name() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let group = runtime.block_on(Group::start());
    let two = group.two.incarnation().to_owned();
    let verdict = encode(&dead(2, &two, 7, "c1"));
    let step = Step {
        target: Target { server: server(1), identity: identity(1), address: Address::new("x", 1) },
        action: Action::Fence,
    };
    let step = encode(&step);
    let change = encode(&Change::SetAlias { cluster: ClusterId("c1".into()), alias: Some("orders".into()) });
    proptest!(cases(120), |(call in 0..7_usize, a in odd_number(), b in odd_number(), text in odd_text(), spoils in spoils())| {
        let spoilt = |valid: &[u8]| {
            let mut bytes = valid.to_vec();
            spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
            bytes
        };
        let status = runtime.block_on(async {
            let mut client = group.client();
            let end = async {
                match call {
                    0 => {
                        let stamp = Some(Stamp { term: a, at_ms: b });
                        let report = Report { verdict_bytes: spoilt(&verdict), stamp, since_ms: (a ^ b).cast_signed() };
                        client.report(ReportRequest { reports: vec![report], applied: a }).await.err()
                    }
                    1 => client.urgent(UrgentRequest { cluster: text.clone(), bound_ms: a, epoch: b, ..Default::default() }).await.err(),
                    2 => client.marks(MarksRequest { cluster: text.clone() }).await.err(),
                    3 => client.submit(SubmitRequest { change_bytes: spoilt(&change), by: text.clone(), request_id: String::new() }).await.err(),
                    4 => client.confirm(ConfirmRequest { order: a, log_index: b % 3 }).await.err(),
                    5 => client.hello(HelloRequest { node_id: a, group: text.clone(), ..Default::default() }).await.err(),
                    // Not a future log index: that is waited for.
                    _ => {
                        let request = DelegateRequest { recovery: a % 3, order: a, log_index: b, term: b, epoch: a, step_bytes: spoilt(&step), expires_in_ms: a, deadline_ms: b };
                        client.delegate(request).await.err()
                    }
                }
            };
            tokio::time::timeout(DEADLINE, end).await.expect("it is answered")
        });
        if let Some(status) = status {
            let named = [Grpc::InvalidArgument, Grpc::NotFound, Grpc::PermissionDenied, Grpc::Unavailable];
            prop_assert!(named.contains(&status.code()), "{}", status);
        }
        prop_assert_eq!(group.one.status().stopped, None);
        prop_assert!(group.one.leadership().borrow().is_leader);
    });
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, group.one.read_barrier())
            .await
            .expect("in time")
            .expect("it still leads");
        group.stop().await;
    });
}
