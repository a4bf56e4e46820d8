//! Replication streams: how transactions, acknowledgements and silence travel between two servers.

use std::sync::Arc;

use quorate::model::{
    address::Address,
    gtid::GtidSet,
    server::{Flavor, Identity},
};

use super::{
    Fleet, Item,
    channel::{Flow, Receiver},
    log::Txn,
    net::{Net, ServerNo},
    pipe::Pipe,
    server::{Dump, Process, SimServer},
    spec::Account,
    statement::code,
};

/// A TCP connection from a replica to its source.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u64,
    /// The source.
    pub source: ServerNo,
    /// The replica.
    pub replica: ServerNo,
    channel: String,
    up: Pipe<Up>,
    down: Pipe<Down>,
    dump_open: bool,
    receiver_open: bool,
}

#[derive(Debug)]
enum Up {
    Hello(Box<Hello>),
    /// All entries before this one are in the relay log.
    Ack(usize),
    Fin,
}

#[derive(Debug)]
struct Hello {
    identity: Identity,
    reports: Address,
    semi_sync: bool,
    known: GtidSet,
}

#[derive(Debug)]
enum Down {
    Accepted {
        uuid: Option<String>,
        server_id: u32,
        semi_sync: bool,
    },
    /// Nothing listens, or the account is turned away: with this error.
    TurnedAway(u32, String),
    /// The receiver stops for good.
    Fatal(u32, String),
    /// An entry of the source's binlog, and its place there.
    Event(usize, Arc<Txn>),
    Heartbeat,
    Fin,
}

impl Stream {
    /// Whether it is of that source, which has waited since then for what its replica has said and sends again.
    pub(super) fn was_word_held_up(&self, source: ServerNo, since_ms: u64) -> bool {
        self.source == source && self.dump_open && self.up.was_held_up(since_ms)
    }
}

