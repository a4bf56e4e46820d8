//! When a healed run has come to rest. What would follow is heartbeats, probes and clients' writes, and is not played.
//!
//! Nothing but acknowledged writes has happened for ten seconds: no log entry, no election, no step and no statement of one,
//! no operator's answer, nothing a person does; no standing order or witness waits for anything; each replica
//! follows; and the run would pass as converged without any excuse. A run that does not come to rest is played to its end.

use quorate::core::replicated::OrderStage;

use super::{check::converges, trace::Event, world::World};

/// For so long nothing may have happened, milliseconds. Longer than anything pauses that goes on by itself: packets are sent
/// again after 1.6 s, steps tried again after 2 s, nodes ask each other every 10 s.
const REST_MS: u64 = 10_000;
/// A client was served as lately as this, milliseconds.
const SERVED_MS: u64 = 2_000;

impl World {
    /// Notes when anything happened but what goes on in a world at rest.
    pub fn stir_by(&mut self, event: &Event) {
        if !matches!(event, Event::Acknowledged { .. } | Event::Compared { .. }) {
            self.stirred_at = self.now;
        }
    }

    /// Whether it is at rest.
    pub fn is_at_rest(&self) -> bool {
        let state = &self.group.state;
        let waits = |stage: &OrderStage| !matches!(stage, OrderStage::Quarantined { .. });
        self.now >= self.stirred_at + REST_MS
            && !state.orders.values().any(|order| waits(&order.stage))
            && state.clusters.values().all(|cluster| cluster.witness.as_ref().is_none_or(|w| w.settled))
            && converges::without_excuse(self, SERVED_MS).is_ok()
    }
}
