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
    let why = match order.semi_sync {
        true => {
            "written after the last acknowledgement it could get: never acknowledged to a client under semi-sync"
        }
        false => "written before or after it was replaced, and received by nobody that was promoted",
    };
    Return::Errant { errant, why: why.into() }
}
