//! Disks of nodes: full, slow, failing, damaged, lost.

use crate::{node::Node, process, record::Outcome, rig_error::rig_failure, stage::Stage, wait};
use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the small file system a node's state is put on: three times what must be free for a node to start.
const SMALL: &str = "size=192m";
/// How much longer a slow sync takes.
const SLOW_SYNC: Duration = Duration::from_millis(200);
const PATIENT: Duration = Duration::from_secs(60);

/// S2: no room is left on the leader's disk. It gives its office up; the dead primary is replaced without it, and it comes
/// back when there is room.
pub async fn full_disk_of_leader(stage: &mut Stage<'_>) -> Result<()> {
    let node = stage.group.node(stage.group.leader().await?);
    let small = SmallDisk::under(stage, &node).await?;
    lead(stage, node.id).await?;
    stage.mark_fault();
    small.fill()?;
    stage.fault_is_in_place();
    stage.say(format!("the disk of node {} is full", node.id));
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.await_recovery(&[1], since).await?;
    small.empty()?;
    if !node.is_running() {
        stage.say(format!("node {} had ended", node.id));
        node.launch(stage.run_dir)?;
    }
    stage.group.wait_ready().await?;
    node.kill().await?;
    small.unmount()?;
    node.launch(stage.run_dir)?;
    stage.group.wait_ready().await
}

/// S3: syncs take long, the leader's or everybody's. The dead primary is replaced all the same.
pub async fn slow_disks(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.node(stage.group.leader().await?);
    let slow = if stage.record.variant == "of all" { stage.group.nodes.clone() } else { vec![leader] };
    for node in &slow {
        node.dials()?.slow_syncs(SLOW_SYNC)?;
    }
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    for node in &slow {
        met(node)?;
        node.dials()?.slow_syncs(Duration::ZERO)?;
    }
    stage.group.wait_ready().await
}

/// S4: the leader's syncs fail, and the primary dies. It promises nothing any more, another replaces the primary, and it comes
/// back when its disk does.
pub async fn failing_disk_of_leader(stage: &mut Stage<'_>) -> Result<()> {
    let node = stage.group.node(stage.group.leader().await?);
    node.dials()?.fail_syncs(true)?;
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1], since).await?;
    met(&node)?;
    node.dials()?.fail_syncs(false)?;
    if node.is_running() {
        stage.record.reason = "the node went on".into();
        node.kill().await?;
    } else {
        stage.record.reason = "the node had ended".into();
    }
    node.launch(stage.run_dir)?;
    stage.group.wait_ready().await
}

/// Looks whether the fault was there: its library counts.
fn met(node: &Node) -> Result<()> {
    match node.dials()?.syncs_met()? {
        0 => Err(rig_failure(format!("no sync of node {} met the fault", node.id))),
        _ => Ok(()),
    }
}

/// S6: a bit of a follower's state flips while it is down. It starts whole, or not at all; the others do its work.
pub async fn damaged_state(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let node = stage.group.node(leader % stage.group.nodes.len() as u64 + 1);
    node.kill().await?;
    let file = victim(&node.data_dir(), &stage.record.variant)?;
    flip(&file)?;
    stage.mark_fault();
    stage.fault_is_in_place();
    stage.say(format!("one bit of {} was flipped", file.display()));
    node.launch(stage.run_dir)?;
    stage.await_nothing(Duration::from_secs(3)).await?;
    stage.record.reason = match node.is_running() {
        true => "the damaged node runs".into(),
        false => "the damaged node refuses to run".into(),
    };
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.await_recovery(&[1], since).await
}

/// S7: all but one voter lose their data directories: there is no majority left that knows anything.
pub async fn majority_wiped(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.leader().await?;
    let others: Vec<u64> = stage.group.nodes.iter().map(|node| node.id).filter(|id| *id != leader).collect();
    for id in others {
        let node = stage.group.node(id);
        node.kill().await?;
        node.wipe()?;
        node.launch(stage.run_dir)?;
    }
    stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    stage.await_nothing(Duration::from_secs(8)).await?;
    super::sent::accuse(stage)?;
    if stage.record.outcome == Outcome::Nothing {
        stage.record.reason = "one true voter was left".into();
    }
    Ok(())
}

/// Makes that node the leader; one who leads already, or whose time it is not, is asked again.
async fn lead(stage: &Stage<'_>, node: u64) -> Result<()> {
    let number = node.to_string();
    wait::every(Duration::from_millis(250), "the node to lead again", PATIENT, async || {
        if stage.group.leader().await.ok()? == node {
            return Some(());
        }
        stage.group.verb(&["nodes", "transfer-leader", &number]).await.ok();
        None
    })
    .await
}

/// A file system of its own for one node's state, so that it alone can be full.
struct SmallDisk {
    /// What the node knows as its directory.
    at: PathBuf,
    /// Where the file system is; the node's directory is one of it, beside what fills it.
    root: PathBuf,
}

impl SmallDisk {
    /// The node is stopped, moved, and started again.
    async fn under(stage: &Stage<'_>, node: &Node) -> Result<SmallDisk> {
        node.kill().await?;
        let at = node.data_dir();
        let root = at.with_extension("small");
        std::fs::create_dir_all(&root)?;
        process::run("mount", &["-t", "tmpfs", "-o", SMALL, "tmpfs", &root.display().to_string()])
            .map_err(|error| rig_failure(format!("a small file system: {error:#}")))?;
        let (from, inside) = (at.display().to_string(), root.join("data").display().to_string());
        process::run("cp", &["-a", &from, &inside])?;
        process::run("mount", &["--bind", &inside, &from])?;
        node.launch(stage.run_dir)?;
        stage.group.wait_ready().await?;
        Ok(SmallDisk { at, root })
    }

    /// Writes until there is no room, and sees that there is none.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.filler())?;
        for size in [1 << 20, 1 << 12, 1] {
            let bytes = vec![0_u8; size];
            loop {
                match file.write(&bytes) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(rig_failure(format!("filling a disk: {error}"))),
                }
            }
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("making room")
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }

    /// The node must not run. Its state goes back to the disk of the others.
    fn unmount(self) -> Result<()> {
        let (at, inside) = (self.at.display().to_string(), self.root.join("data").display().to_string());
        process::run("umount", &[&at])?;
        std::fs::remove_dir_all(&self.at)?;
        process::run("cp", &["-a", &inside, &at])?;
        process::run("umount", &[&self.root.display().to_string()])?;
        Ok(())
    }
}

/// The largest file of the log, or that of the vote.
fn victim(data: &Path, variant: &str) -> Result<PathBuf> {
    let mut files = Vec::new();
    walk(data, &mut files)?;
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (variant == "of its mark") == name.contains("mark")
    };
    files.retain(|(_, path)| wanted(path));
    files.sort();
    files.pop().map(|(_, path)| path).with_context(|| format!("no file {variant} in {}", data.display()))
}

fn walk(dir: &Path, files: &mut Vec<(u64, PathBuf)>) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            walk(&entry.path(), files)?;
        } else if metadata.len() > 0 {
            files.push((metadata.len(), entry.path()));
        }
    }
    Ok(())
}

/// One bit in the middle of what is written there: a file may have been made longer than its content.
fn flip(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).context("an empty file")?;
    let at = (written / 2..=written).find(|at| bytes[*at] != 0).unwrap_or(written);
    let file = std::fs::File::options().write(true).open(path)?;
    file.write_all_at(&[bytes[at] ^ 0x10], at as u64)?;
    file.sync_all()?;
    Ok(())
}
