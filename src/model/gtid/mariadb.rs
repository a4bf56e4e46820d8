//! MariaDB GTIDs, `domain-server-sequence`: the last sequence number per (domain, server_id), which is what
//! `gtid_binlog_state` holds. A position (`gtid_slave_pos`, `Gtid_IO_Pos`) is the same with one server a domain.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::GtidError;
use crate::model::{server::Flavor, words::tame};

/// Last sequence number per (domain, server_id). Containment and loss are judged per pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MariaDbGtids {
    last: BTreeMap<(u32, u32), u64>,
}

impl MariaDbGtids {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether, for each pair of `other`, this one has got at least as far.
    pub fn contains(&self, other: &Self) -> bool {
        other.last.iter().all(|(pair, sequence)| self.last.get(pair).is_some_and(|mine| mine >= sequence))
    }

    /// The pairs in which this one has got further than `other`, at this one's numbers.
    pub fn subtract(&self, other: &Self) -> Self {
        let further =
            |(pair, sequence): &(&(u32, u32), &u64)| other.last.get(pair).is_none_or(|o| o < sequence);
        Self { last: self.last.iter().filter(further).map(|(p, s)| (*p, *s)).collect() }
    }

    /// Takes the further of both, pair by pair.
    pub fn merge(&mut self, other: &Self) {
        for (pair, sequence) in &other.last {
            let mine = self.last.entry(*pair).or_default();
            *mine = (*mine).max(*sequence);
        }
    }

    /// How far this one is behind `other`, in sequence numbers, all pairs together: as many transactions at most, since
    /// the numbers may have gaps.
    pub fn lacks(&self, other: &Self) -> u64 {
        let behind = |(pair, theirs): (&(u32, u32), &u64)| {
            theirs.saturating_sub(self.last.get(pair).copied().unwrap_or(0))
        };
        other.last.iter().map(behind).fold(0, u64::saturating_add)
    }

    /// Pair by pair, the less far of both.
    pub fn meet(&self, other: &Self) -> Self {
        let less = |(pair, mine): (&(u32, u32), &u64)| Some((*pair, *mine.min(other.last.get(pair)?)));
        Self { last: self.last.iter().filter_map(less).collect() }
    }

    /// The part that one server wrote.
    pub fn of_server(&self, server_id: u32) -> Self {
        Self { last: self.last.iter().filter(|((_, s), _)| *s == server_id).map(|(p, q)| (*p, *q)).collect() }
    }

    /// The pairs that are in `other` too.
    pub fn of_pairs_in(&self, other: &Self) -> Self {
        let kept = self.last.iter().filter(|(pair, _)| other.last.contains_key(pair));
        Self { last: kept.map(|(p, s)| (*p, *s)).collect() }
    }

    /// Those whose sequence numbers are above all of `place` in their domain, of domains that it knows.
    pub fn ahead_of(&self, place: &Self) -> Self {
        let highest = |domain: u32| {
            place.last.iter().filter(|((d, _), _)| *d == domain).map(|(_, sequence)| *sequence).max()
        };
        let ahead = |((domain, _), sequence): &(&(u32, u32), &u64)| {
            highest(*domain).is_some_and(|highest| **sequence > highest)
        };
        Self { last: self.last.iter().filter(ahead).map(|(pair, sequence)| (*pair, *sequence)).collect() }
    }

    /// Those whose sequence numbers are not above the highest of `place` in their domain.
    pub fn passed_at(&self, place: &Self) -> Self {
        let highest: BTreeMap<u32, u64> =
            place.position().last.iter().map(|((domain, _), sequence)| (*domain, *sequence)).collect();
        let passed = |((domain, _), sequence): &(&(u32, u32), &u64)| {
            highest.get(domain).is_some_and(|highest| *sequence <= highest)
        };
        Self { last: self.last.iter().filter(passed).map(|(pair, sequence)| (*pair, *sequence)).collect() }
    }

    /// The highest sequence number of each domain with the server that wrote it: a position for `gtid_slave_pos`.
    pub fn position(&self) -> Self {
        let mut by_domain: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        for (&(domain, server), &sequence) in &self.last {
            let newest = by_domain.entry(domain).or_insert((sequence, server));
            *newest = (*newest).max((sequence, server));
        }
        Self { last: by_domain.into_iter().map(|(d, (seq, server))| ((d, server), seq)).collect() }
    }
}

fn fail(text: &str, why: &str) -> GtidError {
    GtidError { flavor: Flavor::MariaDb, text: tame(text, 80), why: why.to_owned() }
}

impl FromStr for MariaDbGtids {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let parts: Vec<&str> = item.split('-').collect();
            let [domain, server, sequence] = parts[..] else {
                return Err(fail(item, "not three numbers joined by `-`"));
            };
            let small =
                |part: &str| part.parse::<u32>().map_err(|_| fail(item, "domain or server_id too large"));
            let sequence: u64 = sequence.parse().map_err(|_| fail(item, "the sequence is not a number"))?;
            let last = set.last.entry((small(domain)?, small(server)?)).or_default();
            *last = (*last).max(sequence);
        }
        Ok(set)
    }
}

impl fmt::Display for MariaDbGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ((domain, server), sequence)) in self.last.iter().enumerate() {
            write!(f, "{}{domain}-{server}-{sequence}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for MariaDbGtids {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MariaDbGtids {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
