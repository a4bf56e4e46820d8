//! What a run left behind, as plain values. Times are wall milliseconds of this machine, on which everything runs.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Write {
    /// Unique row id.
    pub id: i64,
    /// Number of the server that acknowledged it.
    pub server: usize,
    /// When it was sent.
    pub sent_ms: f64,
    /// When the acknowledgement came.
    pub at_ms: f64,
}

/// A client's transaction in the binlog of the server that first ran it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Commit {
    /// That server's number.
    pub server: usize,
    /// Row id.
    pub id: i64,
    /// MySQL: when it was committed, to the microsecond. MariaDB, whose binlog has whole seconds: when the server wrote the
    /// row, to the millisecond.
    pub at_ms: f64,
}

/// One statement of Quorate's account, from a server's general log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// Number of the server that logged it.
    pub server: usize,
    /// Its connection there.
    pub thread: u64,
    /// The node whose executor session it came over; `None` for a session that took no mark.
    pub node: Option<u64>,
    /// Not before this.
    pub from_ms: f64,
    /// Not after this.
    pub to_ms: f64,
    /// Its text up to a password, shortened.
    pub sql: String,
}

/// What one event of the group's audit says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Log index.
    pub index: u64,
    /// Wall time at which its command was stamped, before it was committed.
    pub time_ms: f64,
    /// Log time.
    pub log_ms: u64,
    /// E.g. `recovery_started`.
    pub kind: String,
    /// Address.
    pub server: Option<String>,
    /// Recovery it belongs to.
    pub recovery: Option<u64>,
    /// In words.
    pub text: String,
}

/// What a node says of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// Which node.
    pub id: u64,
    /// Log index of the state.
    pub index: u64,
    /// Its hash.
    pub hash: String,
}

/// The most that a node was seen to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Data directory, KiB.
    pub disk_kib: u64,
}

/// The end of a node's sleep: what it was allowed before is void, unless it still owns it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thawed {
    /// Which.
    pub node: u64,
    /// When.
    pub at_ms: f64,
}

/// Everything a run left.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Addresses of the servers; the first is number 1.
    pub servers: Vec<String>,
    /// Number of the server that is primary at the end.
    pub primary: usize,
    /// Semi-sync acknowledgements, when on.
    pub semi_sync: bool,
    /// No write may be lost whatever the durability mode: a planned change, or nobody was replaced.
    pub lossless: bool,
    /// The old primary may live and take writes while another does: it was cut off or came back. Measured then, not judged,
    /// but for semi-sync.
    pub may_overlap: bool,
    /// Servers that shared the old primary's fate: cut off with it, so that nobody could ask what they hold.
    pub cut_off: Vec<usize>,
    /// What the clients were promised.
    pub acks: Vec<Write>,
    /// Row ids on each server that could be asked at the end.
    pub held: BTreeMap<usize, BTreeSet<i64>>,
    /// What the servers' binlogs say.
    pub commits: Vec<Commit>,
    /// The changing statements of Quorate's account; `None` when there are no general logs.
    pub statements: Option<Vec<Statement>>,
    /// Every recovery, as `recoveries --json` gives it; `None` when nobody answered.
    pub recoveries: Option<Vec<Value>>,
    /// Every event; `None` when nobody answered.
    pub events: Option<Vec<Event>>,
    /// What the nodes that run say of their state; `None` when they could not be brought to the same index.
    pub states: Option<Vec<NodeState>>,
    /// Peaks by node.
    pub usage: BTreeMap<u64, Usage>,
    /// Nodes that were frozen and thawed.
    pub thawed: Vec<Thawed>,
    /// Nodes of the group, each a voter.
    pub voters: usize,
    /// Policy `verdict_fresh_for_ms`.
    pub fresh_for_ms: u64,
    /// Policy `block_for_ms`.
    pub block_for_ms: u64,
}

impl Evidence {
    /// The number of the server at that address.
    pub fn number(&self, address: &str) -> Option<usize> {
        self.servers.iter().position(|a| a == address).map(|index| index + 1)
    }
}

