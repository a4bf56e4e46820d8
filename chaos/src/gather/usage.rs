//! How much memory and disk the nodes use, looked at while they run: a node that is killed takes its peak along.

use crate::{check::evidence::Usage, group::Group, node::Node, process::status_number};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// A running meter. Dropping it ends it.
pub struct Meter {
    peaks: Arc<Mutex<BTreeMap<u64, Usage>>>,
    task: JoinHandle<()>,
}

impl Meter {
    /// Starts looking.
    pub fn start(group: &Group) -> Meter {
        let peaks: Arc<Mutex<BTreeMap<u64, Usage>>> = Arc::default();
        let (nodes, shared) = (group.nodes.clone(), peaks.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                for node in &nodes {
                    note(node, &shared);
                }
            }
        });
        Meter { peaks, task }
    }

    /// The most that each node was seen to use.
    pub fn peaks(&self) -> BTreeMap<u64, Usage> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(node: &Node, peaks: &Mutex<BTreeMap<u64, Usage>>) {
    let Some(process) = node.process().filter(|p| !p.ended()) else { return };
    let rss_kib = status_number(&format!("/proc/{}/status", process.pid()), "VmHWM").unwrap_or(0.0) as u64;
    let disk_kib = size(&node.data_dir()) / 1024;
    let mut peaks = peaks.lock().unwrap_or_else(PoisonError::into_inner);
    let peak = peaks.entry(node.id).or_default();
    *peak = Usage { rss_kib: peak.rss_kib.max(rss_kib), disk_kib: peak.disk_kib.max(disk_kib) };
}

/// Bytes in files below a directory; what is gone meanwhile counts nothing.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
