//! Snapshots of a leader that lies, or that do not decode.

use std::collections::BTreeMap;

use openraft::Membership;
use proptest::prelude::*;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};

use super::{goes_on, id, member, membership, refused};
use crate::proto::raft::v1::raft_client::RaftClient;
use crate::proto::raft::v1::{Frame, SnapshotPart, snapshot_part};
use crate::raft::machine::Image;
use crate::raft::node::stage::{Stage, eventually};
use crate::raft::types::{LogId, NodeInfo, SnapshotMeta, StoredMembership, Vote};
use crate::spoil::{cases, spoils};

fn head(
    vote: Vote,
    last: Option<LogId>,
    members: Option<(LogId, Membership<u64, NodeInfo>)>,
) -> snapshot_part::Part {
    let last_membership = members
        .map_or_else(StoredMembership::default, |(id, members)| StoredMembership::new(Some(id), members));
    let meta = SnapshotMeta { last_log_id: last, last_membership };
    snapshot_part::Part::Head(rmp_serde::to_vec_named(&(vote, meta)).expect("encode"))
}

/// Calls go over the wire: only so there are streams.
async fn send(stage: &Stage, parts: Vec<Option<snapshot_part::Part>>) -> Result<Response<Frame>, Status> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let serving = tonic::transport::Server::builder().add_service(stage.raft.grpc_service());
    let serving = tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = RaftClient::connect(format!("http://{address}")).await.expect("connect");
    let parts = parts.into_iter().map(|part| SnapshotPart { part });
    let answer = client.snapshot(stage.stamped(tokio_stream::iter(parts.collect::<Vec<_>>()))).await;
    serving.abort();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_is_not_believed_has_a_name() {
    let stage = member().await;
    let leader = Vote::new_committed(2, 2);
    let (image, _, own) = stage.raft.applied_image();
    let whole = image.encode().expect("encode");
    let good = own.membership().clone();
    let data = |bytes: &[u8]| Some(snapshot_part::Part::Data(bytes.to_vec()));
    let fit = || Some(head(leader, Some(id(2, 9)), Some((id(1, 0), good.clone()))));
    let half = &whole[..whole.len() / 2];
    let cases: Vec<(&str, Vec<Option<snapshot_part::Part>>, &str)> = vec![
        ("nothing", vec![], "begins with its head"),
        ("no head", vec![data(&whole)], "begins with its head"),
        ("a head of nonsense", vec![Some(snapshot_part::Part::Head(vec![0xc1; 40]))], "not understood"),
        ("an empty part", vec![fit(), None], "an empty part"),
        ("two heads", vec![fit(), fit()], "one head, then data"),
        (
            "of nothing",
            vec![Some(head(leader, None, Some((id(1, 0), good.clone()))))],
            "a snapshot of nothing",
        ),
        (
            "in another's name",
            vec![Some(head(Vote::new_committed(2, 3), Some(id(2, 9)), None))],
            "node 2 speaks for node 3",
        ),
        (
            "the last index",
            vec![Some(head(leader, Some(id(2, u64::MAX)), None))],
            "at log index 18446744073709551615",
        ),
        ("of a later term", vec![Some(head(leader, Some(id(3, 9)), None))], "of term 3, in term 2"),
        (
            "against what is committed",
            vec![Some(head(leader, Some(id(2, 0)), Some((id(1, 0), good.clone()))))],
            "though 0 of term 1 is committed here",
        ),
        ("no membership", vec![Some(head(leader, Some(id(2, 9)), None))], "without a membership"),
        (
            "a later membership",
            vec![Some(head(leader, Some(id(2, 9)), Some((id(2, 10), good.clone()))))],
            "after its end",
        ),
        (
            "no voters",
            vec![Some(head(leader, Some(id(2, 9)), Some((id(1, 0), membership(&[], &[])))))],
            "names no voters",
        ),
        ("no data", vec![fit()], "its snapshot is damaged"),
        ("half of it", vec![fit(), data(half)], "its snapshot is damaged"),
        ("nonsense", vec![fit(), data(&[0xff; 5_000])], "its snapshot is damaged"),
    ];
    for (name, parts, wanted) in cases {
        refused(name, send(&stage, parts).await, wanted);
    }
    assert_eq!((stage.raft.status().snapshot, stage.raft.status().stopped), (None, None));
    // The same in chunks, and whole, from one who tells the truth.
    let mut parts = vec![fit()];
    parts.extend(whole.chunks(7).map(data));
    send(&stage, parts).await.expect("it is installed");
    eventually("the snapshot is there", || stage.raft.status().snapshot.filter(|index| *index == 9)).await;
    goes_on(&stage).await;
    stage.raft.shutdown().await;
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_spoilt_snapshot_is_damaged_or_another(count in 0..40_u64, spoils in spoils()) {
        let mut image = Image {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            members_ever: BTreeMap::new(),
            state: Default::default(),
        };
        image.members_ever.extend((0..count).map(|id| (id, format!("incarnation {id}"))));
        let mut bytes = image.encode().unwrap().to_vec();
        spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
        match Image::decode(&bytes) {
            Ok(image) => prop_assert!(Image::decode(&image.encode().unwrap()).is_ok()),
            Err(error) => prop_assert!(error.to_string().len() < 1_000, "{}", error),
        }
    }
}
