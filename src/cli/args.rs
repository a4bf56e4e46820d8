//! What can be typed. The text of `--help` is written here.

mod groups;
mod values;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub use self::{
    groups::{NodesVerb, PolicyVerb},
    values::{Color, OnOff, Rule, Waive},
};
use super::duration::{Span, span};

const AFTER: &str = "\
Clusters are named by id, by alias, or by HOST:PORT of any member; servers by HOST:PORT or by id.
Any node can be asked: it passes the question on to the leader. Ask several with QUORATE_ENDPOINTS=a:7201,b:7201,c:7201.

Exit codes: 0 done; 1 refused or failed (the text says why); 2 wrong usage; 3 no node reachable; 4 the group has no leader.

First steps:
  quorate nodes init 1=10.0.0.1:7101 2=10.0.1.1:7101 3=10.0.2.1:7101     once per group
  quorate discover db1.example:3306 --alias orders                      adopt a topology
  quorate topology orders                                               look at it
  quorate plan orders                                                   what if the primary died now?";

/// See and steer a group of Quorate nodes, which fail over MySQL and MariaDB clusters.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = AFTER, max_term_width = 110)]
pub struct Cli {
    /// Where and how to connect.
    #[command(flatten)]
    pub connect: Connect,
    /// Print JSON with stable keys instead of text.
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Colour: on a terminal, always, or never.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where and how to connect.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connect {
    /// Client address of a node; may be given several times, each is tried in turn.
    #[arg(
        long = "endpoint",
        global = true,
        value_name = "HOST:PORT",
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7201"
    )]
    pub endpoints: Vec<String>,
    /// PEM file of the authority that the nodes' certificates come from; switches TLS on.
    #[arg(long, global = true, value_name = "FILE", env = "QUORATE_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of your own certificate.
    #[arg(long, global = true, value_name = "FILE", env = "QUORATE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, global = true, value_name = "FILE", env = "QUORATE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Name that the nodes' certificates bear, where it is not the host of the endpoint.
    #[arg(long, global = true, value_name = "NAME", env = "QUORATE_TLS_NAME")]
    pub tls_name: Option<String>,
    /// Longest wait for one answer.
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = span)]
    pub timeout: Span,
    /// Answer from what the asked node knows, even without a leader; may be out of date.
    #[arg(long, global = true)]
    pub stale: bool,
    /// Who asks, for the audit trail; your login and host if left out.
    #[arg(long, global = true, value_name = "NAME", env = "QUORATE_BY")]
    pub by: Option<String>,
    /// Id of a change, so that a repetition with the same id is no second change; a new one if left out.
    #[arg(long, global = true, value_name = "ID")]
    pub request_id: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the clusters: primary, problems, block, running recovery.
    Clusters,
    /// Show one cluster as a tree: who replicates from whom, and how well.
    #[command(after_help = TREE_HELP)]
    Topology {
        /// Which; may be left out when there is only one.
        cluster: Option<String>,
    },
    /// List what is wrong, worst first.
    Problems {
        /// Only of this cluster.
        cluster: Option<String>,
    },
    /// Explain a cluster: who saw what and when, whether the nodes agree, what blocks, what would happen.
    Explain {
        /// Which.
        cluster: String,
    },
    /// What would happen if the primary died now, or what would prevent it. Changes nothing.
    Plan {
        /// Which.
        cluster: String,
    },
    /// List recoveries and switchovers, newest first.
    Recoveries {
        /// Only of this cluster.
        cluster: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Show one recovery whole: evidence, candidates, steps, loss.
    Recovery {
        /// Its number, as `quorate recoveries` lists it.
        id: u64,
    },
    /// What happened, oldest first.
    Events(EventArgs),
    /// Acknowledge recoveries: lifts the block that followed them.
    #[command(
        group = ArgGroup::new("scope").required(true).args(["recovery", "cluster", "all"]),
        after_help = "Examples:\n  quorate ack 4711 --comment 'disk replaced'\n  quorate ack --cluster orders --comment 'seen, T-1234'"
    )]
    Ack {
        /// Number of one recovery.
        recovery: Option<u64>,
        /// All of this cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// All there are; also clears the fleet-wide breaker.
        #[arg(long)]
        all: bool,
        /// What was found, for those who come after.
        #[arg(long)]
        comment: String,
    },
    /// Change a healthy primary without losing a write. The old one becomes a replica.
    #[command(
        after_help = "Refuses when a long statement or table lock would stretch the pause, and names it.\nExamples:\n  quorate switchover orders --dry-run\n  quorate switchover orders --to db2.example:3306"
    )]
    Switchover {
        /// Which cluster.
        cluster: String,
        /// New primary; the best one if left out.
        #[arg(long, value_name = "SERVER")]
        to: Option<String>,
        /// Show the plan and every candidate with why or why not; change nothing.
        #[arg(long)]
        dry_run: bool,
        /// End client sessions that hold transactions open, run statements or hold tables, instead of refusing.
        #[arg(long)]
        kill_writers: bool,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Replace the primary by force, now.
    #[command(
        after_help = "Passes the same gate as an automatic failover, but for the rules waived by name.\nExamples:\n  quorate failover orders --dry-run\n  quorate failover orders --waive verdict --waive loss"
    )]
    Failover {
        /// Which cluster.
        cluster: String,
        /// New primary; the best one if left out.
        #[arg(long, value_name = "SERVER")]
        to: Option<String>,
        /// Show the plan and every candidate with why or why not; change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Rule to waive; may be given several times.
        #[arg(long, value_enum, value_name = "RULE")]
        waive: Vec<Waive>,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Adopt the whole topology of one server, or look at a known one again.
    #[command(
        after_help = "One server is enough: its source and all replicas are found, at any depth.\nExample:\n  quorate discover db1.example:3306 --alias orders"
    )]
    Discover {
        /// Any server of the topology; port 3306 if left out.
        address: String,
        /// Name for the cluster, if it is new.
        #[arg(long)]
        alias: Option<String>,
        /// Look and tell, adopt nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget a cluster, or one server of it. No server is changed.
    #[command(group = ArgGroup::new("what").required(true).args(["cluster", "server"]))]
    Forget {
        /// Cluster to forget.
        cluster: Option<String>,
        /// Server to forget.
        #[arg(long)]
        server: Option<String>,
        /// Only check.
        #[arg(long)]
        dry_run: bool,
    },
    /// Name a cluster.
    #[command(group = ArgGroup::new("name").required(true).args(["alias", "remove"]))]
    Alias {
        /// Which.
        cluster: String,
        /// Its new name: letters, digits, `-`, `_`, `.`.
        alias: Option<String>,
        /// Take its name away.
        #[arg(long)]
        remove: bool,
    },
    /// Confirm a server whose identity changed, or release a quarantined one.
    Confirm {
        /// Which.
        server: String,
    },
    /// Allow or forbid automatic recoveries. Your own commands stay possible.
    RecoveriesEnabled {
        /// On or off.
        #[arg(value_enum)]
        switch: OnOff,
        /// Only of this cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// Why; needed for `off`.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// No automatic recovery on account of one server for a while.
    #[command(
        after_help = "Example:\n  quorate downtime db1.example:3306 --for 2h --why 'kernel upgrade, T-77'\n  quorate downtime db1.example:3306 --end"
    )]
    Downtime {
        /// Which server.
        server: String,
        /// How long and why.
        #[command(flatten)]
        pause: PauseArgs,
    },
    /// No automatic recovery of one cluster for a while.
    Maintenance {
        /// Which cluster.
        cluster: String,
        /// How long and why.
        #[command(flatten)]
        pause: PauseArgs,
    },
    /// Prefer or avoid a server as new primary.
    PromotionRule {
        /// Which.
        server: String,
        /// The rule.
        #[arg(value_enum)]
        rule: Rule,
        /// For how long; until changed if left out.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        for_: Option<Span>,
    },
    /// Everything people have set: switches, downtimes, maintenance, rules, blocks.
    Settings,
    /// Read or change the policy: intervals, blocks, limits; the same on all nodes.
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// The nodes of the group: make it, look at it, change it.
    #[command(subcommand)]
    Nodes(NodesVerb),
    /// Run a node.
    Serve {
        /// Its file; see deploy/quorate.toml.
        #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG")]
        config: PathBuf,
        /// Only check the file, and what it names, and say what is wrong.
        #[arg(long)]
        check: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// Which.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

const TREE_HELP: &str = "\
Each line: sign, server, [lag, status, version, mode, binlog format, extras]
  sign     + replicates and was seen recently; - otherwise; the root has none
  lag      seconds behind; null: not replicating; unknown: not seen recently
  status   ok, lag, nonreplicating, unchecked (never answered), invalid (does not answer now)
  mode     rw or ro, as it was last read
  extras   >> logs what it replicates; GTID, GTID:errant; semi:source, semi:replica; downtimed; quarantined; replaced;
           changed; multi-source; fence: a standing order is on it";

/// Which events.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate events --follow --cluster orders --json")]
pub struct EventArgs {
    /// Go on with new ones until interrupted; comes back by itself when a node goes away.
    #[arg(long, short)]
    pub follow: bool,
    /// From this log index on.
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// The newest N (with --from: the first N). With --follow and no --from: N before the new ones.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Only of this cluster.
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only of this kind, e.g. recovery_started; may be given several times.
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
}

/// How long and why.
#[derive(Debug, Args)]
#[group(skip)]
pub struct PauseArgs {
    /// For how long: 30m, 2h, 1d.
    #[arg(long = "for", value_name = "TIME", value_parser = span, required_unless_present = "end")]
    pub for_: Option<Span>,
    /// Why.
    #[arg(long, required_unless_present = "end")]
    pub why: Option<String>,
    /// End it now.
    #[arg(long, conflicts_with_all = ["for_", "why"])]
    pub end: bool,
}
