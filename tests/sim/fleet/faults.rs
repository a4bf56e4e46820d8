//! What can be done to a server from outside. Each takes effect at `now_ms`.

use super::{
    Fleet, Item,
    channel::Receiver,
    net::ServerNo,
    server::{Process, SimServer},
    statement::Thread,
};

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// SIGKILL: the kernel closes its sockets and keeps what was written.
    Process,
    /// The machine goes dark: nobody is told, and nothing answers there until it is lit again.
    Machine,
    /// The power fails: as before, and what was written in the last so many milliseconds is gone where it was not
    /// flushed (`sync_binlog` other than 1).
    Power {
        /// Milliseconds.
        lost_ms: u64,
    },
}

impl Fleet {
    /// The server's process ends.
    pub fn kill(&mut self, no: ServerNo, how: Kill, now_ms: u64) {
        self.pass(now_ms);
        let server = &mut self.servers[no.0];
        if let Kill::Power { lost_ms } = how {
            server.power_failed = true;
            server.power_failed_ms = Some(now_ms);
            if server.spec.sync_binlog != 1 && server.process != Process::Down {
                server.log.lose_after(now_ms.saturating_sub(lost_ms));
            }
        }
        server.dark = how != Kill::Process;
        self.end_process(no);
    }

    /// Another server stands at this one's address from now on, and starts; the one that stood there is given back, its process
    /// ended.
    pub fn put_in(&mut self, no: ServerNo, mut other: SimServer, now_ms: u64) -> SimServer {
        self.pass(now_ms);
        let server = &mut self.servers[no.0];
        server.dark = false;
        self.end_process(no);
        let server = &mut self.servers[no.0];
        other.spec.address = server.spec.address.clone();
        other.spec.datacenter.clone_from(&server.spec.datacenter);
        // Who was there is told, and no connection is taken for one of before.
        other.effects.append(&mut server.effects);
        other.next_id = other.next_id.max(server.next_id);
        (other.frozen, other.dark, other.stalled) = (false, false, false);
        other.others = 0;
        other.process = Process::Starting(now_ms + other.spec.startup_ms);
        let before = std::mem::replace(server, other);
        self.changed(no);
        before
    }

    /// Two servers stand at each other's address from now on.
    pub fn swap(&mut self, a: ServerNo, b: ServerNo, now_ms: u64) {
        let spec = self.servers[b.0].spec.clone();
        let first = self.put_in(a, SimServer::new(spec), now_ms);
        let second = self.put_in(b, first, now_ms);
        drop(self.put_in(a, second, now_ms));
    }

    /// Whether and what the executor's sessions change there is remembered, or no more.
    pub fn spy(&mut self, no: ServerNo, on: bool) {
        self.servers[no.0].spied = on.then(Vec::new);
    }

    pub(super) fn end_process(&mut self, no: ServerNo) {
        self.servers[no.0].die();
        self.reflow = true;
        self.due(Item::Ended(no));
        self.due(Item::Server(no));
        self.look_at_streams_of(no);
    }

    /// Starts the process again (the machine too); it answers after its start-up time.
    pub fn restart(&mut self, no: ServerNo, now_ms: u64) {
        self.pass(now_ms);
        let server = &mut self.servers[no.0];
        server.dark = false;
        if server.process == Process::Down {
            let at = now_ms + server.spec.startup_ms;
            server.process = Process::Starting(at);
            self.due(Item::Server(no));
        }
    }

    /// A clean SHUTDOWN: clients are sent away at once; replicas stay connected for `replicas_for_ms` (MySQL lets them
    /// for up to 8 s).
    pub fn shut_down(&mut self, no: ServerNo, replicas_for_ms: u64, now_ms: u64) {
        self.pass(now_ms);
        let server = &mut self.servers[no.0];
        if server.process == Process::Up {
            server.close_clients("Server shutdown in progress");
            server.process = Process::Leaving(now_ms + replicas_for_ms);
            self.reflow = true;
            self.due(Item::Server(no));
        }
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, no: ServerNo, now_ms: u64) {
        self.pass(now_ms);
        self.settle_flows();
        self.servers[no.0].frozen = self.servers[no.0].process != Process::Down;
        self.reflow = true;
    }

    /// SIGCONT: what was sent meanwhile lands.
    pub fn thaw(&mut self, no: ServerNo, now_ms: u64) {
        self.pass(now_ms);
        self.servers[no.0].frozen = false;
        self.changed(no);
    }

    /// The disk hangs: writes wait, reads go on.
    pub fn stall(&mut self, no: ServerNo, now_ms: u64) {
        self.pass(now_ms);
        self.servers[no.0].stalled = true;
    }

    /// The disk goes on.
    pub fn unstall(&mut self, no: ServerNo, now_ms: u64) {
        self.pass(now_ms);
        self.servers[no.0].stalled = false;
        self.changed(no);
    }

