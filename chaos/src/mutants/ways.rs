//! How each planted mistake is caught: each way that is named here must catch it.

use crate::flavor::Flavor;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A check of the simulation.
    Sim,
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
            By::Sim => None,
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
    way(
        "permit-outlives-pause",
        &[
            lib("executor::pulse::tests::a_pause_is_seen_before_and_after_the_beat_that_notices_it"),
            live_executor("bounds::mysql::a_permit_from_before_a_pause_sends_nothing"),
        ],
    ),
    way(
        "younger-session-lent",
        &[live_executor("bounds::mysql::a_session_younger_than_the_permit_sends_nothing")],
    ),
    way(
        "session-not-confirmed",
        &[lib("server::tests::a_session_that_is_opened_for_a_step_is_confirmed_anew")],
    ),
    way(
        "foreign-driver-goes-on",
        &[lib("server::tests::what_the_log_gives_to_another_is_left_alone_at_once")],
    ),
    way(
        "delegation-not-checked",
        &[
            lib("server::tests::delegations::who_does_not_own_the_recovery_has_nothing_fenced"),
            lib("server::tests::delegations::what_was_given_up_or_has_ended_has_nothing_fenced"),
            lib("server::tests::delegations::what_is_given_up_meanwhile_has_nothing_fenced"),
        ],
    ),
    way("quorum-counts-reporters", &[By::Sim]),
    way(
        "stale-verdict-accepted",
        &[lib("core::agreement::tests::stale_outdated_blind_and_foreign_verdicts_do_not_count")],
    ),
    way(
        "replicas-not-heard",
        &[By::Test { target: "analysis_cases", name: "scenarios::each_table_gives_what_it_says" }],
    ),
    way("switchover-holds-no-slot", &[By::Sim]),
    way("block-too-short", &[By::Sim]),
    way("block-from-local-clock", &[By::Sim]),
    way("block-forgotten-in-snapshot", &[By::Sim]),
    way(
        "downtime-ignored-after-restart",
        &[By::Test {
            target: "state_properties",
            name: "a_snapshot_and_the_rest_of_the_log_are_the_whole_log",
        }],
    ),
    way("cluster-switch-ignored", &[By::Sim]),
    way("late-start-executed", &[By::Sim]),
    way(
        "foreign-recovery-begun",
        &[lib("server::tests::a_request_sent_again_starts_nothing_that_was_not_taken_over")],
    ),
    way(
        "decided-anew-by-successor",
        &[lib("core::recovery::tests::a_successor_promotes_whom_its_predecessor_had_decided_on")],
    ),
    way("end-not-audited", &[By::Sim]),
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
    way("fence-after-promote", &[By::Sim]),
    way("drain-skipped", &[By::Sim]),
    way("ackers-after-writable", &[By::Sim]),
    way("published-unverified", &[By::Sim]),
    way("repointed-before-published", &[By::Sim]),
    way("relay-log-not-proven", &[By::Sim]),
    way(
        "others-left-at-stop",
        &[
            live_executor("sessions::mysql::a_receiver_that_was_stopped_is_not_started_by_another_node"),
            live_executor("sessions::mariadb::a_receiver_that_was_stopped_is_not_started_by_another_node"),
        ],
    ),
    way("candidate-by-executed-set", &[lib("core::recovery::tests::the_one_that_received_most_is_promoted")]),
    way(
        "first-slow-stop-wins",
        &[lib("core::recovery::tests::of_slow_stops_the_first_to_end_is_not_preferred")],
    ),
    way(
        "one-acker-too-few-revoked",
        &[lib("core::plan::choose::tests::semi_sync_demands_all_ackers_but_k_minus_one")],
    ),
    way(
        "shrunk-set-accepted",
        &[lib("core::plan::choose::tests::an_acker_whose_set_shrank_counts_as_unreached")],
    ),
    way(
        "restarted-acker-trusted",
        &[lib(
            "core::plan::choose::tests::an_acker_that_was_started_anew_counts_as_unreached_until_it_was_seen_caught_up",
        )],
    ),
    way(
        "rejoining-acker-not-listed",
        &[lib(
            "core::replicated::apply::orders::tests::who_is_rejoined_is_on_record_as_an_acker_before_it_is_pointed",
        )],
    ),
    way(
        "shortened-primary-opened",
        &[lib("core::plan::marks::tests::an_old_primary_that_lost_its_own_is_not_opened_again")],
    ),
    way(
        "shortened-candidate-promoted",
        &[live_executor("fence::mysql::a_candidate_that_lost_what_it_must_hold_takes_no_writes")],
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
    way("refusal-told-once", &[By::Sim]),
    way(
        "undo-forgets-unknown-stops",
        &[lib("core::recovery::tests::enough_unreached_ackers_stop_a_semi_sync_failover_and_undo_it")],
    ),
    way("returned-primary-left-writable", &[By::Sim]),
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
    way("request-id-not-forwarded", &[By::Sim]),
    way("log-time-from-wall-clock", &[By::Sim]),
    way(
        "changed-server-promoted",
        &[By::Test { target: "state_properties", name: "every_law_holds_after_every_command" }],
    ),
    way(
        "identity-not-checked",
        &[live_executor("bounds::mysql::another_server_under_that_address_is_refused"), By::Sim],
    ),
    way("stranger-believed", &[By::Sim]),
    way("errant-server-promoted", &[By::Sim]),
    way("returned-primary-not-compared", &[By::Sim]),
    way("timeout-is-death", &[By::Sim]),
    way(
        "urgent-round-not-awaited",
        &[lib("core::agreement::tests::soft_evidence_needs_a_finished_urgent_round_of_each")],
    ),
    way(
        "saturated-is-dead",
        &[By::Test { target: "analysis_cases", name: "scenarios::each_table_gives_what_it_says" }],
    ),
];
