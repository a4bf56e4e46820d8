//! Data directories that must not be used, each with an error that says what, where and what to do.

use std::fs;
use std::path::{Path, PathBuf};

use quorate::raft::{OpenError, Options, Raft};

use crate::support::{Group, eventually};

fn options(data_dir: &Path) -> Options {
    let mut options = Options::new(1, "test", data_dir);
    options.free_bytes_min = 0;
    options
}

async fn refusal(options: Options) -> OpenError {
    let data_dir = options.data_dir.clone();
    let Err(error) = Raft::open(options).await else { panic!("{} opened", data_dir.display()) };
    let path = error.to_string();
    assert!(path.contains("data directory") || path.contains("node_id"), "{path}");
    error
}

type Damage = fn(&Path);

/// The one database of a directory.
fn database(data_dir: &Path) -> PathBuf {
    let list = fs::read_dir(data_dir).expect("list").map(|entry| entry.expect("entry").path());
    list.into_iter().find(|path| path.is_dir()).expect("a database")
}

/// A directory of node 1 that was in use.
async fn used() -> Group {
    let mut group = Group::running(1, |_| {}).await;
    for at_ms in 1..=100 {
        group.commit(at_ms).await;
    }
    group.stop_all().await;
    group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_one_process() {
    let mut group = Group::running(1, |_| {}).await;
    let error = refusal(group.options(1)).await;
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    group.commit(1).await;
    group.stop_all().await;
    let raft = Raft::open(group.options(1)).await.expect("free again");
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_directory_is_refused() {
    let group = used().await;
    let mut other = group.options(1);
    other.node_id = 2;
    let error = refusal(other).await;
    assert!(matches!(error, OpenError::OtherNode { found: 1, configured: 2, .. }), "{error}");
    let mut other = group.options(1);
    other.group = "prod".to_owned();
    let error = refusal(other).await;
    assert!(matches!(error, OpenError::OtherGroup { .. }), "{error}");

    let folder = tempfile::tempdir().expect("tempdir");
    fs::write(folder.path().join("ibdata1"), "innodb").expect("write");
    let error = refusal(options(folder.path())).await;
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "ibdata1"), "{error}");
    assert_eq!(fs::read(folder.path().join("ibdata1")).expect("still there"), b"innodb");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_names_the_version_it_needs() {
    let group = used().await;
    let file = group.options(1).data_dir.join("identity.json");
    let mut identity: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).expect("read")).expect("json");
    identity["format"] = 7.into();
    identity["version"] = "9.1.0".into();
    fs::write(&file, identity.to_string()).expect("write");
    let error = refusal(group.options(1)).await;
    assert!(matches!(error, OpenError::NewerFormat { found: 7, .. }), "{error}");
    assert!(error.to_string().contains("9.1.0"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_directory_is_refused_and_not_repaired() {
    let damages: [(&str, Damage); 5] = [
        ("a flipped byte", |data_dir| {
            let file = database(data_dir).join("db");
            let mut bytes = fs::read(&file).expect("read");
            // In the last acknowledged entry, which names the version that proposed it.
            let version = env!("CARGO_PKG_VERSION").as_bytes();
            let last = bytes.windows(version.len()).rposition(|words| words == version).expect("an entry");
            bytes[last] ^= 1;
            fs::write(&file, bytes).expect("write");
        }),
        ("an emptied database", |data_dir| fs::write(database(data_dir).join("db"), []).expect("write")),
        ("a missing database", |data_dir| fs::remove_file(database(data_dir).join("db")).expect("remove")),
        ("a missing mark", |data_dir| fs::remove_file(database(data_dir).join("mark")).expect("remove")),
        ("a missing identity", |data_dir| fs::remove_file(data_dir.join("identity.json")).expect("remove")),
    ];
    for (name, damage) in damages {
        let group = used().await;
        damage(&group.options(1).data_dir);
        // Twice: the first refusal must not have "repaired" what it found.
        for _ in 0..2 {
            let error = refusal(group.options(1)).await;
            assert!(matches!(error, OpenError::Corrupt { .. }), "{name}: {error}");
            println!("{name}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_whose_making_was_interrupted_is_made_anew() {
    let folder = tempfile::tempdir().expect("tempdir");
    let raft = Raft::open(options(folder.path())).await.expect("open");
    raft.shutdown().await;
    let file = folder.path().join("identity.json");
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, text.replace("\"ready\"", "\"creating\"")).expect("write");
    fs::remove_file(database(folder.path()).join("db")).expect("remove");
    let raft = Raft::open(options(folder.path())).await.expect("nobody had used it");
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_and_no_right_to_write_are_told_apart() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut full = options(folder.path());
    full.free_bytes_min = u64::MAX;
    let error = refusal(full).await;
    assert!(matches!(error, OpenError::DiskFull { needed: u64::MAX, .. }), "{error}");

    let file = folder.path().join("a-file");
    fs::write(&file, "").expect("write");
    let error = refusal(options(&file.join("data"))).await;
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_when_its_process_dies_and_its_lock_goes_with_it() {
    // The lock is the kernel's: nothing is left to clean up by hand after a crash. A stale LOCK file is no lock.
    let folder = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(folder.path()).expect("mkdir");
    fs::write(folder.path().join("LOCK"), "1").expect("write");
    let raft = eventually("opened", || async { Raft::open(options(folder.path())).await.ok() }).await;
    raft.shutdown().await;
}
