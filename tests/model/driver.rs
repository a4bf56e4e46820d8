//! What `server::driver` does with the machine: a permit before each batch of steps, proposals one at a time, and nothing
//! heard while one of them is awaited. The machine itself is the product's.

use std::rc::Rc;

use quorate::core::{
    plan::step::{Action, Step},
    recovery::Machine,
    replicated::{Change, Outcome, Recovery},
};

use crate::{
    memo::{self, Input, Kept, Wanted},
    samples,
    servers::Ended,
    world::{Driver, Flight, Origin, Pending, Place, Sender, Told, World},
};

impl World {
    /// Whether a read barrier of this node's term succeeds.
    pub fn confirms(&self, node: usize) -> bool {
        self.leader == Some(node) && self.nodes[node].believes == Some(self.term)
    }

    /// Drives a committed recovery on this node; a driver of an ended one, or an earlier one of the same, goes first.
    pub fn drive(&mut self, node: usize, recovery: &Recovery, resumed: bool, cancel: bool) {
        self.stop_driving(node);
        let known = self.servers[samples::number(&recovery.old_primary.server)].executed;
        // It is for the reader; the machine looks at none of it.
        let recovery = Recovery { evidence: Vec::new(), ..recovery.clone() };
        let id = recovery.id;
        let machine = Machine::new(recovery, self.state.value.policy.clone(), self.now_ms);
        self.nodes[node].driver = Some(Driver {
            recovery: id,
            term: self.nodes[node].believes.expect("only a leader drives"),
            machine: memo::machine(machine, self.now_ms),
            known,
            waiting: false,
            todo: Vec::new(),
            inbox: Vec::new(),
        });
        self.tell(node, Input::Begin { resumed }, 0);
        if cancel {
            self.tell(node, Input::Cancel, 0);
        }
    }

    /// The task is dropped: what it had not sent is never sent, what it had sent may still land.
    pub fn stop_driving(&mut self, node: usize) {
        if self.nodes[node].driver.take().is_none() {
            return;
        }
        self.flights.retain_mut(|flight| {
            let own = flight.node == node && matches!(flight.origin, Origin::Step(_) | Origin::Fence { .. });
            let asked = matches!(flight.origin, Origin::Fence { asked_by } if asked_by == node);
            if !own && !asked || flight.heard {
                return true;
            }
            flight.heard = true;
            // Another node goes on with what it was asked for.
            flight.place == Place::Sent || flight.node != node && flight.place != Place::Landed
        });
        self.drop_harmless();
    }

    /// An event for the machine: at once, or behind the proposal that is awaited. `mark`: of the action that ended.
    pub fn tell(&mut self, node: usize, input: Input, mark: u64) {
        let Some(driver) = &mut self.nodes[node].driver else { return };
        match driver.waiting {
            true => driver.inbox.push(Told { input, mark }),
            false => self.advance(node, input),
        }
    }

    fn advance(&mut self, node: usize, input: Input) {
        let now_ms = self.now_ms;
        let this = &mut self.nodes[node];
        let Some(driver) = &mut this.driver else { return };
        let moved = memo::advance(
            &driver.machine,
            &this.seen,
            input,
            driver.known,
            (node, self.scenario.fencers),
            now_ms,
        );
        driver.machine = moved.machine.clone();
        self.carry_out(node, &moved.wanted);
    }

    fn carry_out(&mut self, node: usize, wanted: &[Wanted]) {
        let acts = wanted.iter().any(|w| matches!(w, Wanted::Run { .. } | Wanted::FenceEverywhere { .. }));
        if acts && !(self.confirms(node) && self.ours(node)) {
            return self.stop_driving(node);
        }
        for wanted in wanted {
            match wanted {
                Wanted::Run { id, step, mark, deadline_ms } => {
                    self.permit(node, node, (step, *mark), Origin::Step(*id), *deadline_ms);
                }
                Wanted::FenceEverywhere { step, mark, deadline_ms } => {
                    let origin = Origin::Fence { asked_by: node };
                    (0..self.scenario.fencers)
                        .for_each(|by| self.permit(node, by, (step, *mark), origin, *deadline_ms));
                }
                Wanted::Propose(change) => {
                    let driver = self.nodes[node].driver.as_mut().expect("it just advanced");
                    driver.todo.push(change.clone());
                }
                Wanted::Over => return self.stop_driving(node),
            }
        }
        self.propose_next(node);
    }

