//! What a node of the model log keeps over a restart: term, vote, log, snapshot, membership.

use std::{collections::BTreeMap, sync::Arc};

use quorate::core::replicated::Command;

/// Voters with the incarnation each is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Voters.
    pub voters: BTreeMap<u64, Arc<str>>,
}

impl Config {
    /// The voters as the product names them.
    pub fn named(&self) -> BTreeMap<u64, String> {
        self.voters.iter().map(|(id, incarnation)| (*id, incarnation.to_string())).collect()
    }
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Nothing: a new leader's first.
    Blank,
    /// Who votes.
    Config(Config),
    /// A command.
    Command(Command),
}

/// One entry.
#[derive(Debug, PartialEq)]
pub struct Entry {
    /// Term of the leader that made it.
    pub term: u64,
    /// What it carries.
    pub load: Load,
}

/// A state as of an index.
#[derive(Debug)]
pub struct Snapshot {
    /// Last index in it.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Membership as of it.
    pub config: Config,
    /// The state, as the product encodes it.
    pub bytes: Vec<u8>,
}

/// Entries from `base` on; what is below is in the snapshot.
#[derive(Debug, Default)]
pub struct EntryLog {
    base: u64,
    base_term: u64,
    entries: Vec<Arc<Entry>>,
}

impl EntryLog {
    /// Index and term of the last.
    pub fn last(&self) -> (u64, u64) {
        let index = self.base + self.entries.len() as u64;
        (index, self.entries.last().map_or(self.base_term, |entry| entry.term))
    }

    /// Index below which nothing is held.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Term of an index, where it is known.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        match index {
            _ if index == self.base => Some(self.base_term),
            _ => self.get(index).map(|entry| entry.term),
        }
    }

    /// An entry.
    pub fn get(&self, index: u64) -> Option<&Arc<Entry>> {
        self.entries.get(index.checked_sub(self.base + 1)? as usize)
    }

    /// Up to `most` entries from `index` on.
    pub fn from(&self, index: u64, most: usize) -> Vec<Arc<Entry>> {
        let skip = (index - self.base - 1) as usize;
        self.entries.iter().skip(skip).take(most).cloned().collect()
    }

    /// Adds one.
    pub fn push(&mut self, entry: Arc<Entry>) -> u64 {
        self.entries.push(entry);
        self.last().0
    }

    /// Drops `index` and all after it.
    pub fn truncate(&mut self, index: u64) {
        self.entries.truncate((index - self.base - 1) as usize);
    }

    /// Drops everything up to `index`.
    pub fn compact(&mut self, index: u64) {
        let term = self.term_at(index).expect("compacted where it is held");
        self.entries.drain(..(index - self.base) as usize);
        (self.base, self.base_term) = (index, term);
    }

    /// Begins anew behind a snapshot.
    pub fn reset(&mut self, index: u64, term: u64) {
        (self.base, self.base_term) = (index, term);
        self.entries.clear();
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Disk {
    /// Newest term seen.
    pub term: u64,
    /// Who has its vote in that term.
    pub voted: Option<u64>,
    /// The log.
    pub log: EntryLog,
    /// The newest snapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Memberships in the log and the snapshot, by index.
    pub configs: Vec<(u64, Config)>,
}

impl Disk {
    /// The newest membership in the log, committed or not.
    pub fn config(&self) -> &Config {
        static NOBODY: Config = Config { voters: BTreeMap::new() };
        self.configs.last().map_or(&NOBODY, |(_, config)| config)
    }

    /// The membership as of an index.
    pub fn config_at(&self, index: u64) -> Config {
        self.configs.iter().rev().find(|(at, _)| *at <= index).map(|(_, c)| c.clone()).unwrap_or_default()
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Arc<Entry>) -> u64 {
        let index = self.log.push(entry.clone());
        if let Load::Config(config) = &entry.load {
            self.configs.push((index, config.clone()));
        }
        index
    }

    /// Drops `index` and all after it.
    pub fn truncate(&mut self, index: u64) {
        self.log.truncate(index);
        self.configs.retain(|(at, _)| *at < index);
    }

    /// Takes a snapshot in. Where the log holds its last entry, what follows that stays: this node has acknowledged it, and its
    /// leader sends nothing again that was acknowledged.
    pub fn begin_behind(&mut self, snapshot: Arc<Snapshot>) {
        let index = snapshot.index;
        match self.log.term_at(index) == Some(snapshot.term) {
            true => self.log.compact(index),
            false => self.log.reset(index, snapshot.term),
        }
        let last = self.log.last().0;
        self.configs.retain(|(at, _)| *at > index && *at <= last);
        self.configs.insert(0, (index, snapshot.config.clone()));
        self.snapshot = Some(snapshot);
    }
}
