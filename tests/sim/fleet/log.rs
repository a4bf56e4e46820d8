//! What a server holds for good: its binlog, the sets that follow from it, and the rows its clients can read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate::model::{gtid::GtidSet, server::Flavor};

use super::spec::ServerSpec;

/// One transaction. Replicas share it.
#[derive(Debug, PartialEq)]
pub struct Txn {
    /// `server_id` of the server that wrote it.
    pub server_id: u32,
    /// Its number among those of that server (MySQL) or of the domain (MariaDB).
    pub sequence: u64,
    /// The set that holds it and nothing else.
    pub gtid: GtidSet,
    /// What it does.
    pub payload: Payload,
    /// When it was written to its first binlog.
    pub at_ms: u64,
}

/// What a transaction changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Client rows.
    Rows(Vec<u64>),
    /// An UPDATE whose result nobody looks at.
    Update,
    /// An account.
    User,
    /// A part of the schema of the proof by a write: the database, then its table.
    Proof(ProofPart),
    /// The proof itself.
    Verified(String, u64),
}

/// A part of the proof's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofPart {
    /// The database.
    Database,
    /// Its table.
    Table,
}

/// A transaction's place in one server's history.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The transaction.
    pub txn: Arc<Txn>,
    /// Whether it stands in this server's binlog.
    pub logged: bool,
    /// When it was written here.
    pub written_ms: u64,
    /// Whether the engine has committed it; one that waits for an acknowledgement is in the binlog and not yet here.
    pub committed: bool,
}

/// Why a transaction could not be applied or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// Error 1062.
    Duplicate(u64),
    /// Error 1950.
    OutOfOrder(String),
}

/// Binlog, sets and rows.
#[derive(Debug, Clone)]
pub struct Log {
    flavor: Flavor,
    server_id: u32,
    uuid: String,
    strict: bool,
    entries: Vec<Entry>,
    /// MySQL: `gtid_executed`. MariaDB: `gtid_binlog_state`.
    executed: GtidSet,
    /// MariaDB: `gtid_slave_pos`.
    slave_pos: GtidSet,
    purged: GtidSet,
    /// Entries whose binlog files are gone.
    first: usize,
    /// MySQL: the last number of its own. MariaDB: the last of the domain.
    sequence: u64,
    rows: BTreeSet<u64>,
    unlogged: BTreeSet<u64>,
    proofs: BTreeMap<String, u64>,
    has_proof_schema: bool,
}

impl Log {
    /// An empty one.
    pub fn new(spec: &ServerSpec) -> Self {
        let none = GtidSet::empty(spec.flavor);
        Self {
            flavor: spec.flavor,
            server_id: spec.server_id,
            uuid: spec.uuid.clone().unwrap_or_default(),
            strict: spec.gtid_strict,
            entries: Vec::new(),
            executed: none.clone(),
            slave_pos: none.clone(),
            purged: none,
            first: 0,
            sequence: 0,
            rows: BTreeSet::new(),
            unlogged: BTreeSet::new(),
            proofs: BTreeMap::new(),
            has_proof_schema: false,
        }
    }

    /// The same on another server, as a restored backup or a clone is.
    pub fn restored_on(&self, spec: &ServerSpec) -> Self {
        Self {
            server_id: spec.server_id,
            uuid: spec.uuid.clone().unwrap_or_default(),
            strict: spec.gtid_strict,
            slave_pos: self.executed_as_read().position(),
            ..self.clone()
        }
    }

    /// Its history.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether one of the last numbers here stands for another transaction there.
    pub fn differs_from(&self, other: &Self) -> bool {
        let theirs = |gtid: &GtidSet| other.entries.iter().rev().find(|entry| entry.txn.gtid == *gtid);
        let differs =
            |entry: &Entry| theirs(&entry.txn.gtid).is_some_and(|it| !Arc::ptr_eq(&it.txn, &entry.txn));
        self.entries.iter().rev().take(32).any(differs)
    }

    /// `gtid_executed`, or `gtid_binlog_state`.
    pub fn executed(&self) -> &GtidSet {
        &self.executed
    }

    /// What the facts call executed.
    pub fn executed_as_read(&self) -> GtidSet {
        let mut all = self.executed.clone();
        all.merge(&self.slave_pos);
        all
    }

    /// `gtid_slave_pos` (MariaDB).
    pub fn slave_pos(&self) -> &GtidSet {
        &self.slave_pos
    }

    /// `gtid_purged`.
    pub fn purged(&self) -> &GtidSet {
        &self.purged
    }

