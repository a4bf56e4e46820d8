//! What becomes of a returned primary: rejoined when the cluster holds everything it holds, else quarantined with the
//! exact errant set; and quarantined as well when it lost transactions of its own, which no source sends it.

use super::step::Target;
use crate::{
    core::replicated::orders::StandingOrder,
    mistake::{Mistake, planted},
    model::{
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
    },
};

/// The verdict on a returned primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// Everything it holds is in the cluster.
    Contained {
        /// MariaDB: the binlog position it must continue from.
        gtid_slave_pos: Option<String>,
    },
    /// It holds what the cluster lacks.
    Errant {
        /// What exactly.
        errant: GtidSet,
        /// What is known about it.
        why: String,
    },
    /// It lacks what it wrote itself, and the cluster has.
    Lost {
        /// What is lost on it, in words.
        why: String,
    },
}

/// Compares the returned server with the present primary. `returned` was read while it was read-only. `left_behind`: the
/// recovery left a replica as it was, which may have followed the returned server again, or may not be known to have done so.
pub fn judge(
    order: &StandingOrder,
    left_behind: bool,
    returned: &ServerFacts,
    primary: &ServerFacts,
) -> Return {
    let errant = errant(returned, primary);
    let lost = returned.executed.lost_of_its_own(&returned.identity, &primary.executed);
    if errant.is_empty() && !lost.is_empty() {
        return Return::Lost { why: of_its_own(returned, &lost) };
    }
    if errant.is_empty() || planted(Mistake::ReturnedPrimaryNotCompared) {
        let position = matches!(returned.executed, GtidSet::MariaDb(_))
            .then(|| returned.executed.position().to_string());
        return Return::Contained { gtid_slave_pos: position };
    }
    Return::Errant { errant, why: known(order, left_behind, returned).into() }
}

/// The channel by which a returned server receives, or may receive, from another than the present primary: an old primary that
/// comes back as well would send it more behind the comparison. A candidate that was never detached has one.
pub fn follows_another<'a>(returned: &'a ServerFacts, primary: &Target) -> Option<&'a Channel> {
    let [channel] = &returned.channels[..] else { return None };
    let receives = channel.receiver != Receiver::Stopped;
    (receives && !channel.is_from(&primary.identity, &primary.address)).then_some(channel)
}

fn of_its_own(returned: &ServerFacts, lost: &GtidSet) -> String {
    let mut whole = returned.executed.clone();
    whole.merge(lost);
    let number = returned.executed.lacks(&whole);
    format!(
        "lost {number} of its own transactions, which the primary has: {lost}. No source sends a server what it wrote itself, so \
         it would lack them for good, with both threads running: build it anew"
    )
}

/// What only the returned server holds. Received counts, too: where it began to follow a primary that was replaced since, what
/// that one sent is applied before its source is changed. What the present primary has sent it, and not committed yet, is
/// that one's own.
fn errant(returned: &ServerFacts, primary: &ServerFacts) -> GtidSet {
    let mut errant = returned.executed.subtract(&primary.executed);
    let received = returned.in_hand().subtract(&primary.executed);
    errant.merge(&received.subtract(&received.written_by(&primary.identity)));
    errant
}

