//! What becomes of a returned primary: rejoined when the cluster holds everything it holds, else quarantined with the
//! exact errant set.

use crate::{
    core::replicated::orders::StandingOrder,
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, gtid::GtidSet},
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
}

/// Compares the returned server with the present primary. `returned` was read while it was read-only.
pub fn judge(order: &StandingOrder, returned: &ServerFacts, primary: &ServerFacts) -> Return {
    let errant = returned.executed.subtract(&primary.executed);
    if errant.is_empty() || planted(Mistake::ReturnedPrimaryNotCompared) {
        let position = matches!(returned.executed, GtidSet::MariaDb(_))
            .then(|| returned.executed.position().to_string());
        return Return::Contained { gtid_slave_pos: position };
    }
    Return::Errant { errant, why: known(order, returned).into() }
}

/// What is known of the tail. A server that was started anew takes writes by its configuration until it is fenced: where
/// that leaves semi-sync off, its clients may have been told so.
fn known(order: &StandingOrder, returned: &ServerFacts) -> &'static str {
    match (order.semi_sync, returned.semi_sync.source_enabled) {
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

    /// Why a tail is errant, of a server that returns with semi-sync so.
    fn why(semi_sync: bool, now: Option<bool>) -> String {
        let target = samples::member(Flavor::MySql, 1).target();
        let order = StandingOrder {
            id: 7,
            cluster: crate::model::server::ClusterId("c".into()),
            target,
            epoch: 1,
            recovery: 6,
            semi_sync,
            stage: OrderStage::Fenced,
            since_ms: 0,
        };
        let primary = samples::facts(Flavor::MySql, 2);
        let mut returned = samples::facts(Flavor::MySql, 1);
        returned.executed.merge(&samples::set("99999999-9999-9999-9999-999999999999:1"));
        returned.semi_sync.source_enabled = now;
        match judge(&order, &returned, &primary) {
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
}
