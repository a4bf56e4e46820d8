//! Observations in words that mean the same on simulated and real servers: no addresses, uuids, times or texts.

use quorate::{
    core::plan::step::StepEnd,
    model::{
        address::Address,
        facts::{Receiver, ServerFacts},
    },
};

/// Who is who, to put numbers in place of names.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// `server_uuid`s with their servers' numbers.
    pub uuids: Vec<(String, usize)>,
    /// Addresses with them.
    pub addresses: Vec<(Address, usize)>,
}

impl Names {
    fn in_numbers(&self, text: &str) -> String {
        let replaced =
            |text: String, (uuid, number): &(String, usize)| text.replace(uuid, &format!("s{number}"));
        self.uuids.iter().fold(text.to_owned(), replaced)
    }

    fn number(&self, address: &Address) -> String {
        let found = self.addresses.iter().find(|(known, _)| known == address);
        found.map_or_else(|| "?".to_owned(), |(_, number)| number.to_string())
    }

    /// A set, its sources by number. Sorted, since uuids sort otherwise than numbers.
    pub fn set(&self, set: &impl ToString) -> String {
        let text = self.in_numbers(&set.to_string());
        let mut parts: Vec<&str> = text.split(',').collect();
        parts.sort_unstable();
        parts.join(",")
    }

    /// The facts that matter.
    pub fn facts(&self, facts: &ServerFacts) -> String {
        let switches = [
            (facts.read_only, "read_only"),
            (facts.super_read_only == Some(true), "super_read_only"),
            (facts.offline_mode == Some(true), "offline"),
        ];
        let on: Vec<&str> = switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let semi = &facts.semi_sync;
        let mut text = format!(
            "executed [{}] switches {on:?} semi-sync source {:?}/{:?} for {:?} alone {:?} replica {:?}/{:?}",
            self.set(&facts.executed),
            semi.source_enabled,
            semi.source_status,
            semi.source_wait_for,
            semi.source_wait_no_replica,
            semi.replica_enabled,
            semi.replica_status,
        );
        for channel in &facts.channels {
            let code = |error: &Option<(u32, String)>| error.as_ref().map_or(0, |(code, _)| *code);
            // Cannot connect, lost while connecting: whether a dying process still takes a connection is chance.
            let receiver_error = match code(&channel.receiver_error) {
                2003 | 2013 => "connection".to_owned(),
                other => other.to_string(),
            };
            // Without a connection MySQL's answer depends on whether its last event was a heartbeat.
            let lag = match (channel.receiver, channel.lag_s) {
                (Receiver::Running, Some(_)) => "known",
                (Receiver::Running, None) => "unknown",
                _ => "-",
            };
            text += &format!(
                "; from {}{} receiver {:?} error {receiver_error} applier {} error {} received [{}] lag {lag}",
                self.number(&channel.source),
                if channel.by_gtid { "" } else { " by position" },
                channel.receiver,
                channel.applier_running,
                code(&channel.applier_error),
                self.set(&channel.received),
            );
        }
        text
    }

    /// How a step ended.
    pub fn end(&self, end: &StepEnd) -> String {
        match end {
            StepEnd::Done(report) => {
                let facts = report.facts.as_deref().map_or_else(String::new, |facts| self.facts(facts));
                let mut kinds: Vec<&str> =
                    report.blockers.iter().map(|blocker| blocker.kind.as_str()).collect();
                kinds.sort_unstable();
                format!("done, killed {}, blockers {kinds:?}: {facts}", report.killed)
            }
            StepEnd::Refused { .. } => "refused".to_owned(),
            StepEnd::Unknown { .. } => "unknown".to_owned(),
        }
    }
}

/// The kind of end alone.
pub fn kind(end: &StepEnd) -> &'static str {
    match end {
        StepEnd::Done(_) => "done",
        StepEnd::Refused { .. } => "refused",
        StepEnd::Unknown { .. } => "unknown",
    }
}
