//! The mark on executor sessions: a user-level lock, released by the server when the session has really ended. Works
//! with performance_schema off, over any number of nodes, and for sessions whose client is long gone.

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
