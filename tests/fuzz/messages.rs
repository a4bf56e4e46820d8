//! What nodes say to each other: every message of `proto/quorate/node` and `proto/quorate/raft`, and the MessagePack in
//! them, spoilt.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use quorate::{
    core::{
        analysis::Verdict,
        plan::step::{Action, Step, StepEnd, StepReport},
        replicated::{Change, Outcome, Refusal},
    },
    model::{
        gtid::GtidSet,
        server::{Flavor, ServerId},
    },
    proto::{node::v1 as node, raft::v1 as raft},
    server::ports::peers::{decode, encode},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    generate::{Draw, Entry, log},
    odd::{Odd, changed, odds},
    spoil::{Spoil, cases, odd_number, odd_text, spoils},
    world,
};

/// A payload, spoilt or with absurd values: what decodes can be said again.
fn payload<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: &T,
    spoils: &[Spoil],
    odds: &[Odd],
) {
    let mut bytes = encode(value);
    spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
    if let Ok(read) = decode::<T>(&bytes) {
        assert_eq!(decode::<T>(&encode(&read)).as_ref(), Ok(&read));
    }
    if let Some(value) = changed(value, odds) {
        assert_eq!(decode::<T>(&encode(&value)).as_ref(), Ok(&value));
    }
}

/// A message: spoilt bytes are an error or a message that can be sent on.
fn message<M: Message + Default + PartialEq + std::fmt::Debug>(valid: &M, spoils: &[Spoil]) {
    let mut bytes = valid.encode_to_vec();
    spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
    if let Ok(read) = M::decode(&bytes[..]) {
        assert_eq!(M::decode(&read.encode_to_vec()[..]).as_ref(), Ok(&read));
    }
}

fn verdicts(draws: &[Draw]) -> Vec<Verdict> {
    let verdict = |entry: Entry| match entry {
        Entry::Command(command) => match command.change {
            Change::ReportVerdict { verdict } => Some(verdict),
            Change::StartRecovery(start) => start.evidence.into_iter().next().map(|t| t.verdict),
            _ => None,
        },
        Entry::Voters(_) => None,
    };
    log(draws).into_iter().filter_map(verdict).collect()
}

fn step() -> Step {
    let until = GtidSet::parse(Flavor::MySql, "00000000-0000-0000-0000-000000000001:1-9").unwrap();
    Step { target: world::stranger(), action: Action::Drain { channel: "c".into(), until } }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn spoilt_payloads_are_errors_or_values(
        draws in prop::collection::vec(any::<Draw>(), 1..40), spoils in spoils(), odds in odds(), text in odd_text(),
    ) {
        for verdict in verdicts(&draws) {
            payload(&verdict, &spoils, &odds);
        }
        for entry in log(&draws) {
            if let Entry::Command(command) = entry {
                payload(&command.change, &spoils, &odds);
            }
        }
        payload(&step(), &spoils, &odds);
        let report = StepReport { note: text.clone(), killed: 3, ..StepReport::default() };
        for end in [StepEnd::Done(report), StepEnd::Refused { why: text.clone() }, StepEnd::Unknown { why: text.clone() }] {
            payload(&end, &spoils, &odds);
        }
        let refused = Refusal::Maintenance { by: text.clone(), why: text.clone(), left_s: u64::MAX };
        for outcome in [Outcome::None, Outcome::Done { id: 7, acknowledged: vec![1] }, Outcome::Refused(refused)] {
            payload(&outcome, &spoils, &odds);
        }
        let marks = BTreeMap::from([(ServerId(text), GtidSet::parse(Flavor::MariaDb, "0-1-5,1-2-7").unwrap())]);
        payload(&marks, &spoils, &odds);
    }

    #[test]
    fn spoilt_messages_are_errors_or_messages(
        a in odd_number(), b in odd_number(), text in odd_text(), bytes in prop::collection::vec(any::<u8>(), 0..60), spoils in spoils(),
    ) {
        let (t, p) = (|| text.clone(), || bytes.clone());
        message(&node::HelloRequest { node_id: a, group: t(), incarnation: t(), version: t(), feature_level: b as u32, with_state: a & 1 == 1 }, &spoils);
        message(&node::HelloResponse { node_id: a, group: t(), incarnation: t(), version: t(), feature_level: b as u32, state_hash: t(), state_index: a }, &spoils);
        message(&node::UrgentRequest { cluster: t(), subject: t(), epoch: b, bound_ms: a }, &spoils);
        message(&node::UrgentResponse { verdict_bytes: p() }, &spoils);
        message(&node::DelegateRequest { recovery: a, term: b, step_bytes: p(), expires_in_ms: a, order: a, log_index: b, epoch: a, deadline_ms: b }, &spoils);
        message(&node::DelegateResponse { end_bytes: p() }, &spoils);
        message(&node::ConfirmRequest { order: a, log_index: b }, &spoils);
        message(&node::ConfirmResponse { read_index: a }, &spoils);
        message(&node::MarksRequest { cluster: t() }, &spoils);
        message(&node::MarksResponse { marks_bytes: p() }, &spoils);
        message(&node::SubmitRequest { change_bytes: p(), by: t(), request_id: t() }, &spoils);
        message(&node::SubmitResponse { index: a, outcome_bytes: p() }, &spoils);
        let stamp = Some(node::Stamp { term: a, at_ms: b });
        message(&node::ReportResponse { stamp }, &spoils);
        let report = node::Report { verdict_bytes: p(), stamp, since_ms: b.cast_signed() };
        message(&node::ReportRequest { reports: vec![report; 3], applied: a }, &spoils);
        message(&raft::Frame { body: p() }, &spoils);
        message(&raft::SnapshotPart { part: Some(raft::snapshot_part::Part::Head(p())) }, &spoils);
        message(&raft::SnapshotPart { part: Some(raft::snapshot_part::Part::Data(p())) }, &spoils);
        message(&raft::ReadIndexResponse { index: a }, &spoils);
        message(&raft::IdentifyRequest { group: t() }, &spoils);
        message(&raft::IdentifyResponse { node_id: a, group: t(), incarnation: t(), version: t(), ..Default::default() }, &spoils);
    }
}
