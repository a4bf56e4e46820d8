//! Planted mistakes: each is one that a good engineer could make, and each must be caught by a check of the simulation or
//! by a test (`cargo chaos mutants`; docs/safety.md has the table of what caught it). A build with the feature
//! `planted-mistakes` holds them all and makes the one that `QUORATE_MISTAKE` names; without the feature [`planted`] is a
//! constant `false`, and a release build with it is refused.

use std::fmt;

use crate::model::near::near;

#[cfg(all(feature = "planted-mistakes", not(debug_assertions)))]
compile_error!("planted mistakes break promises: a release build may not have them");

/// Names the mistake that is made, in the environment.
pub const VARIABLE: &str = "QUORATE_MISTAKE";

/// Whether this build can make mistakes at all.
pub const COMPILED_IN: bool = cfg!(feature = "planted-mistakes");

/// Whether this mistake is to be made here.
#[cfg(not(feature = "planted-mistakes"))]
#[inline(always)]
pub const fn planted(_: Mistake) -> bool {
    false
}

/// Whether this mistake is to be made here.
#[cfg(feature = "planted-mistakes")]
pub fn planted(mistake: Mistake) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mistake>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| chosen().unwrap_or_else(|unknown| panic!("{unknown}"))) == Some(mistake)
}

/// The mistake that the environment asks for. A build that can make none does not look there.
#[cfg(not(feature = "planted-mistakes"))]
pub const fn chosen() -> Result<Option<Mistake>, UnknownMistake> {
    Ok(None)
}

/// The mistake that the environment asks for.
#[cfg(feature = "planted-mistakes")]
pub fn chosen() -> Result<Option<Mistake>, UnknownMistake> {
    let name = std::env::var_os(VARIABLE);
    name.map(|name| Mistake::named(&name.to_string_lossy())).transpose()
}

/// What one mistake is.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which.
    pub mistake: Mistake,
    /// What it is called.
    pub name: &'static str,
    /// The promise it breaks (docs/safety.md).
    pub promise: &'static str,
    /// The files under `src/` in which it is planted.
    pub places: &'static [&'static str],
    /// What is wrong.
    pub wrong: &'static str,
}

impl Mistake {
    /// The one of that name.
    pub fn named(name: &str) -> Result<Self, UnknownMistake> {
        let found = TABLE.iter().find(|row| row.name == name);
        found.map(|row| row.mistake).ok_or_else(|| UnknownMistake {
            name: name.to_owned(),
            near: near(name, TABLE.iter().map(|row| row.name.to_owned())),
        })
    }
}

/// No mistake has that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMistake {
    /// The name.
    pub name: String,
    /// Names near it.
    pub near: Vec<String>,
}

impl std::error::Error for UnknownMistake {}

impl fmt::Display for UnknownMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no planted mistake is called `{}`", self.name)?;
        match self.near.is_empty() {
            true => Ok(()),
            false => write!(f, "; near it: {}", self.near.join(", ")),
        }
    }
}

/// This machine's wall clock, Unix milliseconds: what [`Mistake::BlockFromLocalClock`] reads, and `core` never does.
pub fn local_clock_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_millis() as u64)
}

macro_rules! table {
    ($($mistake:ident $name:literal $promise:literal [$($place:literal),+] $wrong:literal;)+) => {
        /// The mistakes there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mistake {
            $(#[doc = $wrong] $mistake,)+
        }

        /// All of them, by promise.
        pub const TABLE: &[Row] = &[$(Row {
            mistake: Mistake::$mistake,
            name: $name,
            promise: $promise,
            places: &[$($place),+],
            wrong: $wrong,
        },)+];
    };
}

