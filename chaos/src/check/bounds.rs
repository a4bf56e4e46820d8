//! No node outgrows its bound of memory or disk, however it is treated for the minutes of a run.
//!
//! Bounds of a run, not of the product: with the `dev` profile a node that watches one cluster for some minutes has some
//! 45 MiB of resident memory and 0.5 to 1 MiB of data. Well above what noise adds, far below what a leak of a message or an
//! entry for each probe comes to in a longer run.

use super::{Verdict, evidence::Evidence};

/// Most resident memory of a node, KiB.
const RSS_KIB: u64 = 128 * 1024;
/// Most that its data directory may hold, KiB.
const DISK_KIB: u64 = 16 * 1024;

pub fn check(evidence: &Evidence) -> Verdict {
    if evidence.usage.values().all(|usage| usage.rss_kib == 0) {
        return Verdict::unread("no node was measured");
    }
    let mut violations = Vec::new();
    for (node, usage) in &evidence.usage {
        for (what, used, most) in
            [("resident memory", usage.rss_kib, RSS_KIB), ("data", usage.disk_kib, DISK_KIB)]
        {
            if used > most {
                violations.push(format!(
                    "node {node} had {} MiB of {what}; its bound is {} MiB",
                    used / 1024,
                    most / 1024
                ));
            }
        }
    }
    violations.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::Usage;

    #[test]
    fn above_its_bound_a_node_is_named() {
        let with = |node, usage| {
            let mut evidence = Evidence::quiet();
            evidence.usage.insert(node, usage);
            check(&evidence).violations
        };
        assert_eq!(with(2, Usage { rss_kib: RSS_KIB, disk_kib: DISK_KIB }), Vec::<String>::new());
        assert_eq!(with(2, Usage { rss_kib: RSS_KIB + 1, disk_kib: 0 }).len(), 1);
        assert_eq!(with(1, Usage { rss_kib: 1, disk_kib: DISK_KIB + 1 }).len(), 1);
    }

    #[test]
    fn what_was_not_measured_is_no_pass() {
        let mut evidence = Evidence::quiet();
        evidence.usage.clear();
        assert!(check(&evidence).unread.is_some());
    }
}
