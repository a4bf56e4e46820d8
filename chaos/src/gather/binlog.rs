//! A server's binlog files: which rows of the clients' table did it write itself, and when?
//!
//! Read from the files, so that a dead server testifies too. Of the format only what is needed (both flavours' manuals,
//! "Binary Log Event Structure"): the header of each event, MySQL's commit time in its GTID event, the table of row events,
//! and inserted rows of two BIGINT columns. A file whose end was cut off by a kill is read up to there.

use crate::check::evidence::Commit;
use std::collections::BTreeMap;

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const HEADER: usize = 19;
const CHECKSUM: usize = 4;

const FORMAT_DESCRIPTION: u8 = 15;
const TABLE_MAP: u8 = 19;
const WRITE_ROWS_V1: u8 = 23;
const WRITE_ROWS_V2: u8 = 30;
const MYSQL_GTID: u8 = 33;

/// Where the immediate commit time stands in MySQL's GTID event: behind flags, UUID, number, and the three logical clocks.
const COMMIT_TIME: usize = 1 + 16 + 8 + 1 + 8 + 8;

/// The rows that the server of that `server_id` wrote itself, under its `number`.
pub fn commits(file: &[u8], server_id: u32, number: usize) -> Vec<Commit> {
    let Some(mut rest) = file.strip_prefix(&MAGIC) else { return Vec::new() };
    let mut reading =
        Reading { number, checksum: 0, tables: BTreeMap::new(), commit_ms: None, found: Vec::new() };
    while let Some(size) = number_at(rest, 9, 4).map(|size| size as usize).filter(|size| *size >= HEADER) {
        let Some(event) = rest.get(..size) else { break };
        rest = &rest[size..];
        let (kind, from) = (event[4], number_at(event, 5, 4));
        if kind == FORMAT_DESCRIPTION {
            // Its last five bytes: the algorithm, and its own checksum.
            reading.checksum = if event[size - 1 - CHECKSUM] == 1 { CHECKSUM } else { 0 };
            continue;
        }
        let body = &event[HEADER..(size - reading.checksum).max(HEADER)];
        // Nothing of a damaged event is used.
        if from == Some(u64::from(server_id)) {
            let _ = reading.take(kind, body);
        }
    }
    reading.found
}

struct Reading {
    number: usize,
    checksum: usize,
    /// By table id: whether it is the clients' table.
    tables: BTreeMap<u64, bool>,
    /// Of the transaction that is being read.
    commit_ms: Option<f64>,
    found: Vec<Commit>,
}

impl Reading {
    fn take(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            MYSQL_GTID => {
                // The topmost bit tells that the original commit time follows.
                let time = number_at(body, COMMIT_TIME, 7)? & ((1 << 55) - 1);
                self.commit_ms = Some(time as f64 / 1000.0);
            }
            TABLE_MAP => {
                let name = |at: usize| {
                    let length = usize::from(*body.get(at)?);
                    Some((body.get(at + 1..at + 1 + length)?, at + 2 + length))
                };
                let (database, at) = name(8)?;
                let (table, _) = name(at)?;
                self.tables.insert(number_at(body, 0, 6)?, (database, table) == (b"app", b"writes"));
            }
            WRITE_ROWS_V1 | WRITE_ROWS_V2 if self.tables.get(&number_at(body, 0, 6)?) == Some(&true) => {
                let extra = if kind == WRITE_ROWS_V2 { number_at(body, 8, 2)? as usize } else { 0 };
                // Number of columns (2, in one byte), which of them are present (one byte), then the rows.
                self.rows(body.get(8 + extra + 2..)?);
            }
            _ => {}
        }
        Some(())
    }

    /// Each: one byte that tells which columns are NULL (none), then `id` and `at_ms`.
    fn rows(&mut self, rows: &[u8]) {
        for row in rows.chunks_exact(1 + 8 + 8) {
            let (Some(id), Some(written)) = (number_at(row, 1, 8), number_at(row, 9, 8)) else { continue };
            let at_ms = self.commit_ms.unwrap_or(written as f64);
            self.found.push(Commit { server: self.number, id: id as i64, at_ms });
        }
    }
}

/// A little-endian number.
fn number_at(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three rows of a run's first primary, from the servers themselves.
    const MYSQL: &[u8] = include_bytes!("binlog/mysql-9.7.bin");
    const MARIADB: &[u8] = include_bytes!("binlog/mariadb-10.11.bin");

    #[test]
    fn rows_of_both_flavours_are_read() {
        let rows = |file: &[u8]| -> Vec<(i64, f64)> {
            commits(file, 101, 1).iter().map(|commit| (commit.id, commit.at_ms)).collect()
        };
        // MySQL: the commit, to the microsecond. MariaDB: what the row says.
        let mysql = [(7, 1795345798436.772), (1, 1795345798448.214), (8, 1795345798448.233)];
        let mariadb = [(6, 1795345802765.0), (4, 1795345802765.0), (7, 1795345802767.0)];
        assert_eq!((rows(MYSQL), rows(MARIADB)), (mysql.to_vec(), mariadb.to_vec()));
    }

    #[test]
    fn what_another_server_wrote_or_another_table_holds_does_not_count() {
        for file in [MYSQL, MARIADB] {
            assert_eq!(commits(file, 102, 2), []);
            let mut renamed = file.to_vec();
            for at in 0..renamed.len() {
                // Behind its length in a table map; the text of a statement is not touched.
                if renamed[at..].starts_with(b"\x06writes\0") {
                    renamed[at + 1] = b'W';
                }
            }
            assert_eq!(commits(&renamed, 101, 1), []);
        }
    }

    #[test]
    fn a_file_may_end_anywhere() {
        for file in [MYSQL, MARIADB] {
            let whole = commits(file, 101, 1);
            for length in 0..file.len() {
                let part = commits(&file[..length], 101, 1);
                assert_eq!(part, whole[..part.len()]);
            }
        }
    }
}
