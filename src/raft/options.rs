//! What a node is opened with, and the timings of the two profiles.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::error::OpenError;
use super::store::sync::{DurableSync, Fdatasync};

/// Timings of a group. All nodes of a group use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Round trips below some 10 ms: heartbeat 100 ms, election time-out 200-400 ms (a new leader within 0.8 s).
    #[default]
    Lan,
    /// Round trips up to some 100 ms: heartbeat 250 ms, election time-out 1-2 s (a new leader within 4 s).
    Wan,
}

/// PEM files of the node port.
#[derive(Debug, Clone)]
pub struct NodeTls {
    /// Certificates of the authorities that peers' certificates must come from.
    pub ca: PathBuf,
    /// This node's certificate, for both ends of a connection; its subject names include `node-ID.GROUP.quorate`.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What [`Raft::open`](super::Raft::open) needs to know.
#[derive(Clone)]
pub struct Options {
    /// This node's number in the group; never reused.
    pub node_id: u64,
    /// Name of the group: 1-40 of `a-z 0-9 -`, as it is part of certificates' names.
    pub group: String,
    /// Where this node's state lives; created when it does not exist.
    pub data_dir: PathBuf,
    /// Timings.
    pub profile: Profile,
    /// Certificates; `None` is plain text.
    pub tls: Option<NodeTls>,
    /// `HOST:PORT` other nodes dial.
    pub node_addr: String,
    /// `HOST:PORT` clients dial.
    pub client_addr: String,
    /// Where this node stands.
    pub datacenter: Option<String>,
    /// Log entries between two snapshots.
    pub snapshot_every: u64,
    /// Log entries kept behind a snapshot, so that a short absence needs no snapshot transfer.
    pub keep_behind_snapshot: u64,
    /// Below this many free bytes the directory is not opened.
    pub free_bytes_min: u64,
    /// How written bytes reach the disk. Replaced only by tests.
    #[doc(hidden)]
    pub sync: Arc<dyn DurableSync>,
}

impl Options {
    /// The defaults: profile `lan`, plain text, a snapshot every 5,000 entries.
    pub fn new(node_id: u64, group: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Options {
            node_id,
            group: group.into(),
            data_dir: data_dir.into(),
            profile: Profile::Lan,
            tls: None,
            node_addr: String::new(),
            client_addr: String::new(),
            datacenter: None,
            snapshot_every: 5_000,
            keep_behind_snapshot: 2_000,
            free_bytes_min: 64 * 1024 * 1024,
            sync: Arc::new(Fdatasync),
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let bad = |what: String| Err(OpenError::BadOption { what });
        let group = self.group.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if group.is_empty() || group.len() > 40 || !group.iter().all(plain) {
            return bad(format!("group {:?}: 1 to 40 of a-z, 0-9 and '-' are allowed", self.group));
        }
        if group[0] == b'-' || group[group.len() - 1] == b'-' {
            return bad(format!("group {:?}: it may not begin or end with '-'", self.group));
        }
        if self.node_id == 0 {
            return bad("node_id 0: nodes are numbered from 1".to_owned());
        }
        if self.snapshot_every == 0 {
            return bad("snapshot_every 0: at least 1 entry lies between snapshots".to_owned());
        }
        Ok(())
    }
}

impl Profile {
    /// Longest silence after which a follower stands for election, half of it in the best case.
    pub fn election_timeout_max(self) -> Duration {
        Duration::from_millis(match self {
            Profile::Lan => 400,
            Profile::Wan => 2_000,
        })
    }

    /// After this long without an answer a proposal's fate is *unknown*, and a read barrier has failed.
    pub fn answer_timeout(self) -> Duration {
        self.election_timeout_max() * 5
    }

    /// How long a dial may take.
    pub(super) fn connect_timeout(self) -> Duration {
        self.election_timeout_max() / 2
    }
}

/// openraft's own configuration. Fails only when a constant here breaks one of its rules.
pub(super) fn raft_config(options: &Options) -> Result<Config, OpenError> {
    let max = options.profile.election_timeout_max().as_millis() as u64;
    let (heartbeat, backoff) = match options.profile {
        // At 50 ms they were some 40 % of what a quiet leader costs. Four fit into the silence that makes an election.
        Profile::Lan => (100, "50ms 100ms 200ms ...400ms"),
        Profile::Wan => (250, "250ms 500ms ...1s"),
    };
    let config = Config {
        cluster_name: options.group.clone(),
        heartbeat_interval: heartbeat,
        election_timeout_min: max / 2,
        election_timeout_max: max,
        // One deadline for a whole snapshot; a dead connection ends earlier, by HTTP/2 keep-alive.
        install_snapshot_timeout: 600_000,
        max_payload_entries: 256,
        replication_lag_threshold: options.snapshot_every.max(options.keep_behind_snapshot),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.keep_behind_snapshot,
        // The default of 1 means one purge, with its own sync, for each entry.
        purge_batch_size: options.snapshot_every.min(256),
        // At least twice the lease, says the library; some more, so that the phases do not just touch.
        quorum_loss_probe_interval: Some(max * 5 / 2),
        enable_pre_vote: Some(true),
        // A restarted leader must win an election again: the library's default would let it go on in its old term.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        backoff: backoff.to_owned(),
        // `removed_leader_step_down` stays at its default of 150 ms: its type is not exported.
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::BadOption { what: format!("raft timings: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_satisfy_the_library() {
        for profile in [Profile::Lan, Profile::Wan] {
            let mut options = Options::new(1, "demo", "/nowhere");
            options.profile = profile;
            let config = raft_config(&options).expect("valid");
            assert_eq!(config.enable_leader_restore, Some(false));
            assert_eq!(config.enable_pre_vote, Some(true));
        }
    }

    #[test]
    fn a_group_that_cannot_stand_in_a_certificate_is_refused() {
        for group in ["", "Demo", "a.b", "-a", "a-", &"x".repeat(41)] {
            assert!(Options::new(1, group, "/nowhere").check().is_err(), "{group:?}");
        }
        assert!(Options::new(1, "demo-1", "/nowhere").check().is_ok());
        assert!(Options::new(0, "demo", "/nowhere").check().is_err());
    }
}
