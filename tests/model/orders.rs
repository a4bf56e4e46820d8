//! Standing orders: every node fences a replaced server that it hears (`server::fencer`), the leader points it at the
//! primary or sets it aside (`server::leader::orders`).

use std::rc::Rc;

use quorate::core::{
    plan::{
        rejoin::{self, Return},
        step::{Action, SourceOptions, Step},
    },
    replicated::{Change, OrderStage, StandingOrder},
};

use crate::{
    fingerprint, memo, samples,
    servers::Ended,
    world::{Flight, Origin, Place, World},
};

/// Bound of an attempt to fence, and of a step of a rejoin.
const ATTEMPT_MS: u64 = 5_000;
const POINT_MS: u64 = 15_000;

impl World {
    /// Orders by which this node would fence a server now.
    pub fn to_fence(&self, node: usize) -> Vec<u64> {
        // Any node that hears it does the same: one that does not lead, whose sessions the leader may have to end.
        let reaches = !self.nodes[node].cut_off && self.leader.is_some_and(|leader| leader != node);
        let busy = self.flights.iter().any(|f| matches!(f.origin, Origin::Order { .. }) && !f.heard);
        if !reaches || busy || self.brief().orders.is_empty() {
            return Vec::new();
        }
        let due = |order: &&StandingOrder| {
            let server = &self.servers[samples::number(&order.target.server)];
            server.up() && (!server.read_only || order.stage == OrderStage::Waiting) && self.stands(order)
        };
        self.state.value.orders.values().filter(due).map(|order| order.id).collect()
    }

    fn stands(&self, order: &StandingOrder) -> bool {
        self.brief().primary != samples::number(&order.target.server)
    }

    pub fn fence_by_order(&mut self, node: usize, id: u64) {
        let order = self.state.value.orders[&id].clone();
        let waiting = order.stage == OrderStage::Waiting;
        self.ordered(node, &order, Action::Fence, Origin::Order { id, waiting }, ATTEMPT_MS);
    }

    fn ordered(
        &mut self,
        node: usize,
        order: &StandingOrder,
        action: Action,
        origin: Origin,
        deadline_ms: u64,
    ) {
        let step = Step { target: order.target.clone(), action };
        self.flights.push(Flight {
            node,
            server: samples::number(&order.target.server),
            mark: fingerprint::of(0, &step.action),
            step: Rc::new(step),
            origin,
            under: order.id,
            term: self.term,
            expires_ms: self.now_ms + deadline_ms,
            place: Place::Permitted,
            heard: false,
            cleared: false,
            end: None,
        });
    }

    /// Its end is recorded, where it is news.
    pub fn order_fenced(&mut self, id: u64, waiting: bool, end: Ended) {
        if end.is_done() && waiting {
            self.advance_order(id, OrderStage::Fenced);
        }
    }

    fn advance_order(&mut self, order: u64, stage: OrderStage) {
        if let Some(leader) = self.leader {
            let change = memo::change(Change::AdvanceOrder { order, stage });
            self.apply(leader, self.term, &change, None);
        }
    }

    /// Orders that the leader would work on now.
    pub fn to_rejoin(&self) -> Vec<u64> {
        let brief = self.brief();
        let busy = self.flights.iter().any(|f| matches!(f.origin, Origin::Rejoin { .. }) && !f.heard);
        let primary_up = self.servers[brief.primary].up();
        if self.leader.is_none() || brief.orders.is_empty() || brief.running.is_some() || busy || !primary_up
        {
            return Vec::new();
        }
        let due = |order: &&StandingOrder| {
            let server = &self.servers[samples::number(&order.target.server)];
            let stage = matches!(order.stage, OrderStage::Fenced | OrderStage::Rejoining);
            stage && server.up() && server.read_only && self.stands(order)
        };
        self.state.value.orders.values().filter(due).map(|order| order.id).collect()
    }

    /// The sessions of other nodes are seen gone, both sets are read and compared, and the verdict is recorded.
    pub fn rejoin(&mut self, id: u64) {
        let leader = self.leader.expect("looked at by whoever enabled it");
        let order = self.state.value.orders[&id].clone();
        let (server, primary) = (samples::number(&order.target.server), self.brief().primary);
        self.flights
            .retain(|f| !(f.node == leader && f.server == server && f.place == Place::Sent && f.heard));
        self.clear(leader, server, u64::MAX);
        let facts = |of: usize| samples::facts(of, &self.servers[of]);
        match rejoin::judge(&order, false, &facts(server), &facts(primary)) {
            Return::Errant { errant, why } => {
                self.advance_order(id, OrderStage::Quarantined { errant: errant.to_string(), why });
            }
            Return::Lost { why } => {
                self.advance_order(id, OrderStage::Quarantined { errant: String::new(), why });
            }
            Return::Contained { gtid_slave_pos } => {
                if order.stage != OrderStage::Rejoining {
                    self.advance_order(id, OrderStage::Rejoining);
                }
                let policy = &self.state.value.policy;
                let options = SourceOptions {
                    source: samples::address(primary),
                    heartbeat_ms: policy.heartbeat_ms,
                    connect_retry_s: policy.connect_retry_s,
                    gtid_slave_pos,
                };
                let semi_sync_replica = order.semi_sync.then_some(true);
                let action = Action::Point { channel: String::new(), options, semi_sync_replica, wait: true };
                self.ordered(leader, &order, action, Origin::Rejoin { id }, POINT_MS);
            }
        }
    }

    pub fn rejoin_ended(&mut self, node: usize, id: u64, end: Ended) {
        if self.confirms(node) {
            self.advance_order(id, if end.is_done() { OrderStage::Rejoined } else { OrderStage::Waiting });
        }
    }

    /// This node leads no more: its rejoins are dropped.
    pub fn stop_rejoining(&mut self, node: usize) {
        self.flights.retain_mut(|flight| {
            if flight.node == node && matches!(flight.origin, Origin::Rejoin { .. }) {
                flight.heard = true;
            }
            !(flight.node == node
                && flight.heard
                && flight.place != Place::Sent
                && matches!(flight.origin, Origin::Rejoin { .. }))
        });
    }

    /// A node's process ends: what it had not sent is gone, what it had sent may still land.
    pub fn crash(&mut self, node: usize) {
        self.stop_driving(node);
        self.stop_rejoining(node);
        let (of_it, rest): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|f| f.node == node && f.place != Place::Asked);
        self.flights = rest;
        let sent = of_it.iter().filter(|f| f.place == Place::Sent);
        self.flights.extend(sent.map(|f| Flight { heard: true, ..f.clone() }));
        for flight in of_it {
            // Who asked this node for a fence gets no answer.
            self.report(&flight, Ended::Unknown("the node ended"));
        }
        self.drop_harmless();
        self.nodes[node].believes = None;
        self.leader = self.leader.filter(|leader| *leader != node);
    }
}
