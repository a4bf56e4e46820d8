//! Semi-sync: the source's count of acknowledgements, its time-out, and who is released when. A commit is in the
//! binlog before it waits (AFTER_SYNC): a crash in between leaves it on the old source.

use quorate::model::server::Flavor;

use super::{
    server::SimServer,
    session::Wait,
    spec::{Config, SemiSyncSource},
};

/// Both sides.
#[derive(Debug, Clone, Default)]
pub struct SemiSync {
    /// Source side switched on.
    pub source_enabled: bool,
    /// Source side in effect; off after a time-out, until a replica has caught up.
    pub source_on: bool,
    /// Its values.
    pub source: SemiSyncSource,
    /// Replica side switched on.
    pub replica_enabled: bool,
    /// Replica side in effect.
    pub replica_on: bool,
}

impl SemiSync {
    /// As after a start.
    pub fn configured(config: &Config) -> Self {
        let on = config.semi_sync_source.is_some();
        Self {
            source_enabled: on,
            source_on: on,
            source: config.semi_sync_source.unwrap_or_default(),
            replica_enabled: config.semi_sync_replica,
            replica_on: false,
        }
    }
}

impl SimServer {
    /// Ackers connected now.
    pub fn semi_sync_clients(&self) -> u32 {
        self.dumps.iter().filter(|dump| dump.semi_sync).count() as u32
    }

    /// Commits that wait, as the status variable counts them: MySQL counts the first of a queue only.
    pub fn waiting_commits(&self) -> u32 {
        let waiting =
            self.sessions.values().filter(|s| matches!(s.wait(), Some(Wait::Ack(..)))).count() as u32;
        match self.flavor() {
            Flavor::MySql => waiting.min(1),
            Flavor::MariaDb => waiting,
        }
    }

    /// Whether enough replicas have acknowledged everything up to and with this entry.
    pub(super) fn is_acknowledged(&self, index: usize) -> bool {
        let acks = self.dumps.iter().filter(|dump| dump.semi_sync && dump.acked > index).count();
        acks >= self.acks_needed()
    }

    fn acks_needed(&self) -> usize {
        match self.flavor() {
            Flavor::MySql => self.semi.source.wait_for.max(1) as usize,
            Flavor::MariaDb => 1,
        }
    }

    /// Switches the source side. Off tells every waiting client that its commit is safe (measured on MySQL 9.7).
    pub(super) fn switch_semi_sync_source(&mut self, on: bool) {
        self.semi.source_enabled = on;
        self.semi.source_on = on;
        self.leave_if_too_few();
        self.facts_stale = true;
    }

    /// Without `wait_no_replica` the source goes on alone as soon as too few are connected.
    pub(super) fn leave_if_too_few(&mut self) {
        let few = (self.semi_sync_clients() as usize) < self.acks_needed();
        if self.semi.source_on && few && !self.semi.source.wait_no_replica {
            self.semi.source_on = false;
            self.facts_stale = true;
        }
    }

    /// An acknowledgement arrived. A source that had given up waiting goes back when a replica has all of its binlog.
    pub(super) fn acknowledged(&mut self, stream: u64, until: usize) {
        let Some(dump) = self.dumps.iter_mut().find(|dump| dump.stream == stream) else { return };
        dump.acked = dump.acked.max(until);
        let all = self.log.entries().len();
        if self.semi.source_enabled && !self.semi.source_on && all > 0 && self.is_acknowledged(all - 1) {
            self.semi.source_on = true;
            self.facts_stale = true;
        }
    }

    /// A commit waited its time: semi-sync is off, and everybody is told that his commit is safe.
    pub(super) fn semi_sync_times_out(&mut self, now_ms: u64) {
        let timeout = self.semi.source.timeout_ms;
        if !self.semi.source_on || timeout > now_ms {
            return;
        }
        let over = self.sessions.values().any(|session| {
            matches!(session.wait(), Some(Wait::Ack(_, since)) if since.saturating_add(timeout) <= now_ms)
        });
        if over {
            self.semi.source_on = false;
            self.facts_stale = true;
        }
    }
}