    fn ours(&self, node: usize) -> bool {
        let this = &self.nodes[node];
        let driver = this.driver.as_ref().expect("it just advanced");
        let recovery = this.seen.value.recoveries.get(&driver.recovery);
        recovery.is_some_and(|r| r.driven_by(Self::node_id(node), driver.term))
    }

    /// A step of the recovery that `driver` drives, to be carried out by `node`.
    fn permit(
        &mut self,
        driver: usize,
        node: usize,
        (step, mark): (&Rc<Step>, u64),
        origin: Origin,
        deadline_ms: u64,
    ) {
        let of = self.nodes[driver].driver.as_ref().expect("it just advanced");
        let (under, term) = (of.recovery, of.term);
        self.check_permit(driver, under, term, step);
        self.note_tried(under, samples::number(&step.target.server), &step.action);
        self.flights.push(Flight {
            node,
            server: samples::number(&step.target.server),
            step: step.clone(),
            mark,
            origin,
            under,
            term,
            expires_ms: self.now_ms + deadline_ms,
            place: if node == driver { Place::Permitted } else { Place::Asked },
            heard: false,
            cleared: false,
            end: None,
        });
    }

    fn note_tried(&mut self, recovery: u64, server: usize, action: &Action) {
        match action {
            Action::Fence | Action::MakeReadOnly { .. } => self.memory.fence_tried = recovery,
            Action::StopReceiver { .. } => {
                let tried = &mut self.memory.stop_tried;
                if tried.0 != recovery {
                    *tried = (recovery, Default::default());
                }
                tried.1[server] = true;
            }
            _ => {}
        }
    }

    fn propose_next(&mut self, node: usize) {
        let Some(driver) = self.nodes[node].driver.as_mut().filter(|d| !d.waiting && !d.todo.is_empty())
        else {
            return;
        };
        let (change, term) = (driver.todo.remove(0), driver.term);
        driver.waiting = true;
        self.propose(node, term, change, None, Sender::Driver);
    }

    /// Into the log of a leader; a node that leads no more, and knows it, is refused.
    pub fn propose(
        &mut self,
        node: usize,
        term: u64,
        change: Rc<Kept<Change>>,
        request_id: Option<&'static str>,
        sender: Sender,
    ) {
        if self.confirms(node) {
            let since_ms = self.now_ms;
            self.pending.push(Pending { node, term, change, request_id, sender, since_ms });
        }
    }

    /// The driver's proposal is committed: it hears that behind what came meanwhile.
    pub fn hear_commit(&mut self, node: usize, outcome: &Outcome) {
        let Some(driver) = self.nodes[node].driver.as_mut() else { return };
        driver.waiting = false;
        let done = !matches!(outcome, Outcome::Refused(_));
        driver.inbox.push(Told { input: Input::Committed { done }, mark: 0 });
        self.propose_next(node);
        while let Some(driver) =
            self.nodes[node].driver.as_mut().filter(|d| !d.waiting && !d.inbox.is_empty())
        {
            let told = driver.inbox.remove(0);
            self.advance(node, told.input);
        }
    }

    /// A step's end, for whoever waits for it.
    pub fn report(&mut self, flight: &Flight, end: Ended) {
        if flight.heard {
            return;
        }
        match flight.origin {
            Origin::Step(id) => {
                self.note_stopped(flight, end);
                self.tell(flight.node, Input::Step { id, end }, flight.mark);
            }
            Origin::Fence { asked_by } => {
                self.tell(asked_by, Input::Fence { node: flight.node, end }, flight.mark);
            }
            Origin::Order { id, waiting } => self.order_fenced(id, waiting, end),
            Origin::Rejoin { id } => self.rejoin_ended(flight.node, id, end),
        }
    }

    fn note_stopped(&mut self, flight: &Flight, end: Ended) {
        if !end.is_done() || !matches!(flight.step.action, Action::StopReceiver { .. }) {
            return;
        }
        let stopped = &mut self.memory.stopped;
        if (stopped.0, stopped.1) != (flight.under, flight.term) {
            *stopped = (flight.under, flight.term, Default::default());
        }
        stopped.2[flight.server] = true;
    }
}