    /// Entries before this one are in no binlog file any more.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Rows that a reader finds.
    pub fn rows(&self) -> &BTreeSet<u64> {
        &self.rows
    }

    /// The epoch that the proof of this recovery names.
    pub fn proof(&self, recovery: &str) -> Option<u64> {
        self.proofs.get(recovery).copied()
    }

    /// Whether the proof's table is there.
    pub fn has_proof_schema(&self) -> bool {
        self.has_proof_schema
    }

    /// Whether a row is there, or is being committed.
    pub fn holds(&self, row: u64) -> bool {
        self.rows.contains(&row)
            || self
                .entries
                .iter()
                .rev()
                .take_while(|entry| !entry.committed)
                .any(|entry| matches!(&entry.txn.payload, Payload::Rows(rows) if rows.contains(&row)))
    }

    /// Writes a transaction of this server's own to the binlog. It is not committed yet.
    pub fn write(&mut self, payload: Payload, at_ms: u64) -> usize {
        self.sequence += 1;
        let gtid = self.single(self.server_id, self.sequence);
        let txn = Txn { server_id: self.server_id, sequence: self.sequence, gtid, payload, at_ms };
        if self.flavor == Flavor::MariaDb {
            // The binlog's state changes with the binlog; MySQL's gtid_executed with the engine.
            self.executed.merge(&txn.gtid);
        }
        self.entries.push(Entry { txn: Arc::new(txn), logged: true, written_ms: at_ms, committed: false });
        self.entries.len() - 1
    }

    fn single(&self, server_id: u32, sequence: u64) -> GtidSet {
        let text = match self.flavor {
            Flavor::MySql => format!("{}:{sequence}", self.uuid),
            Flavor::MariaDb => format!("0-{server_id}-{sequence}"),
        };
        GtidSet::parse(self.flavor, &text).expect("made of numbers")
    }

    /// The engine commits an entry: readers find its rows.
    pub fn commit(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if entry.committed {
            return;
        }
        entry.committed = true;
        let txn = entry.txn.clone();
        self.executed.merge(&txn.gtid);
        self.take(&txn.payload);
    }

    fn take(&mut self, payload: &Payload) {
        match payload {
            Payload::Rows(rows) => self.rows.extend(rows),
            Payload::Proof(part) => self.has_proof_schema |= *part == ProofPart::Table,
            Payload::Verified(recovery, epoch) => {
                self.has_proof_schema = true;
                self.proofs.insert(recovery.clone(), *epoch);
            }
            Payload::Update | Payload::User => {}
        }
    }

    /// The applier commits a transaction of another server.
    pub fn apply(&mut self, txn: &Arc<Txn>, logged: bool, now_ms: u64) -> Result<(), Conflict> {
        if self.flavor == Flavor::MySql && self.executed.contains(&txn.gtid) {
            return Ok(());
        }
        if let Payload::Rows(rows) = &txn.payload
            && let Some(row) = rows.iter().find(|row| self.rows.contains(row))
        {
            return Err(Conflict::Duplicate(*row));
        }
        if self.flavor == Flavor::MariaDb {
            if self.strict && logged && self.sequence >= txn.sequence {
                return Err(Conflict::OutOfOrder(txn.gtid.to_string()));
            }
            self.sequence = self.sequence.max(txn.sequence);
            self.raise_slave_pos(&txn.gtid);
        }
        if self.flavor == Flavor::MySql || logged {
            self.executed.merge(&txn.gtid);
        }
        self.take(&txn.payload);
        self.entries.push(Entry { txn: txn.clone(), logged, written_ms: now_ms, committed: true });
        Ok(())
    }

    fn raise_slave_pos(&mut self, gtid: &GtidSet) {
        // One position a domain, and there is one domain.
        self.slave_pos = gtid.clone();
    }

    /// `SET GLOBAL gtid_slave_pos`; the error's text when it conflicts with the binlog.
    pub fn set_slave_pos(&mut self, position: &str) -> Result<(), String> {
        let set = GtidSet::parse(self.flavor, position).map_err(|error| error.to_string())?;
        let newest = self.entries.iter().rev().find(|entry| entry.logged).map(|entry| entry.txn.clone());
        if let Some(own) = newest.filter(|txn| self.strict && txn.server_id == self.server_id)
            && sequence_of(&set).is_none_or(|sequence| sequence < own.sequence)
        {
            return Err(format!(
                "Specified GTID {position} conflicts with the binary log which contains a more recent GTID {}",
                own.gtid
            ));
        }
        self.sequence = self.sequence.max(sequence_of(&set).unwrap_or(0));
        self.slave_pos = set;
        Ok(())
    }

