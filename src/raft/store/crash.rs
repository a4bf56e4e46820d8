//! What is left of a store after SIGKILL at any moment, and after a flipped bit anywhere.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::log::LogStore;
use super::sync::Fdatasync;
use super::{Store, StoreError};
use crate::raft::machine::{Applied, Image};
use crate::raft::types::{Entry, LogId, Proposal, SnapshotMeta, StoredMembership, Vote};

/// Set for the process that is going to be killed: the folder it works in.
const VICTIM: &str = "QUORATE_TEST_CRASH_FOLDER";
const KILLS: usize = 30;

fn entry(term: u64, index: u64) -> Entry {
    // Some are larger than one value of sled may be.
    let times = if index.is_multiple_of(37) { 20_000 } else { 1 + (index % 40) as usize };
    let content = format!("{term}-{index}-").repeat(times);
    let payload = openraft::EntryPayload::Normal(Proposal::raw("0", content.as_bytes()));
    Entry::new(LogId::new_term_index(term, index), payload)
}

fn open(folder: &Path) -> Result<Arc<Store>, StoreError> {
    Store::open(folder, Arc::new(Fdatasync), Box::new(())).map(|(store, _)| store)
}

async fn save_snapshot(store: &Store, last: LogId) {
    let members_ever = (0..5_000).map(|id| (id, last.to_string())).collect();
    let image =
        Image { format: 1, version: "0".to_owned(), members_ever, state: Applied::new().image().0.state };
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::default() };
    store.save_snapshot(&meta, &image.encode().expect("encode")).await.expect("snapshot");
}

/// Votes, appends, truncates, snapshots and purges for ever, and says on standard output what is promised:
/// `vote TERM`, `log TERM INDEX` (everything up to there), `cut INDEX` before entries after it are given up.
#[tokio::test]
#[ignore = "the child process of a_killed_process_forgets_nothing_it_promised"]
async fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let store = open(Path::new(&folder)).expect("open");
    let mut log = LogStore::new(store.clone()).expect("log");
    let mut out = std::io::stdout().lock();
    let mut say = |words: String| {
        writeln!(out, "{words}").and_then(|()| out.flush()).expect("say");
    };
    let mut term = store.vote().expect("vote").map_or(0, |vote| vote.leader_id.term);
    let mut last = store.last_log_id().expect("last").map(|id| id.index());
    let mut rng = StdRng::from_os_rng();
    loop {
        term += 1;
        log.save_vote(&Vote::new(term, 1)).await.expect("vote");
        say(format!("vote {term}"));
        for _ in 0..rng.random_range(1..20) {
            let begin = last.map_or(0, |last| last + 1);
            let end = begin + rng.random_range(1..30);
            log.blocking_append((begin..end).map(|index| entry(term, index))).await.expect("append");
            last = Some(end - 1);
            say(format!("log {term} {}", end - 1));
        }
        let end = last.expect("appended");
        if rng.random_bool(0.3) && end > 40 {
            let kept = store.entries(end - 30..=end - 10, usize::MAX).expect("entries");
            if let Some(kept) = kept.last() {
                say(format!("cut {}", kept.log_id.index()));
                log.truncate_after(Some(kept.log_id())).await.expect("truncate");
                last = Some(kept.log_id.index());
            }
        }
        if rng.random_bool(0.2)
            && let Some(applied) =
                store.entries(..=last.expect("appended"), usize::MAX).expect("entries").pop()
        {
            save_snapshot(&store, applied.log_id()).await;
            let upto = store
                .entries(..=applied.log_id.index().saturating_sub(50), usize::MAX)
                .expect("entries")
                .pop();
            if let Some(upto) = upto {
                log.purge(upto.log_id()).await.expect("purge");
            }
        }
    }
}

/// What the victim promised, over all its lives.
#[derive(Default)]
struct Promised {
    term: u64,
    last: Option<(u64, u64)>,
    cut: Option<u64>,
}

impl Promised {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (word, mut number) = (words.next(), || words.next().and_then(|word| word.parse::<u64>().ok()));
        match (word, number(), number()) {
            (Some("vote"), Some(term), None) => self.term = term,
            (Some("log"), Some(term), Some(index)) => (self.last, self.cut) = (Some((term, index)), None),
            (Some("cut"), Some(index), None) => self.cut = Some(index),
            // libtest's own words.
            _ => {}
        }
    }
}

