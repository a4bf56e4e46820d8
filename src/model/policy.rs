//! Policy: replicated settings, the same on all nodes. Defaults are safe and stand here only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who is preferred when a new primary is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionRule {
    /// Chosen before every other where it is complete enough.
    Must,
    /// Chosen before neutral ones.
    Prefer,
    /// No preference.
    #[default]
    Neutral,
    /// Chosen only when nobody else is there.
    PreferNot,
    /// Never chosen.
    MustNot,
}

impl PromotionRule {
    /// Every rule, the most preferred first.
    pub const ALL: [Self; 5] = [Self::Must, Self::Prefer, Self::Neutral, Self::PreferNot, Self::MustNot];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Prefer => "prefer",
            Self::Neutral => "neutral",
            Self::PreferNot => "prefer_not",
            Self::MustNot => "must_not",
        }
    }

    /// The rule of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

impl std::fmt::Display for PromotionRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What to do when the best candidate has not applied all it received by the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainPolicy {
    /// Wait on, up to `drain_max_ms`, then refuse.
    #[default]
    Wait,
    /// Take the next candidate that holds as much, else wait.
    NextCandidate,
    /// Cancel the recovery.
    Refuse,
}

/// What to do when fewer ackers would follow the new primary of a semi-sync cluster than a commit waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooFewAckers {
    /// Promote without semi-sync, and say so: writes go on, and are not protected.
    #[default]
    PromoteUnprotected,
    /// Promote nobody.
    Refuse,
}

/// All times in milliseconds; log time where the replicated state measures them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Primaries are probed this often. Default 250.
    pub primary_probe_interval_ms: u64,
    /// Other servers are probed this often. Default 1000.
    pub replica_probe_interval_ms: u64,
    /// A full inventory (replica list, process list, semi-sync settings) is read this often. Default 60000.
    pub inventory_interval_ms: u64,
    /// Silence of a primary, counted from its last answer, after which a node gives a verdict. Default 1200.
    pub silence_ms: u64,
    /// Bound of the urgent round. Default 300.
    pub urgent_round_ms: u64,
    /// How long hard evidence must last. Default 0.
    pub hard_confirm_for_ms: u64,
    /// How long soft evidence must last on top of the silence. Default 0.
    pub soft_confirm_for_ms: u64,
    /// Age up to which a verdict is fresh. Default 2000.
    pub verdict_fresh_for_ms: u64,
    /// A recovery whose first side effect is not recorded starts within this time of its proposal. Default 1000.
    pub start_within_ms: u64,
    /// Anti-flapping block after a completed recovery. Default 1800000 (30 minutes).
    pub block_for_ms: u64,
    /// Pause after a recovery that did not complete; doubles with each up to `retry_backoff_max_ms`. Default 5000.
    pub retry_backoff_ms: u64,
    /// Upper bound of that pause. Default 300000.
    pub retry_backoff_max_ms: u64,
    /// Fleet-wide breaker: at most this many automatic recoveries ... Default 5.
    pub breaker_recoveries: u32,
    /// ... in this time. Default 600000 (10 minutes).
    pub breaker_window_ms: u64,
    /// Deadline of revocation and of each fence attempt. Default 1500.
    pub revoke_deadline_ms: u64,
    /// How long a recovery waits for the fence of the old primary beside the revocation; it goes on by standing
    /// order afterwards. Default 100.
    pub fence_deadline_ms: u64,
    /// Drain: how long the candidate may take to apply what it received. Default 10000.
    pub drain_deadline_ms: u64,
    /// Drain: what to do when it did not. Default wait.
    pub drain_policy: DrainPolicy,
    /// Drain: upper bound of waiting. Default 600000.
    pub drain_max_ms: u64,
    /// Whether an asynchronous cluster may be failed over when transactions are known to be lost. Default true.
    pub allow_known_loss: bool,
    /// Whether a recovery proves the new primary by a write in Quorate's own schema. Default true.
    pub verify_by_write: bool,
    /// Whether a primary may be chosen in another datacenter than the old one's. Default true.
    pub allow_other_datacenter: bool,
    /// Heartbeat period given to replicas that Quorate points. Default 500.
    pub heartbeat_ms: u64,
    /// Connect retry given to replicas that Quorate points, seconds. Default 1.
    pub connect_retry_s: u64,
    /// Whether a returned primary whose set is contained is rejoined by itself. Default true.
    pub rejoin: bool,
    /// How long a switchover may hold writes up before it is undone. Default 2000.
    pub switchover_pause_ms: u64,
    /// A running statement older than this makes a switchover refuse. Default 500.
    pub switchover_long_statement_ms: u64,
    /// How long a member may be unreachable before it counts as lost for judging. Default 0: until `forget`.
    pub member_lost_after_ms: u64,
    /// Shortest time between two restarts of a receiver as a witness on one cluster; within one episode of silence there is
    /// one at most. 0: never. Default 60000.
    pub witness_pause_ms: u64,
    /// Lag from which a replica counts as lagging, seconds. Default 10.
    pub lag_s: u64,
    /// Audit entries kept. Default 10000.
    pub audit_keep: u64,
    /// Recoveries kept with their steps. Default 500.
    pub recoveries_keep: u64,
    /// Fewest acknowledgements a semi-sync cluster must have. Default 1.
    pub semi_sync_acks: u32,
    /// Semi-sync: what to do when too few ackers are left for the new primary. Default promote_unprotected.
    pub on_too_few_ackers: TooFewAckers,
    /// Datacenter of each server address (`HOST` or `HOST:PORT`). Default empty.
    pub datacenters: BTreeMap<String, String>,
}