impl Fleet {
    fn stream_mut(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Starts the receivers that are due.
    pub(super) fn dial_sources(&mut self, replica: ServerNo, net: &mut dyn Net) {
        let now = self.now_ms;
        if !self.servers[replica.0].runs() || self.servers[replica.0].process != Process::Up {
            return;
        }
        for at in 0..self.servers[replica.0].channels.len() {
            match self.servers[replica.0].channels[at].receiver {
                Receiver::Waiting(when) if when <= now => self.dial_source(replica, at, net),
                Receiver::Waiting(when) => self.wake(when, Item::Server(replica)),
                _ => {}
            }
        }
    }

    fn dial_source(&mut self, replica: ServerNo, at: usize, net: &mut dyn Net) {
        let now = self.now_ms;
        let server = &mut self.servers[replica.0];
        let flavor = server.flavor();
        let known = match flavor {
            Flavor::MySql => {
                let mut all = server.log.executed().clone();
                all.merge(&server.channels[at].received);
                all
            }
            Flavor::MariaDb => server.channels[at].received.clone(),
        };
        let semi_sync = server.spec.has_semi_sync() && server.semi.replica_enabled;
        let hello = Hello {
            identity: server.spec.identity(),
            reports: server.spec.address.clone(),
            semi_sync,
            known,
        };
        let deadline = now + server.spec.net_timeout_ms;
        let channel = &mut server.channels[at];
        let (name, source, retry_ms) =
            (channel.name.clone(), channel.options.source.clone(), channel.options.connect_retry_s * 1000);
        server.facts_stale = true;
        let Some(source) = self.server_at(&source) else {
            self.receiver_fails(replica, at, code::CANNOT_CONNECT, "Unknown host", now + retry_ms);
            return;
        };
        self.last_stream += 1;
        let id = self.last_stream;
        self.servers[replica.0].channels[at].receiver = Receiver::Dialling(id, deadline);
        let mut stream = Stream {
            id,
            source,
            replica,
            channel: name,
            up: Pipe::default(),
            down: Pipe::default(),
            dump_open: false,
            receiver_open: true,
        };
        let look = stream.up.push(Up::Hello(Box::new(hello)), now, net.path(replica, source));
        self.streams.push(stream);
        self.wake(look, Item::Stream(id));
        self.wake(deadline, Item::Stream(id));
    }

    fn receiver_fails(&mut self, replica: ServerNo, at: usize, code: u32, why: &str, again_ms: u64) {
        self.receiver_waits(replica, at, again_ms);
        let error = Some((code, format!("Error connecting to source: {why}")));
        self.servers[replica.0].channels[at].receiver_error = error;
    }

    /// It is not connected and will dial then. A connection that was lost is no error yet: only dialling is one.
    fn receiver_waits(&mut self, replica: ServerNo, at: usize, again_ms: u64) {
        let server = &mut self.servers[replica.0];
        let channel = &mut server.channels[at];
        channel.flow.settle(self.now_ms);
        channel.flow.on = false;
        channel.receiver = Receiver::Waiting(again_ms);
        server.semi.replica_on = false;
        server.facts_stale = true;
        self.wake(again_ms, Item::Server(replica));
    }

    /// What is due on one stream.
    pub(super) fn look_at_stream(&mut self, id: u64, net: &mut dyn Net) {
        let now = self.now_ms;
        let Some(stream) = self.stream_mut(id) else { return };
        let (source, replica) = (stream.source, stream.replica);
        let looks = [
            stream.up.retry(now, || net.path(replica, source)),
            stream.down.retry(now, || net.path(source, replica)),
        ];
        for look in looks.into_iter().flatten() {
            self.wake(look, Item::Stream(id));
        }
        self.deliver_up(id, net);
        self.deliver_down(id, net);
        self.beat(id, net);
        self.give_up_waiting(id, net);
        self.streams.retain(|stream| {
            stream.id != id || stream.dump_open || stream.receiver_open || !stream.up.is_empty()
        });
    }

    fn deliver_up(&mut self, id: u64, net: &mut dyn Net) {
        loop {
            let now = self.now_ms;
            let Some(at) = self.streams.iter().position(|stream| stream.id == id) else { return };
            let source = self.streams[at].source;
            let host = &self.servers[source.0];
            // A frozen process' kernel keeps what comes.
            if host.frozen && !host.dark {
                return;
            }
            let Some(message) = self.streams[at].up.next(now) else { return };
            if host.dark {
                continue;
            }
            match message {
                Up::Hello(hello) => self.answer_hello(id, *hello, net),
                Up::Ack(until) => {
                    self.servers[source.0].acknowledged(id, until);
                    self.due(Item::Server(source));
                }
                Up::Fin => self.end_dump(id),
            }
        }
    }

    fn answer_hello(&mut self, id: u64, hello: Hello, net: &mut dyn Net) {
        let Some((source, replica)) = self.stream_mut(id).map(|stream| (stream.source, stream.replica))
        else {
            return;
        };
        if let Some(no) = self.servers[source.0].turns_away(Account::Replication) {
            let code = SimServer::turned_away_code(&no);
            // A hanging login is never answered.
            if no != super::statement::Dialled::Silent {
                self.send_down(id, Down::TurnedAway(code, format!("{no:?}")), net);
            }
            return;
        }
        let flavor = self.servers[source.0].flavor();
        let begins = self.servers[source.0].log.start_of(&hello.known);
        let begins = match begins {
            _ if hello.identity.server_id == self.servers[source.0].spec.server_id => {
                Err((equal_ids(flavor), "source and replica have equal server ids".to_owned()))
            }
            _ if !self.servers[source.0].spec.log_bin => {
                Err((fatal(flavor), "Binary log is not open".to_owned()))
            }
            Err(why) => Err((fatal(flavor), why)),
            Ok(from) => Ok(from),
        };
        let from = match begins {
            Ok(from) => from,
            Err((code, why)) => return self.send_down(id, Down::Fatal(code, why), net),
        };
        let host = self.servers[replica.0].spec.address.host.clone();
        self.end_zombies(source, &hello.identity);
        let server = &mut self.servers[source.0];
        let accepted = Down::Accepted {
            uuid: server.spec.uuid.clone(),
            server_id: server.spec.server_id,
            semi_sync: server.spec.has_semi_sync(),
        };
        let until = server.log.entries().len();
        let number = server.id();
        server.facts_stale = true;
        server.dumps.push(Dump {
            stream: id,
            id: number,
            began_ms: self.now_ms,
            host,
            replica: hello.identity,
            reports: hello.reports,
            semi_sync: hello.semi_sync,
            sent: from,
            // Everything before it is there.
            acked: from,
            known: hello.known,
            known_until: until,
        });
        if let Some(stream) = self.stream_mut(id) {
            stream.dump_open = true;
        }
        self.send_down(id, accepted, net);
        self.due(Item::Server(source));
        self.servers[source.0].acknowledged(id, from);
    }

    /// A replica that connects anew ends the dump thread it left behind.
    fn end_zombies(&mut self, source: ServerNo, replica: &Identity) {
        let left: Vec<u64> = self.servers[source.0]
            .dumps
            .iter()
            .filter(|dump| dump.replica == *replica)
            .map(|dump| dump.stream)
            .collect();
        left.into_iter().for_each(|stream| self.end_dump(stream));
    }

    /// The source's end is closed; the other side is not told.
    pub(super) fn end_dump(&mut self, id: u64) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.dump_open = false;
        let source = stream.source;
        let server = &mut self.servers[source.0];
        server.dumps.retain(|dump| dump.stream != id);
        server.facts_stale = true;
        server.leave_if_too_few();
        self.reflow = true;
        self.due(Item::Server(source));
    }

