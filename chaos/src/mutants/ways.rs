//! How each planted mistake is caught: each way that is named here must catch it.

use crate::flavor::Flavor;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A check of the simulation; only in runs of this kind, where one is named.
    Sim(Option<&'static str>),
    /// A test.
    Test {
        /// `lib`, or a target under `tests/`.
        target: &'static str,
        /// Its name there.
        name: &'static str,
    },
}

/// A mistake with its ways.
#[derive(Debug)]
pub struct Way {
    /// Which.
    pub mistake: &'static str,
    /// Each of these catches it.
    pub by: &'static [By],
}

impl By {
    /// The test target that is needed.
    pub fn target(&self) -> Option<&'static str> {
        match self {
            By::Sim(_) => None,
            By::Test { target, .. } => Some(target),
        }
    }

    /// The servers that it needs.
    pub fn servers(&self) -> &'static [Flavor] {
        match self.target() {
            Some(target) if target.starts_with("live") => &Flavor::ALL,
            _ => &[],
        }
    }
}

const SIM: By = By::Sim(None);

const fn lib(name: &'static str) -> By {
    By::Test { target: "lib", name }
}

const fn live_executor(name: &'static str) -> By {
    By::Test { target: "live_executor", name }
}

const fn way(mistake: &'static str, by: &'static [By]) -> Way {
    Way { mistake, by }
}

/// All of them, in the order of `src/mistake.rs`.
pub const WAYS: &[Way] = &[
    way("permit-not-checked", &[live_executor("bounds::mysql::an_expired_permit_sends_nothing")]),
    way("delegation-not-checked", &[SIM]),
    way("quorum-counts-reporters", &[SIM]),
    way(
        "stale-verdict-accepted",
        &[lib("core::agreement::tests::stale_outdated_blind_and_foreign_verdicts_do_not_count")],
    ),
    way(
        "replicas-not-heard",
        &[By::Test { target: "analysis_cases", name: "scenarios::each_table_gives_what_it_says" }],
    ),
    way("switchover-holds-no-slot", &[SIM]),
    way("block-too-short", &[SIM]),
    way("block-from-local-clock", &[SIM]),
    way("block-forgotten-in-snapshot", &[SIM]),
    way(
        "downtime-ignored-after-restart",
        &[By::Test {
            target: "state_properties",
            name: "a_snapshot_and_the_rest_of_the_log_are_the_whole_log",
        }],
    ),
    way("cluster-switch-ignored", &[SIM]),
    way("late-start-executed", &[SIM]),
    way("decided-anew-by-successor", &[SIM]),
    way("end-not-audited", &[SIM]),
    way(
        "unknown-taken-for-no",
        &[lib(
            "core::recovery::tests::fences::a_recovery_whose_fence_may_still_land_stays_open_until_the_primary_was_seen_open",
        )],
    ),
    way(
        "step-rerun-not-idempotent",
        &[live_executor("mysql::a_replica_is_revoked_drained_detached_and_made_writable")],
    ),
    way("fence-after-promote", &[SIM]),
    way("drain-skipped", &[SIM]),
    way("ackers-after-writable", &[SIM]),
    way("published-unverified", &[SIM]),
    way("repointed-before-published", &[SIM]),
    way("relay-log-not-proven", &[SIM]),
    way("candidate-by-executed-set", &[lib("core::recovery::tests::the_one_that_received_most_is_promoted")]),
    way(
        "one-acker-too-few-revoked",
        &[lib("core::plan::choose::tests::semi_sync_demands_all_ackers_but_k_minus_one")],
    ),
    way(
        "shrunk-set-accepted",
        &[lib("core::plan::choose::tests::an_acker_whose_set_shrank_counts_as_unreached")],
    ),
    way(
        "switchover-without-equality",
        &[lib("core::plan::choose::tests::a_switchover_waits_for_all_that_the_fenced_primary_holds")],
    ),
    way("loss-not-named", &[lib("core::recovery::tests::what_nobody_received_is_recorded_as_lost")]),
    way(
        "semi-sync-timeout-ignored",
        &[lib("core::plan::durability::tests::only_a_source_that_waits_for_ever_for_enough_ackers_protects")],
    ),
    way(
        "dry-run-that-acts",
        &[By::Test {
            target: "api_grpc",
            name: "mutations::validating_tells_the_effects_and_changes_nothing",
        }],
    ),
    way(
        "undo-forgets-unknown-stops",
        &[lib("core::recovery::tests::enough_unreached_ackers_stop_a_semi_sync_failover_and_undo_it")],
    ),
    way("returned-primary-left-writable", &[SIM]),
    way(
        "vote-not-flushed",
        &[lib("raft::node::promises::every_answered_append_and_vote_survives_a_power_cut")],
    ),
    way(
        "applied-index-ahead-of-state",
        &[lib("raft::node::oddities::a_node_stops_before_a_command_it_does_not_understand")],
    ),
    way(
        "incarnation-not-checked",
        &[lib("raft::node::oddities::a_vote_is_given_only_to_whom_the_membership_names_so")],
    ),
    way(
        "request-id-not-deduplicated",
        &[By::Test { target: "state_properties", name: "every_law_holds_after_every_command" }],
    ),
    way("request-id-not-forwarded", &[SIM]),
    way("log-time-from-wall-clock", &[SIM]),
    way(
        "changed-server-promoted",
        &[By::Test { target: "state_properties", name: "every_law_holds_after_every_command" }],
    ),
    way(
        "identity-not-checked",
        &[live_executor("bounds::mysql::another_server_under_that_address_is_refused")],
    ),
    way("errant-server-promoted", &[SIM]),
    way("returned-primary-not-compared", &[SIM]),
    way("timeout-is-death", &[SIM]),
    way(
        "urgent-round-not-awaited",
        &[lib("core::agreement::tests::soft_evidence_needs_a_finished_urgent_round_of_each")],
    ),
    way(
        "saturated-is-dead",
        &[By::Test { target: "analysis_cases", name: "scenarios::each_table_gives_what_it_says" }],
    ),
];
