//! What a run leaves: one JSON object with stable keys.

use crate::{depth::Depth, flavor::Flavor};
use serde::Serialize;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new primary was made, or a switchover done.
    Recovered,
    /// Nothing was changed.
    Nothing,
    /// Quorate refused, and said why.
    Refused,
    /// A recovery began and was cancelled.
    Cancelled,
    /// A recovery failed, or none came where one was due.
    Failed,
    /// This machine does not offer what the scenario needs.
    Skipped,
    /// The rig could not do its part: no result about Quorate.
    RigFailed,
}

/// One run. Times are milliseconds from the moment of the fault; null when they did not occur.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Scenario name.
    pub scenario: String,
    /// Server family.
    pub flavor: Flavor,
    /// Number of nodes.
    pub nodes: u64,
    /// Number of the run, from 1.
    pub run: u64,
    /// Whether the fault was seen to be in place.
    pub fault_installed: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// A node first said so.
    pub detected_ms: Option<f64>,
    /// The recovery was committed.
    pub started_ms: Option<f64>,
    /// Another server first accepted writes (looked at every 5 ms).
    pub writable_ms: Option<f64>,
    /// The client's first acknowledged write on another server; for `switchover` its longest gap.
    pub first_write_ms: Option<f64>,
    /// Every other surviving server replicates from the new primary.
    pub repointed_ms: Option<f64>,
    /// Acknowledged writes.
    pub acked_writes: usize,
    /// Those missing on the server that is primary at the end.
    pub lost_acked_writes: usize,
    /// How long two servers acknowledged writes at the same time.
    pub double_primary_ms: f64,
    /// The same by the servers' binlogs: writes that no client heard of included.
    pub double_binlog_ms: f64,
    /// Recoveries in the group's record.
    pub recoveries: usize,
    /// Promises broken, in words.
    pub violations: Vec<String>,
    /// Why it ended so.
    pub reason: String,
    /// Which of the scenario's variants this was, e.g. the step at which the leader died.
    pub variant: String,
    /// Of the lost ones: acknowledged by an old primary after the new one had acknowledged its first.
    pub stray_acked_writes: usize,
    /// From the return of the old primary to the last write it acknowledged.
    pub returned_acks_ms: Option<f64>,
    /// The seed that repeats this run's choices.
    pub seed: u64,
    /// Options of the first primary, but for those that say who and where it is.
    pub server_options: Vec<String>,
    /// Commit of the quorate binary.
    pub commit: String,
    /// Its cargo profile.
    pub profile: String,
    /// How much was written down.
    pub evidence: Depth,
    /// Checks that could not judge, and why.
    pub unchecked: Vec<String>,
    /// What is no violation and worth telling.
    pub notes: Vec<String>,
    /// Most resident memory that a node was seen to have.
    pub node_rss_mib: u64,
    /// Where the run's artefacts are, beside this record's file.
    pub artefacts: Option<String>,
}

impl Record {
    /// A record of a run that has not ended yet.
    pub fn begin(scenario: &str, flavor: Flavor, nodes: u64, run: u64, seed: u64) -> Record {
        Record {
            scenario: scenario.to_string(),
            flavor,
            nodes,
            run,
            fault_installed: false,
            outcome: Outcome::RigFailed,
            detected_ms: None,
            started_ms: None,
            writable_ms: None,
            first_write_ms: None,
            repointed_ms: None,
            acked_writes: 0,
            lost_acked_writes: 0,
            double_primary_ms: 0.0,
            double_binlog_ms: 0.0,
            recoveries: 0,
            violations: Vec::new(),
            reason: String::new(),
            variant: String::new(),
            stray_acked_writes: 0,
            returned_acks_ms: None,
            seed,
            server_options: Vec::new(),
            commit: String::new(),
            profile: String::new(),
            evidence: Depth::Full,
            unchecked: Vec::new(),
            notes: Vec::new(),
            node_rss_mib: 0,
            artefacts: None,
        }
    }

    /// The outcome's name.
    pub fn outcome_name(&self) -> String {
        let name = serde_json::to_value(self.outcome).ok();
        name.and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let ms =
            |name: &str, t: Option<f64>| t.map_or_else(|| format!("{name} -"), |t| format!("{name} {t:.0}"));
        let outcome = self.outcome_name();
        let variant = if self.variant.is_empty() { String::new() } else { format!(" [{}]", self.variant) };
        let mut line = format!(
            "{} {} nodes={} run={}{variant}: {outcome} | {} | {} | {} | {} | {} ms | acked {} lost {} double {:.0} ms",
            self.scenario,
            self.flavor,
            self.nodes,
            self.run,
            ms("detected", self.detected_ms),
            ms("started", self.started_ms),
            ms("writable", self.writable_ms),
            ms("first write", self.first_write_ms),
            ms("repointed", self.repointed_ms),
            self.acked_writes,
            self.lost_acked_writes,
            self.double_primary_ms,
        );
        if let Some(ms) = self.returned_acks_ms {
            line += &format!(" | returned acks {} in {ms:.0} ms", self.stray_acked_writes);
        }
        if !self.reason.is_empty() {
            line += &format!(" | {}", self.reason);
        }
        for violation in &self.violations {
            line += &format!("\n  VIOLATION: {violation}");
        }
        line
    }
}