    /// The source's end is closed, and says so.
    pub(super) fn close_dump(&mut self, id: u64, net: &mut dyn Net) {
        self.end_dump(id);
        self.send_down(id, Down::Fin, net);
    }

    /// The replica's end is closed, and says so. A source that it has not logged in to hears nothing of it any more:
    /// a login takes several round trips, and one that came late would end the dump of the next.
    pub(super) fn close_receiver(&mut self, id: u64, net: &mut dyn Net) {
        let now = self.now_ms;
        let Some(stream) = self.stream_mut(id) else { return };
        stream.receiver_open = false;
        stream.down.clear();
        if stream.up.holds(|message| matches!(message, Up::Hello(_))) {
            stream.up.clear();
            return self.due(Item::Stream(id));
        }
        let look = stream.up.push(Up::Fin, now, net.path(stream.replica, stream.source));
        self.wake(look, Item::Stream(id));
    }

    fn send_down(&mut self, id: u64, message: Down, net: &mut dyn Net) {
        let now = self.now_ms;
        let Some(stream) = self.stream_mut(id) else { return };
        let look = stream.down.push(message, now, net.path(stream.source, stream.replica));
        self.wake(look, Item::Stream(id));
    }

    /// Sends the replicas what the binlog has for them.
    pub(super) fn dump_binlog(&mut self, source: ServerNo, net: &mut dyn Net) {
        if !self.servers[source.0].runs() {
            return;
        }
        let end = self.servers[source.0].log.entries().len();
        for at in 0..self.servers[source.0].dumps.len() {
            while self.servers[source.0].dumps[at].sent < end {
                let server = &mut self.servers[source.0];
                let dump = &mut server.dumps[at];
                let index = dump.sent;
                dump.sent += 1;
                let entry = &server.log.entries()[index];
                let known = index < dump.known_until && dump.known.contains(&entry.txn.gtid);
                if known || !entry.logged {
                    continue;
                }
                let (stream, txn) = (dump.stream, entry.txn.clone());
                self.send_down(stream, Down::Event(index, txn), net);
            }
        }
    }

    fn deliver_down(&mut self, id: u64, net: &mut dyn Net) {
        loop {
            let now = self.now_ms;
            let Some(at) = self.streams.iter().position(|stream| stream.id == id) else { return };
            let replica = self.streams[at].replica;
            let host = &self.servers[replica.0];
            let waits = (host.frozen || host.stalled) && !host.dark;
            if waits || !self.streams[at].receiver_open {
                return;
            }
            let Some(message) = self.streams[at].down.next(now) else { return };
            if !host.dark && !self.take_down(id, replica, message, net) {
                return;
            }
        }
    }

