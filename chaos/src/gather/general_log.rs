//! A server's general log: which changing statements did the account `quorate` send, over whose session, and when?
//!
//! MySQL writes a time to the microsecond before each line. MariaDB writes whole seconds, and not before each: there the
//! statement's time lies between two looks of the rig, each of which carries the moment at which it was sent
//! (`Stamp`). A look that was answered before the next one was sent was logged before that.

use crate::{check::evidence::Statement, sql::QUORATE};
use std::collections::BTreeMap;

/// What stands in each of the rig's own looks: `/* rig 1763800000123.456 */`.
const STAMP: &str = "/* rig ";
/// A statement is kept to this length.
const SQL_MAX: usize = 300;

/// Statements that change a server or its data.
const CHANGING: [&str; 20] = [
    "SET GLOBAL",
    "SET PERSIST",
    "SET @@GLOBAL",
    "START SLAVE",
    "START REPLICA",
    "STOP",
    "RESET",
    "CHANGE",
    "KILL",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CREATE",
    "DROP",
    "ALTER",
    "GRANT",
    "FLUSH",
    "PURGE",
    "INSTALL",
];

/// A query with the moment of its sending, by which lines of a general log are dated.
pub fn stamped(query: &str, wall_ms: f64) -> String {
    format!("{query} {STAMP}{wall_ms:.3} */")
}

/// The changing statements of Quorate's account, in the order in which `server` logged them.
pub fn changing(log: &str, server: usize) -> Vec<Statement> {
    let mut reading = Reading { server, ..Reading::default() };
    for (number, line) in log.lines().enumerate() {
        if is_start(line) {
            // Connection ids begin anew: one that was a session of Quorate's may be the replication applier's now.
            reading.ours.clear();
            reading.looks.clear();
        }
        if let Some(entry) = Entry::read(line) {
            reading.take(number, &entry);
        }
    }
    reading.found.into_iter().map(|(_, statement)| statement).collect()
}

/// Whether this is the first line that a server writes when it starts (both flavours: `PROGRAM, Version: ... started with:`).
fn is_start(line: &str) -> bool {
    line.contains(", Version: ") && line.trim_end().ends_with("started with:")
}

/// Whether a single statement changes anything.
pub fn is_changing(statement: &str) -> bool {
    let mut text = statement.trim_start();
    while let Some(rest) = text.strip_prefix("/*") {
        text = rest.split_once("*/").map_or("", |(_, after)| after).trim_start();
    }
    let words: Vec<String> = text.split_whitespace().take(2).map(str::to_uppercase).collect();
    let head = words.join(" ");
    CHANGING
        .iter()
        .any(|c| head == *c || head.starts_with(&format!("{c} ")) || head.starts_with(&format!("{c}.")))
}

/// One line: both flavours write `ID COMMAND<tab>ARGUMENT` after an optional time.
struct Entry<'a> {
    /// MySQL's own time.
    at_ms: Option<f64>,
    thread: u64,
    command: &'a str,
    argument: &'a str,
}

impl<'a> Entry<'a> {
    fn read(line: &'a str) -> Option<Entry<'a>> {
        line.match_indices('\t').find_map(|(tab, _)| {
            let mut words = line[..tab].split_whitespace().rev();
            let command = words.next().filter(|c| ["Connect", "Query", "Execute", "Quit"].contains(c))?;
            let thread = words.next()?.parse().ok()?;
            let at_ms = words.next().and_then(utc_ms);
            Some(Entry { at_ms, thread, command, argument: &line[tab + 1..] })
        })
    }
}

#[derive(Default)]
struct Reading {
    server: usize,
    /// Quorate's connections, and whose executor's they are.
    ours: BTreeMap<u64, Option<u64>>,
    /// By connection of the rig: line and moment of its last look.
    looks: BTreeMap<u64, usize>,
    /// Nothing later in the log came before this.
    floor_ms: f64,
    /// With their line numbers.
    found: Vec<(usize, Statement)>,
    /// Those before this one have an upper bound.
    bounded: usize,
}

impl Reading {
    fn take(&mut self, line: usize, entry: &Entry<'_>) {
        match entry.command {
            "Connect" if entry.argument.starts_with(&format!("{}@", QUORATE.user)) => {
                self.ours.insert(entry.thread, None);
            }
            "Connect" | "Quit" => {
                self.ours.remove(&entry.thread);
                self.looks.remove(&entry.thread);
            }
            _ => match self.ours.contains_key(&entry.thread) {
                true => self.take_ours(line, entry),
                false => self.take_look(line, entry),
            },
        }
    }

    fn take_ours(&mut self, line: usize, entry: &Entry<'_>) {
        if let Some(node) = marked(entry.argument) {
            self.ours.insert(entry.thread, Some(node));
        }
        let parts: Vec<&str> = entry.argument.split(';').filter(|part| is_changing(part)).collect();
        if parts.is_empty() {
            return;
        }
        // Never more of it than up to a password.
        let sql = parts.iter().map(|part| part.trim()).collect::<Vec<_>>().join("; ");
        let sql: String = sql.split("PASSWORD").next().unwrap_or_default().chars().take(SQL_MAX).collect();
        let statement = Statement {
            server: self.server,
            thread: entry.thread,
            node: self.ours.get(&entry.thread).copied().flatten(),
            from_ms: entry.at_ms.unwrap_or(self.floor_ms),
            to_ms: entry.at_ms.unwrap_or(f64::INFINITY),
            sql,
        };
        self.found.push((line, statement));
    }

