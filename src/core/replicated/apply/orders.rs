//! The life of a standing order as the log sees it: fenced, rejoining, rejoined or quarantined.

use super::{Context, Done, members::unknown};
use crate::{
    core::replicated::{
        audit::EventKind,
        cluster::MemberState,
        orders::{OrderStage, StandingOrder, quarantine_text},
        refusal::Refusal,
        state::State,
    },
    mistake::{Mistake, planted},
    model::server::ClusterId,
};

impl State {
    pub(super) fn advance_order(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        stage: &OrderStage,
    ) -> Result<Done, Refusal> {
        let Some(order) = self.orders.get_mut(&id) else {
            return Err(unknown("standing order", &id.to_string()));
        };
        let legal = matches!(
            (&order.stage, stage),
            (OrderStage::Waiting | OrderStage::Fenced, OrderStage::Fenced | OrderStage::Rejoining)
                | (
                    OrderStage::Waiting | OrderStage::Fenced | OrderStage::Rejoining,
                    OrderStage::Quarantined { .. }
                )
                // Not to *fenced*: a node whose fence ends late would take it off the record of the ackers while it is pointed.
                | (OrderStage::Rejoining, OrderStage::Rejoined | OrderStage::Waiting)
        );
        if !legal {
            return Err(Refusal::Invalid(format!(
                "a standing order does not go from {:?} to {stage:?}",
                order.stage
            )));
        }
        if &order.stage == stage {
            return Ok(Done { id: Some(id), ..Done::default() });
        }
        // While another primary may be chosen nobody is pointed at the last one.
        let slot = self.clusters.get(&order.cluster).and_then(|cluster| cluster.slot);
        if let (Some(slot), OrderStage::Rejoining | OrderStage::Rejoined) = (slot, stage) {
            return Err(Refusal::SlotHeld { what: "recovery".into(), id: slot });
        }
        order.stage = stage.clone();
        let order = order.clone();
        let (kind, text) = match stage {
            OrderStage::Waiting => (
                EventKind::Fenced,
                "it could not be pointed at the new primary: it is fenced and compared anew".to_owned(),
            ),
            OrderStage::Fenced => (EventKind::Fenced, "the returned old primary is read-only".to_owned()),
            OrderStage::Rejoining => {
                (EventKind::Fenced, "its transactions are all in the cluster: rejoining".to_owned())
            }
            OrderStage::Quarantined { errant, why } => {
                (EventKind::Quarantined, format!("the returned server {}", quarantine_text(errant, why)))
            }
            OrderStage::Rejoined => {
                (EventKind::Rejoined, "the old primary replicates from the new one".to_owned())
            }
        };
        self.settle_member(&order, stage);
        if *stage == OrderStage::Rejoining && !planted(Mistake::RejoiningAckerNotListed) {
            self.list_acker(context, &order);
        }
        let address = order.target.address.to_string();
        self.audit(context, kind, Some(&order.cluster), Some(address), Some(order.recovery), text);
        Ok(Done { id: Some(id), ..Done::default() })
    }

    /// There is another primary: whoever is being pointed at the last one is compared with this one, and pointed anew.
    pub(super) fn compare_anew(&mut self, cluster: &ClusterId) {
        let of_it = self.orders.values_mut().filter(|order| order.cluster == *cluster);
        for order in of_it.filter(|order| order.stage == OrderStage::Rejoining) {
            order.stage = OrderStage::Fenced;
        }
    }

    /// From its pointing on it may acknowledge: that is on record before (P6).
    fn list_acker(&mut self, context: &mut Context<'_>, order: &StandingOrder) {
        let Some(cluster) = self.clusters.get(&order.cluster) else { return };
        let durability = cluster.durability.clone().with([order.target.server.clone()]);
        let id = order.cluster.clone();
        let _ = self.set_durability(context, &id, &durability);
    }