    /// So many connections are held by others.
    pub fn occupy(&mut self, no: ServerNo, connections: u32, now_ms: u64) {
        self.alter(no, now_ms, |server| server.others = connections);
    }

    /// All connections are taken.
    pub fn saturate(&mut self, no: ServerNo, now_ms: u64) {
        self.alter(no, now_ms, |server| {
            let own = server.connected() - server.others;
            server.others = (server.spec.max_connections + 1).saturating_sub(own);
        });
    }

    /// How long the applier works at each transaction from now on, milliseconds.
    pub fn slow_applier(&mut self, no: ServerNo, apply_ms: u64, now_ms: u64) {
        self.alter(no, now_ms, |server| server.spec.apply_ms = apply_ms);
    }

    /// A row lock holds the appliers up, or lets them go.
    pub fn hold_applier(&mut self, no: ServerNo, held: bool, now_ms: u64) {
        self.alter(no, now_ms, |server| server.applier_held = held);
    }

    /// `SOURCE_DELAY` of every channel, milliseconds.
    pub fn delay_applier(&mut self, no: ServerNo, delay_ms: u64, now_ms: u64) {
        self.alter(no, now_ms, |server| server.channels.iter_mut().for_each(|c| c.delay_ms = delay_ms));
    }

    /// An operator's row, past `read_only`: in the server's own binlog, under its own GTID.
    pub fn write_errant(&mut self, no: ServerNo, row: u64, now_ms: u64) {
        self.alter(no, now_ms, |server| {
            let index = server.log.write(super::log::Payload::Rows(vec![row]), now_ms);
            server.log.commit(index);
        });
    }

    /// A row that is in no binlog: the applier will stumble over it when its source writes the same.
    pub fn write_unlogged(&mut self, no: ServerNo, row: u64, now_ms: u64) {
        self.alter(no, now_ms, |server| server.log.write_unlogged(row));
    }

    /// Somebody stops threads by hand, on every channel.
    pub fn stop_threads(&mut self, no: ServerNo, thread: Thread, now_ms: u64) {
        self.each_channel(no, now_ms, |server, name| drop(server.stop_replica(name, thread, None, now_ms)));
    }

    /// Somebody starts threads by hand, on every channel.
    pub fn start_threads(&mut self, no: ServerNo, thread: Thread, now_ms: u64) {
        self.each_channel(no, now_ms, |server, name| drop(server.start_replica(name, thread, now_ms)));
    }

    /// Somebody sets the semi-sync time-out.
    pub fn set_semi_sync_timeout(&mut self, no: ServerNo, timeout_ms: u64, now_ms: u64) {
        self.alter(no, now_ms, |server| server.semi.source.timeout_ms = timeout_ms);
    }

    /// Somebody makes a running replica acknowledge: the switch, and its receiver anew.
    pub fn let_acknowledge(&mut self, no: ServerNo, now_ms: u64) {
        self.alter(no, now_ms, |server| server.semi.replica_enabled = true);
        self.stop_threads(no, Thread::Receiver, now_ms);
        self.start_threads(no, Thread::Receiver, now_ms);
    }

    /// Whether a replica's word to a server has waited since then to be sent again: after a cut that may take two minutes.
    pub fn was_word_held_up(&self, source: ServerNo, since_ms: u64) -> bool {
        self.streams.iter().any(|stream| stream.was_word_held_up(source, since_ms))
    }

    /// Somebody sets `read_only` by hand; nothing is waited for.
    pub fn set_read_only(&mut self, no: ServerNo, on: bool, now_ms: u64) {
        self.alter(no, now_ms, |server| {
            server.switches.read_only = on;
            server.switches.super_read_only = on && server.flavor() == quorate::model::server::Flavor::MySql;
        });
    }

    /// Binlog files are purged.
    pub fn purge_binlogs(&mut self, no: ServerNo, now_ms: u64) {
        self.alter(no, now_ms, |server| server.log.purge());
    }

    fn each_channel(&mut self, no: ServerNo, now_ms: u64, act: impl Fn(&mut SimServer, &str)) {
        self.alter(no, now_ms, |server| {
            let names: Vec<String> = server.channels.iter().map(|channel| channel.name.clone()).collect();
            names.iter().for_each(|name| act(server, name));
        });
    }

    fn alter(&mut self, no: ServerNo, now_ms: u64, alter: impl FnOnce(&mut SimServer)) {
        self.pass(now_ms);
        alter(&mut self.servers[no.0]);
        self.changed(no);
    }

    fn changed(&mut self, no: ServerNo) {
        self.servers[no.0].facts_stale = true;
        self.reflow = true;
        self.due(Item::Server(no));
        self.look_at_streams_of(no);
    }

    fn settle_flows(&mut self) {
        for server in &mut self.servers {
            let running = server.channels.iter_mut().filter(|c| matches!(c.receiver, Receiver::Running(_)));
            running.for_each(|channel| channel.flow.settle(self.now_ms));
        }
    }
}