    fn take_look(&mut self, line: usize, entry: &Entry<'_>) {
        let Some(sent_ms) = stamp(entry.argument) else { return };
        self.floor_ms = self.floor_ms.max(sent_ms);
        let Some(before) = self.looks.insert(entry.thread, line) else { return };
        while let Some((line, statement)) =
            self.found.get_mut(self.bounded).filter(|(line, _)| *line < before)
        {
            debug_assert!(*line < before);
            statement.to_ms = statement.to_ms.min(sent_ms).max(statement.from_ms);
            self.bounded += 1;
        }
    }
}

/// The node that takes its mark by this statement.
fn marked(sql: &str) -> Option<u64> {
    let (_, mark) = sql.split_once("GET_LOCK('quorate/exec/")?;
    let (name, _) = mark.split_once('\'')?;
    name.rsplit('/').next()?.parse().ok()
}

fn stamp(sql: &str) -> Option<f64> {
    let (_, stamp) = sql.split_once(STAMP)?;
    stamp.split(' ').next()?.parse().ok()
}

/// `2026-01-01T00:00:00.000000Z` as Unix milliseconds.
fn utc_ms(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let days = days_since_1970(year, month, day);
    Some(((days as f64 * 24.0 + hour) * 60.0 + minute) * 60_000.0 + second * 1000.0)
}

/// By the proleptic Gregorian calendar, years counted from March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changing_statements_of_our_account_are_found() {
        let mysql = "2026-01-01T00:00:00.000000Z\t   12 Connect\tquorate@127.0.0.1 on  using TCP/IP\n\
                     2026-01-01T00:00:00.000000Z\t   12 Query\tSELECT GET_LOCK('quorate/exec/chaos/3',0) AS got\n\
                     2026-01-01T00:00:00.000000Z\t   12 Query\tSELECT 1\n\
                     2026-01-01T00:00:00.000000Z\t   13 Connect\troot@localhost on  using Socket\n\
                     2026-01-01T00:00:00.000000Z\t   13 Query\tSET GLOBAL read_only=1\n\
                     2026-01-01T00:00:01.500250Z\t   12 Query\t/* q */ SET GLOBAL super_read_only=1\n\
                     2026-01-01T00:00:02.000000Z\t   12 Quit\t\n\
                     2026-01-01T00:00:02.000000Z\t   12 Query\tSTOP REPLICA\n";
        let found = changing(mysql, 2);
        assert_eq!(found.len(), 1);
        let Statement { server, thread, node, from_ms, to_ms, sql } = found[0].clone();
        assert_eq!(
            (server, thread, node, sql.as_str()),
            (2, 12, Some(3), "/* q */ SET GLOBAL super_read_only=1")
        );
        assert_eq!((from_ms, to_ms), (1_767_225_601_500.25, 1_767_225_601_500.25));
    }

    #[test]
    fn mariadb_s_statements_lie_between_looks_of_the_rig() {
        let look = |thread: u64, at: f64| {
            format!("\t\t    {thread:2} Query\t{}\n", stamped("SELECT @@read_only", at))
        };
        let log = "260101  0:00:00\t     7 Connect\tquorate@127.0.0.1 on  using TCP/IP\n".to_owned()
            + &look(9, 100.0)
            + "\t\t     7 Query\tSHOW SLAVE STATUS\n"
            + "\t\t     7 Query\tSET SESSION lock_wait_timeout=1; STOP SLAVE; SELECT 1\n"
            + &look(9, 105.0)
            // Sent before the server was frozen, logged after: it bounds nothing from above.
            + &look(8, 50.0)
            + "\t\t     7 Query\tCHANGE MASTER '' TO MASTER_HOST='h', MASTER_PASSWORD='secret'\n"
            + &look(9, 110.0);
        let found = changing(&log, 1);
        let seen: Vec<_> = found.iter().map(|s| (s.sql.as_str(), s.from_ms, s.to_ms)).collect();
        assert_eq!(seen[0], ("STOP SLAVE", 100.0, 110.0));
        assert_eq!(seen[1], ("CHANGE MASTER '' TO MASTER_HOST='h', MASTER_", 105.0, f64::INFINITY));
    }

    /// Seen on MariaDB: the server was killed and started again, and its applier had the id of a session of before.
    #[test]
    fn a_server_that_is_started_anew_counts_its_connections_anew() {
        let log = "260101  0:00:00\t     7 Connect\tquorate@127.0.0.1 on  using TCP/IP\n\
                   /usr/sbin/mariadbd, Version: 10.11.14-MariaDB-log (Debian 12). started with:\n\
                   Tcp port: 3306  Unix socket: /s\n\
                   Time\t\t    Id Command\tArgument\n\
                   260101  0:00:09\t     7 Query\tCREATE DATABASE IF NOT EXISTS quorate\n";
        assert_eq!(changing(log, 1).len(), 0);
        let without = log.replace("started with:", "");
        assert_eq!(changing(&without, 1).len(), 1, "it is that line which tells");
    }

    #[test]
    fn a_time_is_of_its_day() {
        assert_eq!(utc_ms("1970-01-01T00:00:00.000000Z"), Some(0.0));
        assert_eq!(utc_ms("2000-03-01T12:30:00.5Z"), Some(951_913_800_500.0));
        assert_eq!(utc_ms("260101"), None);
    }
}
