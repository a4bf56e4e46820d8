//! What becomes of a step under way: it ends as it should, or a fault does something to it.

use quorate::core::{plan::step::Action, replicated::State};

use crate::{
    memo::Input,
    servers::{self, Ended, Life},
    world::{Flight, NODES, Origin, PAUSE_MS, Place, World},
};

/// The ways of a step. All but the first two are faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is sent, lands and is heard of; or whatever is in its way says no.
    Ends,
    /// Nobody waits for it any more: it lands after all.
    LandsLate,
    /// The server says no.
    Refused,
    /// Its node hears nothing; it lands at any later time, or never.
    Late,
    /// It lands, and its end is heard later.
    HeardLate,
    /// It lands, is heard of, and may land again.
    Twice,
}

impl How {
    pub const FAULTS: [Self; 4] = [Self::Refused, Self::Late, Self::HeardLate, Self::Twice];
}

impl World {
    /// Whether its node can do anything about it now.
    pub fn may_move(&self, at: usize) -> bool {
        let flight = &self.flights[at];
        // One session, lent to one step after the other.
        let before = |(nth, other): (usize, &Flight)| {
            let waits = other.place == Place::Permitted && nth < at;
            let holds = !other.heard && matches!(other.place, Place::Sent | Place::Landed);
            other.node == flight.node && other.server == flight.server && (waits || holds)
        };
        let busy = self.flights.iter().enumerate().any(before);
        let sent = matches!(flight.place, Place::Sent | Place::Landed);
        let reaches = flight.place != Place::Asked || !self.nodes[flight.node].cut_off;
        sent || reaches && !busy
    }

    /// Moves it.
    pub fn move_flight(&mut self, at: usize, how: How) {
        let flight = self.flights.remove(at);
        if flight.place == Place::Landed {
            let end = flight.end.expect("it landed");
            return self.report(&flight, end);
        }
        match self.send(flight) {
            Ok(sent) => self.on_server(sent, how),
            Err((flight, end)) => self.report(&flight, end),
        }
    }

    /// As far as its server: permit, session, delegation; else how it ends.
    fn send(&mut self, mut flight: Flight) -> Result<Flight, (Flight, Ended)> {
        if flight.place == Place::Asked {
            let Some(asked) = self.receive(&flight) else {
                return Err((flight, Ended::Refused("it may not")));
            };
            flight = asked;
        }
        if flight.place == Place::Sent {
            return Ok(flight);
        }
        if !flight.permitted(self.now_ms) {
            return Err((flight, Ended::Refused("the permit has expired")));
        }
        if flight.cleared {
            return Err((flight, Ended::Refused("the session is younger than the permit")));
        }
        let (node, server) = (flight.node, flight.server);
        match self.servers[server].life {
            Life::Dead => return Err((flight, Ended::Refused("nothing listens"))),
            // Its one session is in use by what lies in the server's socket, and nobody logs in there.
            Life::Frozen
                if self
                    .flights
                    .iter()
                    .any(|f| f.node == node && f.server == server && f.place == Place::Sent) =>
            {
                return Err((flight, Ended::Refused("no session in time")));
            }
            _ => {}
        }
        if self.servers[server].up() && flight.step.action.changes() {
            // An earlier session of this node is ended before this one changes anything.
            self.flights
                .retain(|f| !(f.node == node && f.server == server && f.place == Place::Sent && f.heard));
        }
        flight.place = Place::Sent;
        Ok(flight)
    }

    /// The node that was asked looks whether it may (`server::peer`), and its time begins.
    fn receive(&mut self, asked: &Flight) -> Option<Flight> {
        if !delegated(&self.state.value, asked) {
            return None;
        }
        let expires_ms = self.now_ms + self.state.value.policy.revoke_deadline_ms;
        Some(Flight { place: Place::Permitted, expires_ms, ..asked.clone() })
    }

    fn on_server(&mut self, flight: Flight, how: How) {
        if self.servers[flight.server].life == Life::Frozen {
            return match how {
                How::Refused => self.report(&flight, Ended::Refused("no session in time")),
                _ => self.left_behind(flight),
            };
        }
        match how {
            How::Ends => {
                let end = self.land(&flight);
                self.report(&flight, end);
            }
            How::LandsLate => drop(self.land(&flight)),
            How::Refused => self.report(&flight, Ended::Refused("the server says no")),
            How::Late => self.left_behind(flight),
            How::HeardLate => {
                let end = Some(self.land(&flight));
                self.flights.push(Flight { place: Place::Landed, end, ..flight });
            }
            How::Twice => {
                let end = self.land(&flight);
                self.flights.push(Flight { heard: true, ..flight.clone() });
                self.drop_harmless();
                self.report(&flight, end);
            }
        }
    }