/// Longest time that a policy may name: 366 days.
const TIME_MS_MAX: u64 = 366 * 86_400_000;
/// Most audit entries, recoveries, or recoveries of the breaker.
const KEPT_MAX: u64 = 100_000;
/// Most acknowledgements (MySQL 8.4 manual, `rpl_semi_sync_source_wait_for_replica_count`).
const ACKS_MAX: u64 = 65_535;
/// Most entries of `datacenters`.
const SERVERS_MAX: usize = 10_000;
/// Longest address or name of a datacenter.
const NAME_MAX: usize = 300;

impl Default for Policy {
    fn default() -> Self {
        Self {
            primary_probe_interval_ms: 250,
            replica_probe_interval_ms: 1_000,
            inventory_interval_ms: 60_000,
            silence_ms: 1_200,
            urgent_round_ms: 300,
            hard_confirm_for_ms: 0,
            soft_confirm_for_ms: 0,
            verdict_fresh_for_ms: 2_000,
            start_within_ms: 1_000,
            block_for_ms: 1_800_000,
            retry_backoff_ms: 5_000,
            retry_backoff_max_ms: 300_000,
            breaker_recoveries: 5,
            breaker_window_ms: 600_000,
            revoke_deadline_ms: 1_500,
            fence_deadline_ms: 100,
            drain_deadline_ms: 10_000,
            drain_policy: DrainPolicy::Wait,
            drain_max_ms: 600_000,
            allow_known_loss: true,
            verify_by_write: true,
            allow_other_datacenter: true,
            heartbeat_ms: 500,
            connect_retry_s: 1,
            rejoin: true,
            switchover_pause_ms: 2_000,
            switchover_long_statement_ms: 500,
            member_lost_after_ms: 0,
            witness_pause_ms: 60_000,
            lag_s: 10,
            audit_keep: 10_000,
            recoveries_keep: 500,
            semi_sync_acks: 1,
            on_too_few_ackers: TooFewAckers::PromoteUnprotected,
            datacenters: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// The keys whose value differs in `to`, in words: `lag_s 10 -> 30`.
    pub fn changes(&self, to: &Self) -> Vec<String> {
        let keys = |policy: &Self| match serde_json::to_value(policy) {
            Ok(serde_json::Value::Object(keys)) => keys,
            _ => unreachable!("a policy is a plain struct"),
        };
        let (before, after) = (keys(self), keys(to));
        let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
        changed
            .map(|(key, value)| {
                let was = before.get(key).cloned().unwrap_or_default();
                format!("{key} {was} -> {value}")
            })
            .collect()
    }

    /// Checks the values against each other; the message names the key.
    pub fn check(&self) -> Result<(), String> {
        let at_least = |key: &str, value: u64, least: u64| match value >= least {
            true => Ok(()),
            false => Err(format!("policy key `{key}` is {value}; it must be at least {least}")),
        };
        self.check_most()?;
        at_least("primary_probe_interval_ms", self.primary_probe_interval_ms, 50)?;
        at_least("replica_probe_interval_ms", self.replica_probe_interval_ms, 100)?;
        at_least("inventory_interval_ms", self.inventory_interval_ms, 1_000)?;
        at_least("silence_ms", self.silence_ms, 2 * self.primary_probe_interval_ms)?;
        at_least("urgent_round_ms", self.urgent_round_ms, 50)?;
        at_least("verdict_fresh_for_ms", self.verdict_fresh_for_ms, 200)?;
        at_least("start_within_ms", self.start_within_ms, 100)?;
        at_least("retry_backoff_max_ms", self.retry_backoff_max_ms, self.retry_backoff_ms)?;
        at_least("breaker_recoveries", self.breaker_recoveries.into(), 1)?;
        at_least("breaker_window_ms", self.breaker_window_ms, 1_000)?;
        at_least("revoke_deadline_ms", self.revoke_deadline_ms, 50)?;
        at_least("drain_deadline_ms", self.drain_deadline_ms, 100)?;
        at_least("drain_max_ms", self.drain_max_ms, self.drain_deadline_ms)?;
        at_least("heartbeat_ms", self.heartbeat_ms, 50)?;
        at_least("connect_retry_s", self.connect_retry_s, 1)?;
        at_least("switchover_pause_ms", self.switchover_pause_ms, 100)?;
        at_least("audit_keep", self.audit_keep, 100)?;
        at_least("recoveries_keep", self.recoveries_keep, 10)?;
        at_least("semi_sync_acks", self.semi_sync_acks.into(), 1)
    }

    /// Upper bounds: whoever adds such a value to a time gets a time.
    fn check_most(&self) -> Result<(), String> {
        let within = |key: &str, value: u64, most: u64| match value <= most {
            true => Ok(()),
            false => Err(format!("policy key `{key}` is {value}; it must be at most {most}")),
        };
        for (key, value) in self.times_ms() {
            within(key, value, TIME_MS_MAX)?;
        }
        within("connect_retry_s", self.connect_retry_s, TIME_MS_MAX / 1_000)?;
        within("lag_s", self.lag_s, TIME_MS_MAX / 1_000)?;
        within("breaker_recoveries", self.breaker_recoveries.into(), KEPT_MAX)?;
        within("semi_sync_acks", self.semi_sync_acks.into(), ACKS_MAX)?;
        within("audit_keep", self.audit_keep, KEPT_MAX)?;
        within("recoveries_keep", self.recoveries_keep, KEPT_MAX)?;
        let long = |(address, name): (&String, &String)| address.len() > NAME_MAX || name.len() > NAME_MAX;
        match self.datacenters.len() > SERVERS_MAX || self.datacenters.iter().any(long) {
            true => Err(format!(
                "policy key `datacenters` may have {SERVERS_MAX} entries, of {NAME_MAX} characters on each side"
            )),
            false => Ok(()),
        }
    }

    fn times_ms(&self) -> [(&'static str, u64); 22] {
        [
            ("primary_probe_interval_ms", self.primary_probe_interval_ms),
            ("replica_probe_interval_ms", self.replica_probe_interval_ms),
            ("inventory_interval_ms", self.inventory_interval_ms),
            ("silence_ms", self.silence_ms),
            ("urgent_round_ms", self.urgent_round_ms),
            ("hard_confirm_for_ms", self.hard_confirm_for_ms),
            ("soft_confirm_for_ms", self.soft_confirm_for_ms),
            ("verdict_fresh_for_ms", self.verdict_fresh_for_ms),
            ("start_within_ms", self.start_within_ms),
            ("block_for_ms", self.block_for_ms),
            ("retry_backoff_ms", self.retry_backoff_ms),
            ("retry_backoff_max_ms", self.retry_backoff_max_ms),
            ("breaker_window_ms", self.breaker_window_ms),
            ("revoke_deadline_ms", self.revoke_deadline_ms),
            ("fence_deadline_ms", self.fence_deadline_ms),
            ("drain_deadline_ms", self.drain_deadline_ms),
            ("drain_max_ms", self.drain_max_ms),
            ("heartbeat_ms", self.heartbeat_ms),
            ("switchover_pause_ms", self.switchover_pause_ms),
            ("switchover_long_statement_ms", self.switchover_long_statement_ms),
            ("member_lost_after_ms", self.member_lost_after_ms),
            ("witness_pause_ms", self.witness_pause_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_an_upper_bound() {
        let serde_json::Value::Object(defaults) = serde_json::to_value(Policy::default()).unwrap() else {
            panic!("an object")
        };
        for (key, _) in defaults.iter().filter(|(_, value)| value.is_u64()) {
            for huge in [u64::MAX, u64::MAX / 2, 1 << 63, u64::from(u32::MAX)] {
                let mut wrong = defaults.clone();
                wrong.insert(key.clone(), huge.into());
                let Ok(policy) = serde_json::from_value::<Policy>(wrong.into()) else { continue };
                match policy.check() {
                    Err(why) => assert!(why.contains(&format!("`{key}`")) || huge < 1 << 40, "{key}: {why}"),
                    // The largest of 32 bits is 50 days.
                    Ok(()) => assert!(huge == u64::from(u32::MAX) && key.ends_with("_ms"), "{key} = {huge}"),
                }
            }
        }
    }

    #[test]
    fn a_change_of_policy_is_told_by_key() {
        let before = Policy::default();
        let datacenters = BTreeMap::from([("db1".to_owned(), "dc1".to_owned())]);
        let after = Policy { lag_s: 30, datacenters, ..Policy::default() };
        assert_eq!(before.changes(&after), [r#"datacenters {} -> {"db1":"dc1"}"#, "lag_s 10 -> 30"]);
        assert!(before.changes(&before).is_empty());
    }
}