    fn settle_member(&mut self, order: &StandingOrder, stage: &OrderStage) {
        if *stage == OrderStage::Rejoined {
            self.orders.remove(&order.id);
        }
        let Some(cluster) = self.clusters.get_mut(&order.cluster) else { return };
        let primary = cluster.primary.clone();
        let Some(member) = cluster.members.get_mut(&order.target.server) else { return };
        match stage {
            OrderStage::Rejoined => {
                member.state = MemberState::Normal;
                member.source = primary;
                member.channels = 1;
            }
            OrderStage::Quarantined { errant, why } => {
                member.state = MemberState::Quarantined { errant: errant.clone(), why: why.clone() };
            }
            _ => return,
        }
        cluster.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        core::{
            replicated::{
                Change, Command, Durability, State,
                orders::{OrderStage, StandingOrder},
            },
            samples,
        },
        model::server::Flavor,
    };

    /// Who may acknowledge once the order about server 1 is that far; server 2 is the primary.
    fn listed(before: Durability, stage: OrderStage) -> Durability {
        let state = advanced(before, stage, None);
        state.clusters.into_values().next().expect("one").durability
    }

    fn advanced(before: Durability, stage: OrderStage, slot: Option<u64>) -> State {
        let mut cluster = samples::cluster(Flavor::MySql, 3);
        cluster.primary = Some(samples::id(2));
        cluster.durability = before;
        cluster.slot = slot;
        let id = cluster.id.clone();
        let mut state = State::default();
        state.clusters.insert(id.clone(), cluster);
        let order = StandingOrder {
            id: 7,
            cluster: id.clone(),
            target: samples::member(Flavor::MySql, 1).target(),
            epoch: 1,
            recovery: 6,
            semi_sync: true,
            stage: OrderStage::Fenced,
            since_ms: 0,
        };
        state.orders.insert(7, order);
        advance(&mut state, 9, stage);
        state
    }

    fn advance(state: &mut State, index: u64, stage: OrderStage) {
        let command = Command {
            at_ms: 1,
            wall_ms: 0,
            node: 1,
            term: 1,
            by: "t".into(),
            request_id: None,
            change: Change::AdvanceOrder { order: 7, stage },
        };
        state.apply(index, &command);
    }

    /// Found by the simulation (seed 7038708): a node's fence ended late, the order went back to *fenced* while the server was being
    /// pointed, it left the record of the ackers, and acknowledged rows that nobody else held.
    #[test]
    fn a_fence_that_ends_late_takes_nobody_off_the_record_of_the_ackers() {
        let mut state = advanced(Durability::Async, OrderStage::Rejoining, None);
        for (index, stage, then) in [
            (10, OrderStage::Fenced, OrderStage::Rejoining),
            (11, OrderStage::Waiting, OrderStage::Waiting),
            (12, OrderStage::Fenced, OrderStage::Fenced),
        ] {
            advance(&mut state, index, stage);
            assert_eq!(state.orders[&7].stage, then, "{index}");
        }
    }

    /// Another primary may be chosen any moment.
    #[test]
    fn nobody_is_pointed_while_a_recovery_holds_the_slot() {
        for (slot, then) in [(None, OrderStage::Rejoining), (Some(5), OrderStage::Fenced)] {
            let state = advanced(Durability::Async, OrderStage::Rejoining, slot);
            assert_eq!(state.orders[&7].stage, then, "{slot:?}");
        }
    }

    /// It acknowledges from its pointing on, which comes after this (simulation, seed 113126).
    #[test]
    fn who_is_rejoined_is_on_record_as_an_acker_before_it_is_pointed() {
        let semi = |ackers: &[u32]| Durability::SemiSync {
            acks: 1,
            ackers: ackers.iter().map(|n| samples::id(*n)).collect(),
        };
        assert_eq!(listed(semi(&[3]), OrderStage::Rejoining), semi(&[1, 3]));
        let quarantined = OrderStage::Quarantined { errant: "x:1".into(), why: "t".into() };
        assert_eq!(listed(semi(&[3]), quarantined), semi(&[3]));
        assert_eq!(listed(Durability::Async, OrderStage::Rejoining), Durability::Async);
    }
}