    /// It is on its way or lies there, and its node does not wait any longer.
    fn left_behind(&mut self, flight: Flight) {
        self.flights.push(Flight { heard: true, place: Place::Sent, ..flight.clone() });
        self.drop_harmless();
        self.report(&flight, Ended::Unknown("no answer"));
    }

    /// What changes nothing that lasts is forgotten once nobody waits for it.
    pub fn drop_harmless(&mut self) {
        self.flights.retain(|f| !f.heard || servers::lasts(&f.step.action));
    }

    fn land(&mut self, flight: &Flight) -> Ended {
        self.check_landing(flight);
        match &flight.step.action {
            Action::KillPredecessors => self.clear(flight.node, flight.server, u64::MAX),
            // Once a term: what a delegate of the same term has sent since is left alone. A stop whose sender is gone is the one
            // statement, and nobody looks behind it.
            Action::StopReceiver { .. } if !flight.heard => {
                self.clear(flight.node, flight.server, flight.term)
            }
            _ => {}
        }
        let end = servers::carry_out(&mut self.servers, flight.server, &flight.step.action);
        self.check_servers();
        end
    }

    /// Every other node's session on that server is ended, and seen gone: with it what was permitted in terms before `term`.
    pub fn clear(&mut self, node: usize, server: usize, term: u64) {
        let (killed, rest): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|f| f.server == server && f.node != node && f.term < term && f.place == Place::Sent);
        self.flights = rest;
        for flight in &mut self.flights {
            flight.cleared |= flight.server == server
                && flight.node != node
                && flight.term < term
                && flight.place == Place::Permitted;
        }
        for flight in killed {
            self.report(&flight, Ended::Unknown("its session was killed"));
        }
    }

    /// Everything that is bounded by time has ended; but a node that is cut off may be frozen too, and what it was
    /// permitted is held back by its permit alone.
    pub fn pause(&mut self) {
        self.now_ms += PAUSE_MS;
        let kept =
            |world: &Self, f: &Flight| f.heard || f.place == Place::Permitted && world.nodes[f.node].cut_off;
        let all = std::mem::take(&mut self.flights);
        let (kept, bounded): (Vec<Flight>, Vec<Flight>) = all.into_iter().partition(|f| kept(self, f));
        self.flights = kept;
        let goes_on = bounded.iter().filter(|f| matches!(f.place, Place::Asked | Place::Sent));
        self.flights.extend(goes_on.map(|f| Flight { heard: true, ..f.clone() }));
        self.drop_harmless();
        for flight in bounded {
            let end = match flight.place {
                Place::Permitted => Ended::Refused("not begun in time"),
                _ => Ended::Unknown("no answer in time"),
            };
            self.report(&flight, end);
        }
        for node in 0..NODES {
            self.tell(node, Input::Tick, 0);
        }
    }

    /// Whether time may pass without anybody being slow: nothing is left that would end by itself at once.
    pub fn at_rest(&self) -> bool {
        let moves = |(at, flight): (usize, &Flight)| {
            let stuck = flight.place == Place::Sent && self.servers[flight.server].life == Life::Frozen;
            let node = &self.nodes[flight.node];
            !flight.heard && !stuck && !node.cut_off && self.may_move(at)
        };
        !self.flights.iter().enumerate().any(moves)
    }

    /// A server's process ends, and with it every session there.
    pub fn die(&mut self, server: usize) {
        self.servers[server].life = Life::Dead;
        self.memory.died = true;
        let (gone, rest): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|f| f.server == server && f.place == Place::Sent);
        self.flights = rest;
        for flight in gone {
            self.report(&flight, Ended::Unknown("the connection ended"));
        }
    }
}

/// `server::peer::stands`, after a read barrier: the recovery that allows the fence still runs under that term.
fn delegated(state: &State, asked: &Flight) -> bool {
    let Origin::Fence { .. } = asked.origin else { return false };
    let recovery = state.recoveries.get(&asked.under);
    recovery.is_some_and(|r| r.running() && !r.undoing() && r.owner.1 == asked.term)
}
