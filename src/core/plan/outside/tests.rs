//! Pictures of a cluster and what is concluded from them. A picture names, for each member that answers, `w` or `r`
//! (takes writes or not), and whom it replicates from: `>2` connected, `~2` not connected.

use super::*;
use crate::{
    core::samples::{self, id},
    model::{
        facts::{Channel, Receiver},
        server::Flavor,
    },
};

/// Four members; 1 is the primary of the record.
fn cluster() -> Cluster {
    samples::cluster(Flavor::MariaDb, 4)
}

fn channel(source: u32, receiver: Receiver) -> Channel {
    Channel { receiver, ..samples::channel(Flavor::MariaDb, source) }
}

fn facts(n: u32, text: &str) -> ServerFacts {
    let channels = text[1..]
        .split_inclusive(char::is_numeric)
        .map(|edge| {
            let receiver = if edge.starts_with('>') { Receiver::Running } else { Receiver::Connecting };
            channel(edge[1..].parse().unwrap(), receiver)
        })
        .collect();
    ServerFacts { read_only: text.starts_with('r'), channels, ..samples::facts(Flavor::MariaDb, n) }
}

/// `1:w 2:r>1 ...`; who is not named does not answer.
fn seen(picture: &str) -> BTreeMap<ServerId, Arc<ServerFacts>> {
    picture
        .split_whitespace()
        .map(|member| {
            let (n, text) = member.split_once(':').unwrap();
            let n = n.parse().unwrap();
            (id(n), Arc::new(facts(n, text)))
        })
        .collect()
}

#[test]
fn the_record_follows_only_what_all_that_answer_agree_on() {
    let moved = [
        ("1:r>2 2:w 3:r>2 4:r>2", "the old primary follows too"),
        ("1:r 2:w 3:r>2 4:r>2", "the old one is read-only and stands alone"),
        ("1:r>2 2:w 3:r>2 4:r>3", "one follows through another"),
        ("1:r>2 2:w", "the old one follows; the others do not answer"),
        ("1:w>2 2:w 3:r>2 4:r>2", "it follows and was not made read-only"),
        ("1:r 2:w 3:r>2", "one does not answer"),
        ("1:r>2 2:w 3:r>1 4:r>2", "one follows through the old primary"),
    ];
    for (picture, name) in moved {
        let judged = judge(&cluster(), &seen(picture));
        let is = matches!(&judged, Outside::Moved { primary, why }
            if primary == &id(2) && why.starts_with("changed outside Quorate"));
        assert!(is, "{name}: {judged:?}");
    }
    let unclear = [
        ("1:w 2:w 3:r>2 4:r>1", "takes writes too", "two primaries"),
        ("1:r 2:w 3:r>1 4:r>2", "db3:3306 is not seen", "one follows the old primary still"),
        ("1:r 2:w 3:r~2 4:r>2", "db3:3306 is not seen", "one is not connected"),
        ("1:r 2:w 3:w 4:r>2", "db2:3306 and db3:3306 take writes", "two new ones"),
        ("1:r 2:w", "nobody replicates", "nobody follows"),
        ("1:r~2 2:w 3:r>2 4:r>2", "does not follow", "the old one is not connected"),
        ("1:r>2 2:w 3:r>2>1 4:r>2", "db3:3306 is not seen", "one has two sources"),
        ("1:r>2 2:w 3:r 4:r>2", "db3:3306 is not seen", "one follows nobody"),
    ];
    for (picture, text, name) in unclear {
        let judged = judge(&cluster(), &seen(picture));
        let is = matches!(&judged, Outside::Unclear { why } if why.contains(text));
        assert!(is, "{name}: {judged:?}");
    }
    let same = [
        ("1:w 2:r>1 3:r>1 4:r>1", "as recorded"),
        ("1:w 2:w 3:r>1 4:r>1", "a replica was detached, and nobody follows it"),
        ("1:r 2:r>1 3:r>1 4:r>1", "a read-only primary"),
        ("2:w 3:r>2 4:r>2", "the old primary does not answer: a matter of recovery"),
        ("1:w 2:w>1 3:r>1 4:r>1", "a writable replica"),
        ("", "nobody answers"),
    ];
    for (picture, name) in same {
        assert_eq!(judge(&cluster(), &seen(picture)), Outside::Same, "{name}");
    }
}

#[test]
fn one_that_was_set_aside_is_not_followed_and_has_no_say() {
    let quarantined = MemberState::Quarantined { errant: "0-1-9".into(), why: String::new() };
    let mut with = cluster();
    with.members.get_mut(&id(2)).unwrap().state = quarantined.clone();
    let judged = judge(&with, &seen("1:r>2 2:w 3:r>2 4:r>2"));
    assert!(matches!(&judged, Outside::Unclear { why } if why.contains("set aside")), "{judged:?}");
    let mut with = cluster();
    with.members.get_mut(&id(4)).unwrap().state = quarantined;
    let judged = judge(&with, &seen("1:r>2 2:w 3:r>2 4:r"));
    assert!(matches!(judged, Outside::Moved { .. }), "{judged:?}");
}

#[test]
fn a_cluster_without_a_primary_is_not_judged() {
    let none = Cluster { primary: None, ..cluster() };
    assert_eq!(judge(&none, &seen("1:r>2 2:w 3:r>2 4:r>2")), Outside::Same);
}