/// What is known of the tail. A server that was started anew takes writes by its configuration until it is fenced: where
/// that leaves semi-sync off, its clients may have been told so.
fn known(order: &StandingOrder, left_behind: bool, returned: &ServerFacts) -> &'static str {
    match (order.semi_sync, returned.semi_sync.source_enabled) {
        (true, _) if left_behind => {
            "received by nobody that was promoted; a replica may have been left behind when it was replaced: where that one \
             followed it again, it may have been acknowledged"
        }
        (true, Some(true)) => {
            "written after the last acknowledgement it could get: never acknowledged to a client under semi-sync"
        }
        (true, _) => {
            "received by nobody that was promoted, so never acknowledged to a client while semi-sync held; semi-sync is \
             off on it now: if it was started again since, what it took before its fence may have been acknowledged"
        }
        (false, _) => "written before or after it was replaced, and received by nobody that was promoted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{replicated::OrderStage, samples},
        model::server::Flavor,
    };

    fn order(semi_sync: bool) -> StandingOrder {
        let target = samples::member(Flavor::MySql, 1).target();
        StandingOrder {
            id: 7,
            cluster: crate::model::server::ClusterId("c".into()),
            target,
            epoch: 1,
            recovery: 6,
            semi_sync,
            stage: OrderStage::Fenced,
            since_ms: 0,
        }
    }

    /// Why a tail is errant, of a server that returns with semi-sync so.
    fn why(semi_sync: bool, now: Option<bool>) -> String {
        why_beside(false, semi_sync, now)
    }

    /// The same, where the recovery may have left a replica behind.
    fn why_beside(left_behind: bool, semi_sync: bool, now: Option<bool>) -> String {
        let primary = samples::facts(Flavor::MySql, 2);
        let mut returned = samples::facts(Flavor::MySql, 1);
        returned.executed.merge(&samples::set("99999999-9999-9999-9999-999999999999:1"));
        returned.semi_sync.source_enabled = now;
        match judge(&order(semi_sync), left_behind, &returned, &primary) {
            Return::Errant { why, .. } => why,
            contained => panic!("{contained:?}"),
        }
    }

    #[test]
    fn only_where_semi_sync_still_holds_is_a_tail_called_never_acknowledged() {
        assert!(why(true, Some(true)).contains("never acknowledged to a client under semi-sync"));
        for off in [Some(false), None] {
            assert!(why(true, off).contains("may have been acknowledged"), "{off:?}");
        }
        assert!(!why(false, Some(false)).contains("never"));
    }

    /// Found by the simulation (seed 2157318): one that was left behind was started anew, followed the frozen old primary, and
    /// acknowledged a row when that one thawed; the record said that nothing had been.
    #[test]
    fn beside_a_replica_that_was_left_behind_no_tail_is_called_never_acknowledged() {
        for now in [Some(true), Some(false), None] {
            let why = why_beside(true, true, now);
            assert!(!why.contains("never") && why.contains("may have been acknowledged"), "{why}");
        }
    }

    /// What becomes of server 1, which has received that from server 2 and not applied it; server 3 is the primary now.
    fn received(text: &str) -> Return {
        let primary = samples::facts(Flavor::MySql, 3);
        let mut returned = samples::facts(Flavor::MySql, 1);
        let mut channel = samples::channel(Flavor::MySql, 2);
        channel.received = samples::set(text);
        returned.channels = vec![channel];
        judge(&order(false), false, &returned, &primary)
    }

    /// Found by the simulation (seed 4069206): a candidate that had not been detached was compared, then received from the old
    /// primary, which had come back as well, and was rejoined.
    #[test]
    fn who_follows_another_than_the_primary_is_told() {
        let (primary, another) =
            (samples::member(Flavor::MySql, 3).target(), samples::channel(Flavor::MySql, 1));
        let mut returned = samples::facts(Flavor::MySql, 2);
        for (channel, told) in [
            (Channel { receiver: Receiver::Connecting, ..another.clone() }, true),
            (Channel { receiver: Receiver::Running, ..another.clone() }, true),
            (Channel { receiver: Receiver::Stopped, ..another.clone() }, false),
            (Channel { receiver: Receiver::Running, ..samples::channel(Flavor::MySql, 3) }, false),
        ] {
            returned.channels = vec![channel];
            assert_eq!(follows_another(&returned, &primary).is_some(), told, "{:?}", returned.channels);
        }
        returned.channels = vec![another.clone(), another];
        assert!(follows_another(&returned, &primary).is_none(), "a multi-source server is never touched");
    }

    #[test]
    fn a_server_that_lost_its_own_tail_is_not_rejoined() {
        let mut primary = samples::facts(Flavor::MySql, 2);
        let mut returned = samples::facts(Flavor::MySql, 1);
        let uuid = samples::identity(Flavor::MySql, 1).server_uuid.expect("MySQL has one");
        primary.executed.merge(&samples::set(&format!("{uuid}:141-145")));
        returned.executed.merge(&samples::set(&format!("{uuid}:141-142")));
        match judge(&order(false), false, &returned, &primary) {
            Return::Lost { why } => {
                assert!(why.contains(&format!(
                    "lost 3 of its own transactions, which the primary has: {uuid}:143-145"
                )));
            }
            other => panic!("{other:?}"),
        }
        // What another wrote comes by the stream.
        returned.executed.merge(&primary.executed);
        primary.executed.merge(&samples::set("99999999-9999-9999-9999-999999999999:1"));
        assert!(matches!(judge(&order(false), false, &returned, &primary), Return::Contained { .. }));
    }

    #[test]
    fn what_a_replaced_primary_sent_and_was_not_applied_is_errant_too() {
        let of = |n: u32| {
            let uuid = samples::identity(Flavor::MySql, n).server_uuid.expect("MySQL has one");
            format!("{uuid}:141-145")
        };
        match received(&of(2)) {
            Return::Errant { errant, .. } => assert_eq!(errant, samples::set(&of(2))),
            contained => panic!("{contained:?}"),
        }
        // Of the present primary: on its way, and to be committed there.
        assert!(matches!(received(&of(3)), Return::Contained { .. }));
    }
}