table! {
    PermitNotChecked "permit-not-checked" "P1" ["executor/permit.rs"]
        "a permit that has expired still lets statements through";
    PermitOutlivesPause "permit-outlives-pause" "P1" ["executor/pulse.rs"]
        "a permit from before a pause of the process lets statements through after it";
    YoungerSessionLent "younger-session-lent" "P1" ["executor/slot.rs"]
        "a step goes over a session that was opened behind what its permit rests on";
    SessionNotConfirmed "session-not-confirmed" "P1" ["server/driver.rs"]
        "where a session was opened for a step, its permit is dated anew without asking who leads";
    ForeignDriverGoesOn "foreign-driver-goes-on" "P1" ["server/driver.rs"]
        "a driver acts on although the log has given its recovery to another";
    DelegationNotChecked "delegation-not-checked" "P1" ["server/peer.rs"]
        "a node fences on another's word, without looking whether the log still allows it";
    QuorumCountsReporters "quorum-counts-reporters" "P2" ["core/agreement.rs"]
        "a majority is taken of the nodes that reported, not of those that vote";
    StaleVerdictAccepted "stale-verdict-accepted" "P2" ["core/agreement.rs"]
        "a verdict counts however old it is";
    ReplicasNotHeard "replicas-not-heard" "P2" ["core/analysis/rows.rs"]
        "a primary that this node does not reach is dead, whatever its replicas receive from it";
    SwitchoverHoldsNoSlot "switchover-holds-no-slot" "P3" ["core/replicated/query.rs"]
        "a failover starts beside a running switchover";
    BlockTooShort "block-too-short" "P3" ["core/replicated/apply/recoveries.rs"]
        "the length of a block is taken for seconds, and divided";
    BlockFromLocalClock "block-from-local-clock" "P3" ["core/replicated/apply/recoveries.rs"]
        "the end of a block is computed from the clock of the node that applies the entry";
    BlockForgottenInSnapshot "block-forgotten-in-snapshot" "P3" ["raft/machine.rs"]
        "blocks are left out of snapshots";
    DowntimeIgnoredAfterRestart "downtime-ignored-after-restart" "P3" ["raft/machine.rs"]
        "downtimes are left out of snapshots: a node that restarts knows of none";
    ClusterSwitchIgnored "cluster-switch-ignored" "P3" ["core/replicated/query.rs"]
        "only the global switch stops automatic recoveries, not the cluster's own";
    LateStartExecuted "late-start-executed" "P4" ["server/leader/recoveries.rs"]
        "a start that was committed late is executed without asking the observers again";
    ForeignRecoveryBegun "foreign-recovery-begun" "P4" ["server/leader/recoveries.rs"]
        "a request that is answered with another term's recovery begins that, and nobody takes it over";
    DecidedAnewBySuccessor "decided-anew-by-successor" "P4" ["core/recovery/stages.rs"]
        "a successor chooses a candidate itself instead of going by the committed decision";
    EndNotAudited "end-not-audited" "P4" ["core/replicated/apply/recoveries.rs"]
        "the end of a cancelled recovery is not in the audit trail";
    UnknownTakenForNo "unknown-taken-for-no" "P4" ["core/recovery/fences.rs"]
        "a fence that ended unknown counts as one that did not land";
    StepRerunNotIdempotent "step-rerun-not-idempotent" "P4" ["executor/actions/apply.rs"]
        "detaching a server that is detached already is refused";
    FenceAfterPromote "fence-after-promote" "P5" ["core/recovery/stages.rs"]
        "the old primary is not fenced before another is promoted; the standing order does it later";
    DrainSkipped "drain-skipped" "P5" ["core/recovery/advance.rs"]
        "the candidate is not waited for until it has applied what it received";
    AckersAfterWritable "ackers-after-writable" "P5" ["core/recovery/ackers.rs"]
        "under semi-sync the candidate takes writes before its ackers follow it";
    PublishedUnverified "published-unverified" "P5" ["core/recovery/stages.rs"]
        "a candidate is published although no write on it could be proven";
    RepointedBeforePublished "repointed-before-published" "P5" ["core/recovery/stages.rs"]
        "the other replicas are re-pointed while the publication is still being committed";
    RelayLogNotProven "relay-log-not-proven" "P5" ["core/plan/applied.rs"]
        "what was received counts as applied when the applier runs";
    OthersLeftAtStop "others-left-at-stop" "P5" ["executor/actions/sessions.rs"]
        "a receiver counts as stopped though an earlier leader's session may still start it";
    CandidateByExecutedSet "candidate-by-executed-set" "P6" ["core/plan/choose.rs"]
        "candidates are compared by what they have executed, not by what they have received";
    FirstSlowStopWins "first-slow-stop-wins" "P6" ["core/recovery/stages.rs"]
        "where all receivers stop slowly, the first that stopped is promoted, whatever the others received";
    OneAckerTooFewRevoked "one-acker-too-few-revoked" "P6" ["core/plan/choose.rs"]
        "under semi-sync as many unreached ackers are accepted as a commit waits for";
    ShrunkSetAccepted "shrunk-set-accepted" "P6" ["core/plan/marks.rs"]
        "an acker that lost what it had received counts as one that was reached";
    RestartedAckerTrusted "restarted-acker-trusted" "P6" ["core/plan/marks.rs"]
        "an acker that was started anew counts as one that holds what it acknowledged before";
    RejoiningAckerNotListed "rejoining-acker-not-listed" "P6" ["core/replicated/apply/orders.rs"]
        "a returned primary acknowledges from its pointing on, and is on record as an acker a moment later";
    ShortenedPrimaryOpened "shortened-primary-opened" "P6" ["core/plan/marks.rs"]
        "an old primary that lost its own last transactions is opened to clients again";
    ShortenedCandidatePromoted "shortened-candidate-promoted" "P6" ["executor/actions/fence.rs"]
        "a candidate that lost what it must hold since it was drained takes writes";
    SwitchoverWithoutEquality "switchover-without-equality" "P6" ["core/plan/choose.rs"]
        "a switchover does not wait for what the old primary holds beyond its candidate";
    LossNotNamed "loss-not-named" "P6" ["core/plan/choose.rs"]
        "what only the old primary was seen to hold is not named as lost";
    SemiSyncTimeoutIgnored "semi-sync-timeout-ignored" "P6" ["core/plan/durability.rs"]
        "a source that gives up waiting for acknowledgements counts as protected";
    DryRunThatActs "dry-run-that-acts" "P7" ["api/desk.rs"]
        "a request that only asks what would happen is carried out";
    RefusalToldOnce "refusal-told-once" "P7" ["server/leader/refusals.rs"]
        "a refusal that was told once is not told again, for the next failure either";
    UndoForgetsUnknownStops "undo-forgets-unknown-stops" "P7" ["core/recovery/undo.rs"]
        "undoing starts only receivers that were seen stopped, not those whose stop ended unknown";
    ReturnedPrimaryLeftWritable "returned-primary-left-writable" "P8" ["server/fencer.rs"]
        "a replaced primary that returns is not fenced";
    VoteNotFlushed "vote-not-flushed" "P9" ["raft/store.rs"]
        "a vote is answered before it is on the disk";
    AppliedIndexAheadOfState "applied-index-ahead-of-state" "P9" ["raft/machine.rs"]
        "an entry counts as applied before it is";
    IncarnationNotChecked "incarnation-not-checked" "P9" ["raft/gate.rs"]
        "a node with a wiped data directory is believed under its old id";
    RequestIdNotDeduplicated "request-id-not-deduplicated" "P9" ["core/replicated/apply.rs"]
        "a request that is sent again takes effect again";
    RequestIdNotForwarded "request-id-not-forwarded" "P9" ["server/group.rs"]
        "a follower passes a request on without its id";
    LogTimeFromWallClock "log-time-from-wall-clock" "P10" ["server/group.rs"]
        "a leader stamps entries with its wall clock";
    ChangedServerPromoted "changed-server-promoted" "P11" ["core/plan/choose.rs", "core/replicated/apply/decisions.rs"]
        "a server whose identity changed, or that was set aside, is a candidate";
    IdentityNotChecked "identity-not-checked" "P11" ["executor/batch.rs"]
        "statements go to whatever server answers at the address";
    StrangerBelieved "stranger-believed" "P11" ["server/observer.rs"]
        "whoever answers at a member's address is taken for that member";
    ErrantServerPromoted "errant-server-promoted" "P11" ["core/plan/choose.rs"]
        "a server with transactions that nobody else knows is a candidate like any other";
    ReturnedPrimaryNotCompared "returned-primary-not-compared" "P11" ["core/plan/rejoin.rs"]
        "a returned primary is rejoined whatever it holds";
    TimeoutIsDeath "timeout-is-death" "P12" ["core/analysis/derive.rs"]
        "a probe that was not answered in time is evidence as hard as a refused connection";
    UrgentRoundNotAwaited "urgent-round-not-awaited" "P12" ["core/agreement.rs"]
        "silence counts before an urgent round has ended without an answer";
    SaturatedIsDead "saturated-is-dead" "P12" ["core/analysis/derive.rs"]
        "a server without a free connection counts as gone";
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match path.is_dir() {
                true => sources(&path, found),
                false => found.push(path),
            }
        }
    }

    /// One that is planted nowhere, or that nobody says how to catch, proves nothing.
    #[test]
    fn each_is_planted_where_the_table_says_and_caught_and_shown() {
        let src = root().join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        files.retain(|file| *file != src.join("mistake.rs"));
        let files: Vec<(String, String)> = files
            .into_iter()
            .map(|file| (file.strip_prefix(&src).expect("below it").display().to_string(), read(&file)))
            .collect();
        let (ways, page) =
            (read(&root().join("chaos/src/mutants/ways.rs")), read(&root().join("docs/safety.md")));
        for row in TABLE {
            let planted = format!("planted(Mistake::{:?})", row.mistake);
            let found: Vec<&str> =
                files.iter().flat_map(|(file, text)| text.matches(&planted).map(|_| file.as_str())).collect();
            assert_eq!(found.len(), row.places.len(), "{}: planted in {found:?}", row.name);
            let found: BTreeSet<&str> = found.into_iter().collect();
            assert_eq!(found, row.places.iter().copied().collect(), "{}", row.name);
            assert_eq!(ways.matches(&format!("\"{}\"", row.name)).count(), 1, "{}: the ways", row.name);
            assert_eq!(page.matches(&format!("| {} |", row.name)).count(), 1, "{}: docs/safety.md", row.name);
        }
        let named = ways.matches("way(").count() - 1;
        assert_eq!(named, TABLE.len(), "ways for mistakes that there are not");
    }

    #[test]
    fn each_is_called_after_its_variant_and_says_what_it_breaks() {
        for row in TABLE {
            let mut name = String::new();
            for letter in format!("{:?}", row.mistake).chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('-');
                }
                name.extend(letter.to_lowercase());
            }
            assert_eq!(row.name, name);
            let promise = row.promise.strip_prefix('P').and_then(|number| number.parse().ok());
            assert!(promise.is_some_and(|number: u32| (1..=12).contains(&number)), "{name}: {}", row.promise);
            assert_eq!(Mistake::named(&name), Ok(row.mistake));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_near_ones() {
        let unknown = Mistake::named("drain-skiped").expect_err("there is none");
        assert_eq!(
            unknown.to_string(),
            "no planted mistake is called `drain-skiped`; near it: drain-skipped"
        );
        let unknown = Mistake::named("block").expect_err("there is none");
        assert!(unknown.near.contains(&"block-too-short".to_owned()), "{unknown}");
    }
}