    /// Whether the stream goes on.
    fn take_down(&mut self, id: u64, replica: ServerNo, message: Down, net: &mut dyn Net) -> bool {
        let now = self.now_ms;
        let server = &mut self.servers[replica.0];
        let Some(at) = server.channels.iter().position(|c| c.receiver.stream() == Some(id)) else {
            return false;
        };
        let retry_ms = server.channels[at].options.connect_retry_s * 1000;
        match message {
            Down::Accepted { uuid, server_id, semi_sync } => {
                server.facts_stale = true;
                let semi_sync = semi_sync && server.spec.has_semi_sync() && server.semi.replica_enabled;
                server.semi.replica_on = semi_sync;
                let channel = &mut server.channels[at];
                channel.semi_sync = semi_sync;
                channel.receiver = Receiver::Running(id);
                channel.receiver_error = None;
                channel.seen = Some((uuid, server_id));
                channel.flow.connected(now, channel.options.heartbeat_ms);
                self.reflow = true;
            }
            Down::TurnedAway(code, why) => {
                self.close_receiver(id, net);
                self.receiver_fails(replica, at, code, &why, now + retry_ms);
                return false;
            }
            Down::Fatal(code, why) => {
                self.close_receiver(id, net);
                let server = &mut self.servers[replica.0];
                server.facts_stale = true;
                server.semi.replica_on = false;
                server.channels[at].receiver = Receiver::Stopped;
                server.channels[at].receiver_error = Some((code, why));
                return false;
            }
            Down::Event(index, txn) => self.receive(id, replica, at, index, &txn, net),
            Down::Heartbeat => {
                server.channels[at].flow.beat(now);
                self.reflow = true;
            }
            // It tries again at once, and then at its interval.
            Down::Fin => {
                self.close_receiver(id, net);
                self.receiver_waits(replica, at, now);
                return false;
            }
        }
        true
    }

    /// A transaction goes into the relay log, and is acknowledged once it is there.
    fn receive(
        &mut self,
        id: u64,
        replica: ServerNo,
        at: usize,
        index: usize,
        txn: &Arc<Txn>,
        net: &mut dyn Net,
    ) {
        let now = self.now_ms;
        let server = &mut self.servers[replica.0];
        let flavor = server.flavor();
        let own = txn.server_id == server.spec.server_id;
        let had = flavor == Flavor::MySql && server.log.executed().contains(&txn.gtid);
        let channel = &mut server.channels[at];
        channel.flow.heard(now);
        channel.read += 1;
        match flavor {
            _ if own || had => channel.applied += usize::from(channel.relay.is_empty()),
            Flavor::MySql => channel.received.merge(&txn.gtid),
            Flavor::MariaDb => channel.received = txn.gtid.clone(),
        }
        if !own && !had {
            channel.relay.push_back((now, txn.clone()));
        }
        let acks = channel.semi_sync;
        server.facts_stale = true;
        self.due(Item::Server(replica));
        if acks && let Some(stream) = self.stream_mut(id) {
            let path = net.path(stream.replica, stream.source);
            let look = stream.up.push(Up::Ack(index + 1), now, path);
            self.wake(look, Item::Stream(id));
        }
    }

    /// A heartbeat that cannot be counted on the quiet is sent as a packet.
    fn beat(&mut self, id: u64, net: &mut dyn Net) {
        let now = self.now_ms;
        let Some((source, quiet)) =
            self.stream_mut(id).map(|stream| (stream.source, stream.dump_open && stream.down.is_empty()))
        else {
            return;
        };
        let source_runs = self.servers[source.0].runs();
        let Some(flow) = self.flow_mut(id) else { return };
        if flow.on || !quiet || !source_runs {
            return;
        }
        let next = flow.next_ms;
        match next <= now {
            true => self.send_down(id, Down::Heartbeat, net),
            false => self.wake(next, Item::Stream(id)),
        }
    }