    /// A row that no binlog sees.
    pub fn write_unlogged(&mut self, row: u64) {
        self.unlogged.insert(row);
        self.rows.insert(row);
    }

    /// A power failure takes what was written after `since_ms`.
    pub fn lose_after(&mut self, since_ms: u64) {
        let kept = self.entries.partition_point(|entry| entry.written_ms <= since_ms);
        self.entries.truncate(kept.max(self.first));
        self.rebuild();
        if self.flavor == Flavor::MariaDb {
            let foreign = self.entries.iter().rev().find(|entry| entry.txn.server_id != self.server_id);
            self.slave_pos = foreign.map_or_else(|| GtidSet::empty(self.flavor), |e| e.txn.gtid.clone());
        }
    }

    /// Binlog files before now are thrown away.
    pub fn purge(&mut self) {
        self.first = self.entries.len();
        self.purged = self.executed.clone();
    }

    /// The process starts anew: what is in the binlog is committed.
    pub fn recover(&mut self) {
        for index in 0..self.entries.len() {
            self.commit(index);
        }
    }

    /// Sets and rows from the history alone.
    fn rebuild(&mut self) {
        self.executed = self.purged.clone();
        self.sequence = 0;
        self.rows = self.unlogged.clone();
        self.proofs.clear();
        self.has_proof_schema = false;
        for Entry { txn, logged, .. } in self.entries.clone() {
            if self.flavor == Flavor::MySql || logged {
                self.executed.merge(&txn.gtid);
            }
            if self.flavor == Flavor::MariaDb || txn.server_id == self.server_id {
                self.sequence = self.sequence.max(txn.sequence);
            }
            self.take(&txn.payload);
        }
    }

    /// Where a stream to a replica that has `known` begins, or the source's fatal words.
    pub fn start_of(&self, known: &GtidSet) -> Result<usize, String> {
        match self.flavor {
            Flavor::MySql => self.start_of_mysql(known),
            Flavor::MariaDb => self.start_of_mariadb(known),
        }
    }

    fn start_of_mysql(&self, known: &GtidSet) -> Result<usize, String> {
        let GtidSet::MySql(theirs) = known else { return Ok(0) };
        let own = GtidSet::MySql(theirs.of_source(&self.uuid));
        // In the binlog and not committed yet counts as had.
        let mut has = self.executed.clone();
        self.entries.iter().filter(|e| !e.committed).for_each(|e| has.merge(&e.txn.gtid));
        if !has.contains(&own) {
            return Err(
                "Got fatal error 1236 from source when reading data from binary log: 'Replica has more \
                        GTIDs than the source has, using the source's SERVER_UUID.'"
                    .to_owned(),
            );
        }
        let unlogged = self.entries[self.first..].iter().filter(|entry| !entry.logged);
        let lost =
            !known.contains(&self.purged) || unlogged.into_iter().any(|e| !known.contains(&e.txn.gtid));
        if lost {
            return Err(
                "Got fatal error 1236 from source when reading data from binary log: 'Cannot replicate \
                        because the source purged required binary logs.'"
                    .to_owned(),
            );
        }
        let missing = |entry: &Entry| entry.logged && !known.contains(&entry.txn.gtid);
        let from = self.entries[self.first..].iter().position(missing);
        Ok(from.map_or(self.entries.len(), |at| self.first + at))
    }

    fn start_of_mariadb(&self, known: &GtidSet) -> Result<usize, String> {
        if known.is_empty() {
            return match self.first {
                0 => Ok(0),
                _ => Err(fatal(
                    "Could not find GTID state requested by slave in any binlog files. Probably the \
                                slave state is too old and required binlog files have been purged.",
                )),
            };
        }
        let at = self.entries.iter().rposition(|entry| entry.logged && entry.txn.gtid == *known);
        match at {
            Some(at) if at + 1 >= self.first => Ok(at + 1),
            Some(_) => Err(fatal("the requested position was purged")),
            // Nothing of that domain: it may come later.
            None if self.executed.is_empty() => Ok(self.entries.len()),
            None => Err(fatal(&format!(
                "Error: connecting slave requested to start from GTID {known}, which is not in the master's binlog"
            ))),
        }
    }
}

fn fatal(words: &str) -> String {
    format!("Got fatal error 1236 from master when reading data from binary log: '{words}'")
}

/// The highest sequence number in a MariaDB position of one domain.
fn sequence_of(set: &GtidSet) -> Option<u64> {
    let text = set.position().to_string();
    text.rsplit('-').next()?.parse().ok()
}
