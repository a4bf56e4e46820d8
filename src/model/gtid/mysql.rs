//! MySQL GTID sets: `uuid:1-5:7, uuid:tag:1-3` (tags since 8.3).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::GtidError;
use crate::model::{
    server::Flavor,
    words::{is_uuid, tame},
};

/// Intervals of transaction numbers per source, sorted, disjoint, not adjacent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MySqlGtids {
    /// Key: lower-case uuid, or `uuid:tag`.
    sources: BTreeMap<String, Vec<(u64, u64)>>,
}

impl MySqlGtids {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether every transaction of `other` is here.
    pub fn contains(&self, other: &Self) -> bool {
        let mine = |source: &String| self.sources.get(source).map(Vec::as_slice).unwrap_or_default();
        other.sources.iter().all(|(source, theirs)| covers(mine(source), theirs))
    }

    /// What is here and not in `other`.
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (source, mine) in &self.sources {
            let theirs = other.sources.get(source).map(Vec::as_slice).unwrap_or_default();
            let left = subtract(mine, theirs);
            if !left.is_empty() {
                rest.sources.insert(source.clone(), left);
            }
        }
        rest
    }

    /// Adds every transaction of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (source, theirs) in &other.sources {
            match self.sources.get_mut(source) {
                Some(mine) => join(mine, theirs),
                None => drop(self.sources.insert(source.clone(), theirs.clone())),
            }
        }
    }

    /// Number of transactions.
    pub fn count(&self) -> u64 {
        self.sources.values().flatten().fold(0, |sum, (a, b)| sum.saturating_add(b - a).saturating_add(1))
    }

    /// The part that one source (all its tags) wrote.
    pub fn of_source(&self, uuid: &str) -> Self {
        let uuid = uuid.to_ascii_lowercase();
        let own =
            |key: &str| key == uuid || key.strip_prefix(&uuid).is_some_and(|rest| rest.starts_with(':'));
        Self {
            sources: self
                .sources
                .iter()
                .filter(|(k, _)| own(k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }
}

/// Whether `mine` holds all of `theirs`; both normalised. Goes through each once.
fn covers(mine: &[(u64, u64)], theirs: &[(u64, u64)]) -> bool {
    let mut mine = mine.iter().peekable();
    theirs.iter().all(|&(c, d)| {
        // What ends before this interval ends before every later one.
        while mine.next_if(|(_, b)| *b < c).is_some() {}
        mine.peek().is_some_and(|(a, b)| *a <= c && d <= *b)
    })
}

/// Adds `theirs` to `mine`; both normalised. A set that grows by what follows its end, as most do, is not gone through.
fn join(mine: &mut Vec<(u64, u64)>, theirs: &[(u64, u64)]) {
    if let ([(c, d)], Some((a, b))) = (theirs, mine.last_mut())
        && *a <= *c
        && *c <= b.saturating_add(1)
    {
        *b = (*b).max(*d);
        return;
    }
    mine.extend_from_slice(theirs);
    normalise(mine);
}

/// Sorts and joins overlapping or adjacent intervals.
fn normalise(intervals: &mut Vec<(u64, u64)>) {
    intervals.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for &(a, b) in intervals.iter() {
        match joined.last_mut() {
            Some(last) if a <= last.1.saturating_add(1) => last.1 = last.1.max(b),
            _ => joined.push((a, b)),
        }
    }
    *intervals = joined;
}

/// `mine` without `theirs`; both normalised. Goes through each once: a set may have a million intervals.
fn subtract(mine: &[(u64, u64)], theirs: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut first = 0;
    for &(mut a, b) in mine {
        let mut gone = false;
        // What ends before this interval ends before every later one.
        first += theirs[first..].iter().take_while(|(_, d)| *d < a).count();
        for &(c, d) in &theirs[first..] {
            if c > b {
                break;
            }
            if c > a {
                left.push((a, c - 1));
            }
            if d >= b {
                gone = true;
                break;
            }
            a = d + 1;
        }
        if !gone {
            left.push((a, b));
        }
    }
    left
}

fn fail(text: &str, why: &str) -> GtidError {
    GtidError { flavor: Flavor::MySql, text: tame(text, 80), why: why.to_owned() }
}

/// A tag: a letter or `_`, then letters, digits, `_`; 32 characters at most (MySQL 8.4 manual, 19.1.3.1).
fn is_tag(text: &str) -> bool {
    text.len() <= 32
        && text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn interval(text: &str) -> Result<(u64, u64), GtidError> {
    let number = |part: &str| part.trim().parse::<u64>().map_err(|_| fail(text, "not a transaction number"));
    let (a, b) = match text.split_once('-') {
        Some((a, b)) => (number(a)?, number(b)?),
        None => (number(text)?, number(text)?),
    };
    match a >= 1 && a <= b && b < i64::MAX as u64 {
        true => Ok((a, b)),
        false => Err(fail(text, "an interval runs from 1 or more upwards, below 2^63-1")),
    }
}

impl FromStr for MySqlGtids {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let mut parts = item.split(':').map(str::trim);
            let uuid = parts.next().unwrap_or_default().to_ascii_lowercase();
            if !is_uuid(&uuid) {
                return Err(fail(item, "it does not begin with a server uuid"));
            }
            let mut key = uuid.clone();
            let mut any = false;
            for part in parts {
                if is_tag(part) {
                    key = format!("{uuid}:{}", part.to_ascii_lowercase());
                    continue;
                }
                set.sources.entry(key.clone()).or_default().push(interval(part)?);
                any = true;
            }
            if !any {
                return Err(fail(item, "no transaction numbers after the uuid"));
            }
        }
        set.sources.values_mut().for_each(normalise);
        Ok(set)
    }
}

impl fmt::Display for MySqlGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (source, intervals)) in self.sources.iter().enumerate() {
            write!(f, "{}{source}", if i == 0 { "" } else { "," })?;
            for (a, b) in intervals {
                if a == b { write!(f, ":{a}")? } else { write!(f, ":{a}-{b}")? }
            }
        }
        Ok(())
    }
}

impl Serialize for MySqlGtids {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MySqlGtids {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