    fn flow_mut(&mut self, id: u64) -> Option<&mut Flow> {
        let replica = self.streams.iter().find(|stream| stream.id == id)?.replica;
        let running = |receiver: Receiver| matches!(receiver, Receiver::Running(stream) if stream == id);
        let channels = &mut self.servers[replica.0].channels;
        channels.iter_mut().find(|channel| running(channel.receiver)).map(|channel| &mut channel.flow)
    }

    /// A receiver that hears nothing for `replica_net_timeout` dials anew; so does one whose dialling takes so long.
    fn give_up_waiting(&mut self, id: u64, net: &mut dyn Net) {
        let now = self.now_ms;
        let Some(replica) = self.stream_mut(id).filter(|s| s.receiver_open).map(|s| s.replica) else {
            return;
        };
        let server = &self.servers[replica.0];
        if !server.runs() {
            return;
        }
        let Some(at) = server.channels.iter().position(|c| c.receiver.stream() == Some(id)) else { return };
        let channel = &server.channels[at];
        let (deadline, dialling) = match channel.receiver {
            Receiver::Dialling(_, deadline) => (deadline, true),
            _ if channel.flow.on => return,
            _ => (channel.flow.heard_ms + server.spec.net_timeout_ms, false),
        };
        let retry_ms = channel.options.connect_retry_s * 1000;
        if now < deadline {
            return self.wake(deadline, Item::Stream(id));
        }
        self.close_receiver(id, net);
        match dialling {
            true => {
                self.receiver_fails(replica, at, code::CANNOT_CONNECT, "no answer in time", now + retry_ms)
            }
            false => self.receiver_waits(replica, at, now),
        }
    }

    /// Finds out anew on which streams heartbeats flow.
    pub(super) fn find_flows(&mut self, net: &mut dyn Net) {
        self.reflow = false;
        let now = self.now_ms;
        for at in 0..self.streams.len() {
            let Stream { id, source, replica, dump_open, .. } = self.streams[at];
            let clear = self.streams[at].down.is_clear();
            let alive = self.servers[source.0].runs() && !self.servers[replica.0].dark;
            let path = net.path(source, replica);
            let Some(flow) = self.flow_mut(id) else { continue };
            let on = dump_open && clear && alive && path.is_some();
            flow.settle(now);
            if on && !flow.on && flow.next_ms < now {
                // It was due while the source could not send it.
                flow.next_ms = now + path.unwrap_or(0);
            }
            flow.on = on;
            if !on {
                self.due(Item::Stream(id));
            }
        }
    }

    /// The ends that a process had of its streams are gone with it.
    pub(super) fn end_streams_of(&mut self, server: ServerNo, net: &mut dyn Net) {
        let dark = self.servers[server.0].dark;
        let ends: Vec<(u64, bool, bool)> = self
            .streams
            .iter()
            .map(|s| (s.id, s.source == server && s.dump_open, s.replica == server && s.receiver_open))
            .collect();
        for (id, dump, receiver) in ends {
            match (dump, receiver, dark) {
                (true, _, false) => self.close_dump(id, net),
                (true, _, true) => self.end_dump(id),
                (_, true, false) => self.close_receiver(id, net),
                (_, true, true) => {
                    if let Some(stream) = self.stream_mut(id) {
                        stream.receiver_open = false;
                        stream.down.clear();
                        // Nobody is left to send it again.
                        stream.up.clear();
                    }
                }
                _ => {}
            }
        }
    }

    /// Streams with an end on this server are looked at.
    pub(super) fn look_at_streams_of(&mut self, server: ServerNo) {
        let ids: Vec<u64> =
            self.streams.iter().filter(|s| s.source == server || s.replica == server).map(|s| s.id).collect();
        ids.into_iter().for_each(|id| self.due(Item::Stream(id)));
    }
}

/// MySQL numbers what stops a receiver for good apart from the source's own error.
fn fatal(flavor: Flavor) -> u32 {
    match flavor {
        Flavor::MySql => 13_114,
        Flavor::MariaDb => u32::from(code::SOURCE_FATAL),
    }
}

fn equal_ids(flavor: Flavor) -> u32 {
    match flavor {
        Flavor::MySql => 13_117,
        Flavor::MariaDb => 1593,
    }
}
