//! Identities that change (P11): another server answers at an address, or two have exchanged theirs; for a while, and then
//! each stands again where it did. Clients may not write to a stranger: it is read-only, and acknowledges nothing.

use quorate::model::server::{Flavor, Identity};

use super::{
    fault::{Undo, Who},
    fleet::{ChangeSource, Config, ServerNo, ServerSpec, SimServer},
    world::World,
};

/// Who answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guise {
    /// A server that was set up anew from a backup: its configuration file is the old one, its identity is not. It replicates.
    Restored,
    /// One with nothing on it and another `server_id`.
    Empty,
    /// A clone of another member, with that one's identity.
    Twin,
}

/// Servers that stand where they are not bound to.
#[derive(Debug, Default)]
pub struct Strangers {
    there: Vec<Stranger>,
    /// Those that have left, and when.
    gone: Vec<(Stranger, u64)>,
}

/// A server at an address that is another's.
#[derive(Debug, Clone, Copy)]
pub struct Stranger {
    /// Where.
    pub server: ServerNo,
    /// Since when, true time.
    pub since: u64,
}

impl Strangers {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Stranger> {
        self.there.iter()
    }

    /// Since when a stranger stands there.
    pub fn since(&self, server: ServerNo) -> Option<u64> {
        self.there.iter().find(|stranger| stranger.server == server).map(|stranger| stranger.since)
    }

    /// Whether one stood there at that moment, true time.
    pub fn stood(&self, server: ServerNo, at: u64) -> bool {
        let gone = self
            .gone
            .iter()
            .any(|(stranger, until)| stranger.server == server && (stranger.since..=*until).contains(&at));
        gone || self.since(server).is_some_and(|since| since <= at)
    }
}

impl World {
    /// The identity that the record binds to an address.
    pub fn bound_at(&self, no: ServerNo) -> Option<&Identity> {
        let (_, member) = self.group.state.member_at(&self.fleet.server(no).spec.address)?;
        Some(&member.identity)
    }

    /// Another server answers where this one did.
    pub fn put_stranger(&mut self, who: Who, guise: Guise) -> Option<Undo> {
        let no = self.who(who)?;
        let twin = self.who(Who::Other(no.0 + 1)).filter(|twin| *twin != no)?;
        // MariaDB's replicas would stop for good, and wait for a person, if they dialled it in their source's place.
        let mysql = self.fleet.server(no).flavor() == Flavor::MySql;
        if self.is_strange(no) || self.is_strange(twin) || (self.primary() == Some(no) && !mysql) {
            return None;
        }
        let stranger = self.stranger(no, twin, guise);
        let now = self.now;
        let before = self.fleet.put_in(no, stranger, now);
        self.came(&[no]);
        Some(Box::new(move |world| {
            drop(world.fleet.put_in(no, before, world.now));
            world.left(&[no])
        }))
    }

    /// Two replicas stand at each other's address.
    pub fn swap_servers(&mut self, a: Who, b: Who) -> Option<Undo> {
        let (a, b) = (self.who(a)?, self.who(b)?);
        let primary = self.primary();
        let taken = |no: ServerNo| self.is_strange(no) || primary == Some(no);
        if a == b || taken(a) || taken(b) {
            return None;
        }
        self.fleet.swap(a, b, self.now);
        self.came(&[a, b]);
        Some(Box::new(move |world| {
            world.fleet.swap(a, b, world.now);
            world.left(&[a, b])
        }))
    }

    fn stranger(&self, no: ServerNo, twin: ServerNo, guise: Guise) -> SimServer {
        let (old, other) = (&self.fleet.server(no).spec, self.fleet.server(twin));
        let mut spec = ServerSpec { address: old.address.clone(), ..other.spec.clone() };
        let number = 90 + no.0 as u32;
        let fresh = ServerSpec::ordinary(spec.flavor, number);
        match guise {
            Guise::Restored => {
                (spec.server_id, spec.uuid, spec.uid) = (old.server_id, fresh.uuid, fresh.uid);
            }
            Guise::Empty => (spec.server_id, spec.uuid, spec.uid) = (number, fresh.uuid, fresh.uid),
            Guise::Twin => {}
        }
        spec.config =
            Config { read_only: true, super_read_only: spec.flavor == Flavor::MySql, ..Config::default() };
        let mut server = SimServer::new(spec);
        if guise == Guise::Empty {
            return server;
        }
        server.log = other.log.restored_on(&server.spec);
        let primary = self.primary().filter(|primary| *primary != no && guise == Guise::Restored);
        if let Some(primary) = primary {
            let source = self.fleet.server(primary).spec.address.clone();
            server.replicate_from(&ChangeSource {
                source,
                heartbeat_ms: 500,
                connect_retry_s: 1,
                sets_auto_position: true,
            });
        }
        server
    }

    /// Whether whoever stands there is not who it was set up to be.
    fn is_strange(&self, no: ServerNo) -> bool {
        self.strangers.since(no).is_some()
    }

    fn came(&mut self, servers: &[ServerNo]) {
        for server in servers.iter().copied() {
            self.strangers.there.push(Stranger { server, since: self.now });
            self.fleet.spy(server, true);
            self.restarted.insert(server);
        }
        self.counts.reach("identity changed");
        if self.group.state.clusters.values().any(|cluster| cluster.slot.is_some()) {
            self.counts.reach("identity changed mid-recovery");
        }
    }

    fn left(&mut self, servers: &[ServerNo]) -> bool {
        let all = std::mem::take(&mut self.strangers.there).into_iter();
        let (gone, there): (Vec<_>, Vec<_>) = all.partition(|stranger| servers.contains(&stranger.server));
        self.strangers.there = there;
        self.strangers.gone.extend(gone.into_iter().map(|stranger| (stranger, self.now)));
        servers.iter().for_each(|server| self.fleet.spy(*server, false));
        true
    }
}
