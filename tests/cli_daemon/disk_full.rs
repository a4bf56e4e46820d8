//! A disk that is full, or fills up under a running node: a real file system of a few megabytes.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::geteuid;

use crate::node::{Group, Node, quorate, until};

/// A file system in memory; unmounted with its value.
struct Disk(PathBuf);

impl Disk {
    /// `None` without root, and says so.
    fn mount(at: &Path, mebibytes: u64) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: a full disk needs root (to mount a small file system)");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "quorate-test"]).arg(at).output();
        let done = done.unwrap();
        if !done.status.success() {
            eprintln!("skipped: no file system can be mounted: {}", String::from_utf8_lossy(&done.stderr));
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn free(&self) -> u64 {
        let figures = rustix::fs::statvfs(&self.0).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Writes zeros until only `leave` bytes are free.
    fn fill(&self, leave: u64) {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        let page = vec![0; 4096];
        while self.free() > leave {
            let end = file.metadata().unwrap().len();
            if file.write_all_at(&page, end).is_err() {
                return;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_node_does_not_start_without_room() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(1, folder.path(), "plaintext = true");
    let data = node.folder.join("data");
    let Some(_disk) = Disk::mount(&data, 48) else { return };
    let ran = quorate(&["serve", "--config", &node.config()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for word in [data.to_str().unwrap(), "bytes free", "at least 67108864", "free some space"] {
        assert!(ran.err.contains(word), "{} lacks {word}", ran.err);
    }
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing half done");
}

/// Three nodes, node 1 of which lives on a small disk and leads.
fn on_a_small_disk() -> Option<(Group, Disk)> {
    let disk = RefCell::default();
    let group = Group::prepared(3, None, |node| {
        if node.id == 1 {
            disk.replace(Disk::mount(&node.folder.join("data"), 100));
        }
    });
    let disk = disk.take()?;
    group.init();
    lead(&group, 1);
    Some((group, disk))
}

fn lead(group: &Group, n: usize) {
    until("the office is handed over", || {
        group.at(2, &["nodes", "transfer-leader", &n.to_string()]);
        group.leader() == Some(n)
    });
}

#[test]
fn a_leader_whose_disk_fills_up_hands_over_first() {
    let Some((group, disk)) = on_a_small_disk() else { return };
    disk.fill(24 << 20);
    until("another leads", || group.leader().is_some_and(|leader| leader != 1));
    until("a change is taken", || group.at(1, &["policy", "set", "lag_s=31"]).code == 0);
    assert!(group.nodes[0].log().contains("free space at the data directory"), "{}", group.nodes[0].log());
    disk.empty();
    lead(&group, 1);
}

#[test]
fn a_node_whose_disk_is_full_stops_and_nothing_acknowledged_is_lost() {
    let Some((mut group, disk)) = on_a_small_disk() else { return };
    // At once: there is no time to hand over.
    disk.fill(0);
    let mut acknowledged = 0;
    let mut written = 10;
    until("node 1 stops, and the others go on", || {
        written += 1;
        if group.at(2, &["policy", "set", &format!("lag_s={written}")]).code == 0 {
            acknowledged = written;
        }
        group.nodes[0].ended().is_some() && acknowledged == written
    });
    let log = group.nodes[0].log();
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(group.nodes[0].ended(), Some(1), "{log}");
    for word in ["data", "space"] {
        assert!(last.contains(word), "the last words lack {word}: {last}");
    }
    let refused = quorate(&["serve", "--config", &group.nodes[0].config()]);
    assert!(refused.code == 1 && refused.err.contains("free some space"), "{}", refused.err);

    disk.empty();
    group.nodes[0].start();
    let value = |group: &Group| group.at(1, &["policy", "get", "lag_s", "--stale"]).out;
    until("node 1 has what was acknowledged", || value(&group).contains(&acknowledged.to_string()));
    // Its own copy counts again.
    group.nodes[1].kill();
    until("nodes 1 and 3 go on", || group.at(3, &["policy", "set", "lag_s=9"]).code == 0);
}
