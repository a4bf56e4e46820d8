//! Verbs that have verbs of their own: `policy` and `nodes`.

use std::path::PathBuf;

use clap::Subcommand;

/// Read or change the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Print it, or some keys of it.
    Get {
        /// Keys; all if left out.
        keys: Vec<String>,
        /// Only what differs from the defaults.
        #[arg(long)]
        changed: bool,
    },
    /// Change keys.
    #[command(
        after_help = "Values are JSON or plain words; keys that end in _ms or _s also take 30s, 5m, 1h.\nExamples:\n  quorate policy set block_for_ms=1h silence_ms=1500\n  quorate policy set drain_policy=next_candidate --dry-run"
    )]
    Set {
        /// KEY=VALUE.
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Refuse if the policy is not this version any more.
        #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
        if_version: u64,
        /// Only check.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The nodes of the group.
#[derive(Debug, Subcommand)]
pub enum NodesVerb {
    /// Make a new group: its first voters. Once, and never again.
    #[command(
        after_help = "All nodes must run, each with an empty data directory.\nExample:\n  quorate nodes init 1=10.0.0.1:7101 2=10.0.1.1:7101 3=10.0.2.1:7101"
    )]
    Init {
        /// NUMBER=HOST:NODEPORT of each node.
        #[arg(required = true, value_name = "ID=HOST:PORT")]
        nodes: Vec<String>,
    },
    /// Who leads, who follows, who is missing.
    Status,
    /// Add a node as learner; it receives the log and does not vote.
    Add {
        /// NUMBER=HOST:NODEPORT; a number that was never used.
        #[arg(value_name = "ID=HOST:PORT")]
        node: String,
    },
    /// Let a learner vote.
    MakeVoter {
        /// Its number.
        id: u64,
    },
    /// Remove a node for good.
    Remove {
        /// Its number.
        id: u64,
    },
    /// Put a new node in the place of a lost one.
    Replace {
        /// Number of the old one.
        old: u64,
        /// NUMBER=HOST:NODEPORT of the new one; a number that was never used.
        #[arg(value_name = "ID=HOST:PORT")]
        node: String,
    },
    /// Hand the leadership over.
    TransferLeader {
        /// Number of the new leader; the best if left out.
        to: Option<u64>,
    },
    /// Write the replicated state to a file. Holds no secret.
    Backup {
        /// File to write; must not exist.
        file: PathBuf,
    },
    /// Make a new one-node group out of a backup. The node must be stopped, its data directory empty.
    Restore {
        /// The node's file.
        #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG")]
        config: PathBuf,
        /// The backup.
        backup: PathBuf,
    },
    /// The majority is lost for ever: make a new one-node group out of this node's data. The node must be stopped.
    #[command(
        after_help = "Whatever the lost nodes knew and this one did not is gone. Make sure that they never start again.\nAutomatic recoveries are disabled until `quorate recoveries-enabled on`."
    )]
    Rebuild {
        /// The node's file.
        #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG")]
        config: PathBuf,
        /// Yes, the majority is lost for ever.
        #[arg(long = "unsafe", required = true)]
        unsafe_: bool,
    },
}