#[test]
fn a_killed_process_forgets_nothing_it_promised() {
    let folder = tempfile::tempdir().expect("tempdir");
    Store::create(folder.path()).expect("create");
    let mut promised = Promised::default();
    let mut rng = StdRng::from_os_rng();
    for life in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", "raft::store::crash::victim", "--ignored", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut heard = 0;
        // Killed after a random number of promises, and a random moment more.
        let enough = rng.random_range(1..60);
        for line in lines.by_ref() {
            promised.hear(&line.expect("line"));
            heard += 1;
            if heard > enough {
                break;
            }
        }
        assert!(heard > enough, "life {life}: the child ended by itself");
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        // What it still managed to say was promised too; a last line may be cut short.
        lines.map_while(Result::ok).for_each(|line| promised.hear(&line));
        check(folder.path(), &promised, life);
    }
    assert!(promised.last.is_some_and(|(_, index)| index > 100), "hardly anything was written");
}

fn check(folder: &Path, promised: &Promised, life: usize) {
    let store = open(folder).unwrap_or_else(|error| panic!("life {life}: {error:?}"));
    let vote = store.vote().expect("vote").map_or(0, |vote| vote.leader_id.term);
    assert!(vote >= promised.term, "life {life}: voted in term {}, remembers {vote}", promised.term);
    let (term, index) = promised.last.unwrap_or_default();
    let end = promised.cut.unwrap_or(index);
    let last = store.last_log_id().expect("last").map_or(0, |id| id.index());
    assert!(last >= end, "life {life}: promised up to {end}, has up to {last}");
    for stored in store.entries(.., usize::MAX).expect("no holes") {
        let id = stored.log_id();
        assert_eq!(stored, entry(id.committed_leader_id().term, id.index()), "life {life}");
        if id.index() == index && promised.cut.is_none() {
            assert!(id.committed_leader_id().term >= term, "life {life}: index {index}");
        }
    }
}

/// Everything a store promises, to compare.
type Content = (Option<Vote>, Vec<Entry>, Option<(SnapshotMeta, bytes::Bytes)>, u64);

fn content(store: &Store) -> Content {
    let entries = store.entries(.., usize::MAX).expect("entries");
    (
        store.vote().expect("vote"),
        entries,
        store.snapshot().expect("snapshot"),
        store.generation().expect("generation"),
    )
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless_and_never_loses_anything() {
    let folder = tempfile::tempdir().expect("tempdir");
    let original = folder.path().join("original");
    std::fs::create_dir(&original).expect("mkdir");
    Store::create(&original).expect("create");
    let before = {
        let store = open(&original).expect("open");
        let mut log = LogStore::new(store.clone()).expect("log");
        store.save_generation(1).await.expect("generation");
        log.save_vote(&Vote::new(3, 1)).await.expect("vote");
        for index in 0..300 {
            log.blocking_append([entry(3, index)]).await.expect("append");
        }
        save_snapshot(&store, LogId::new_term_index(3, 200)).await;
        log.purge(LogId::new_term_index(3, 100)).await.expect("purge");
        log.save_vote(&Vote::new_committed(3, 1)).await.expect("vote");
        content(&store)
    };

    let db = std::fs::read(original.join("db")).expect("db");
    let used: Vec<usize> = (0..db.len()).filter(|at| db[*at] != 0).collect();
    let mut rng = StdRng::seed_from_u64(2);
    let mut ends = BTreeMap::new();
    for round in 0..200 {
        // The file's very end among them: there sled sees a torn write, and cuts it off.
        let at =
            if round < 40 { used[used.len() - 1 - round * 7] } else { used[rng.random_range(0..used.len())] };
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy).expect("mkdir");
        for file in std::fs::read_dir(&original).expect("list").map(|file| file.expect("file").path()) {
            if file.is_file() {
                std::fs::copy(&file, copy.join(file.file_name().expect("name"))).expect("copy");
            }
        }
        let mut bytes = db.clone();
        bytes[at] ^= 1 << rng.random_range(0..8);
        std::fs::write(copy.join("db"), &bytes).expect("write");
        let end = match open(&copy) {
            Ok(store) => {
                assert!(content(&store) == before, "byte {at}: opened, with other content");
                "harmless"
            }
            Err(StoreError::Corrupt(_)) => "refused",
            Err(StoreError::Io(error)) => panic!("byte {at}: {error}"),
        };
        *ends.entry(end).or_insert(0) += 1;
        std::fs::remove_dir_all(&copy).expect("remove");
    }
    assert!(ends.get("refused").is_some_and(|refused| *refused > 50), "{ends:?}");
}
