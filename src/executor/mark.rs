//! The mark on executor sessions: a user-level lock, released by the server when the session has really ended. Works
//! with performance_schema off, over any number of nodes, and for sessions whose client is long gone.

use crate::session::{ResultSet, literal};

/// Lock names for one group. A lock name has 64 characters at most (MySQL 8.4 manual, 14.14).
#[derive(Debug, Clone)]
pub(super) struct Marks {
    prefix: String,
}

const GROUP_MAX: usize = 32;

impl Marks {
    pub(super) fn new(group: &str) -> Self {
        let short: String = group.chars().take(GROUP_MAX).collect();
        let prefix = match short.len() == group.len() && group.is_ascii() {
            true => format!("quorate/exec/{group}/"),
            false => format!("quorate/exec/{:08x}/", crc32fast::hash(group.as_bytes())),
        };
        Self { prefix }
    }

    /// Name of a node's mark.
    pub(super) fn of(&self, node: u64) -> String {
        format!("{}{node}", self.prefix)
    }

    /// Takes a node's mark for the session it runs on, or tells who holds it; waits for nothing.
    pub(super) fn take(&self, node: u64) -> String {
        let mark = literal(&self.of(node));
        format!("SELECT GET_LOCK({mark},0) AS got, IFNULL(IS_USED_LOCK({mark}),0) AS holder")
    }
}

/// Who holds the mark, when it was not taken; 0 where the holder ended just then.
pub(super) fn holder(sets: &[ResultSet]) -> Option<u64> {
    let row = sets.first().and_then(ResultSet::first)?;
    match row.switch("got") {
        Some(true) => None,
        _ => row.number("holder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_fits_a_lock_name() {
        assert_eq!(Marks::new("demo").of(3), "quorate/exec/demo/3");
        for group in ["x".repeat(200), "ä".repeat(30)] {
            assert!(Marks::new(&group).of(u64::MAX).chars().count() <= 64);
        }
    }
}