impl Event {
    /// From an object that `events --json` prints.
    pub fn read(value: &Value) -> Option<Event> {
        Some(Event {
            index: value["index"].as_u64()?,
            time_ms: value["time_ms"].as_f64()?,
            log_ms: value["log_ms"].as_u64()?,
            kind: value["kind"].as_str()?.to_owned(),
            server: value["server"].as_str().map(str::to_owned),
            recovery: value["recovery"].as_u64(),
            text: value["text"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
pub mod samples {
    //! Evidence of small stories, for the checkers' tests.

    use super::*;
    use serde_json::json;

    /// The addresses of three servers.
    pub const A: &str = "10.0.0.1:3306";
    pub const B: &str = "10.0.0.2:3306";
    pub const C: &str = "10.0.0.3:3306";

    impl Evidence {
        /// Three servers and three nodes of which nothing is told.
        pub fn quiet() -> Evidence {
            let state = |id| NodeState { id, index: 9, hash: "ab".into() };
            Evidence {
                servers: [A, B, C].map(str::to_owned).to_vec(),
                primary: 1,
                semi_sync: false,
                lossless: false,
                may_overlap: false,
                cut_off: Vec::new(),
                acks: Vec::new(),
                held: BTreeMap::from([(1, BTreeSet::new())]),
                commits: Vec::new(),
                statements: Some(Vec::new()),
                recoveries: Some(Vec::new()),
                events: Some(Vec::new()),
                states: Some([1, 2, 3].map(state).to_vec()),
                usage: BTreeMap::from([(1, Usage { rss_kib: 50 * 1024, disk_kib: 1024 })]),
                thawed: Vec::new(),
                voters: 3,
                fresh_for_ms: 2_000,
                block_for_ms: 1_800_000,
            }
        }

        /// One automatic failover from A to B by node 1, recovery 10, from 1000 ms to 1200 ms.
        pub fn failover() -> Evidence {
            let witness = |node: u64| {
                json!({"node": node, "voter": true, "finding": "DeadPrimary", "class": "primary", "age_ms": 20,
                       "primary_epoch": 1})
            };
            let recovery = json!({
                "id": 10, "kind": "failover", "class": "primary", "state": "succeeded", "old_primary": A,
                "new_primary": B, "primary_epoch": 1, "owner_node": 1, "waived": [],
                "evidence": [witness(1), witness(2)],
            });
            Evidence {
                primary: 2,
                recoveries: Some(vec![recovery]),
                events: Some(vec![
                    event(10, 1000.0, "recovery_started", Some(A), Some(10)),
                    event(11, 1050.0, "decided", Some(B), Some(10)),
                    event(12, 1060.0, "intent", Some(B), Some(10)),
                    event(13, 1100.0, "published", Some(B), Some(10)),
                    event(14, 1200.0, "recovery_ended", None, Some(10)),
                    event(14, 1200.0, "blocked", None, Some(10)),
                ]),
                ..Evidence::quiet()
            }
        }
    }

    /// An event; its log time equals its wall time.
    pub fn event(index: u64, time_ms: f64, kind: &str, server: Option<&str>, recovery: Option<u64>) -> Event {
        Event {
            index,
            time_ms,
            log_ms: time_ms as u64,
            kind: kind.into(),
            server: server.map(str::to_owned),
            recovery,
            text: String::new(),
        }
    }

    /// A write that was on its way for 2 ms.
    pub fn write(id: i64, server: usize, sent_ms: f64) -> Write {
        Write { id, server, sent_ms, at_ms: sent_ms + 2.0 }
    }

    /// A statement of `node` on `server`, logged at that moment.
    pub fn statement(server: usize, node: u64, at_ms: f64, sql: &str) -> Statement {
        Statement { server, thread: 7, node: Some(node), from_ms: at_ms, to_ms: at_ms, sql: sql.into() }
    }
}
