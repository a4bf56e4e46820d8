//! Semi-sync on the source's side.

use crate::{
    core::plan::step::StepEnd,
    executor::batch::{GUARD_RAISES, Run, Stopped, done},
    model::server::Flavor,
    session::{Profile, SemiSyncNames},
};

/// The longest time-out both flavours take, milliseconds (49 days). With any that can run out, a source that is
/// paused for so long acknowledges alone (measured: 4 ms after the thaw).
const TIMEOUT_MAX_MS: u64 = 4_294_967_295;

/// The names of the source side, or a refusal that says how to load it.
pub(super) fn source_names(run: &Run<'_>, profile: &Profile) -> Result<SemiSyncNames, StepEnd> {
    profile.semi_source.ok_or_else(|| {
        run.refuse(
            "the semi-sync source plug-in is not loaded: INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
        )
    })
}

/// The profile, asked for again where the source side was not loaded when the session was opened.
pub(super) async fn with_source(run: &mut Run<'_>) -> Result<Profile, StepEnd> {
    match run.profile()? {
        profile if profile.semi_source.is_some() => Ok(profile),
        _ => run.renewed_profile().await,
    }
}

/// Statements that switch the source side on as P6 wants it.
pub(super) fn enabling(profile: &Profile, names: SemiSyncNames, acks: u32) -> Vec<String> {
    let mut statements = vec![
        format!("SET GLOBAL {}_timeout={TIMEOUT_MAX_MS}", names.source()),
        format!("SET GLOBAL {}=ON", names.wait_no_replica()),
    ];
    if profile.flavor == Flavor::MySql {
        statements.push(format!("SET GLOBAL {}={acks}", names.wait_for()));
    }
    statements.push(format!("SET GLOBAL {}_enabled=ON", names.source()));
    statements
}

/// Whether the flavour can wait for that many.
pub(super) fn check_acks(run: &Run<'_>, acks: u32) -> Result<(), StepEnd> {
    match (run.flavor(), acks) {
        (_, 0) => Err(run.refuse("semi-sync with no acknowledgement is none")),
        (Flavor::MariaDb, 2..) => {
            Err(run.refuse(format!("MariaDB waits for one acknowledgement and cannot wait for {acks}")))
        }
        _ => Ok(()),
    }
}

/// Switches the source side on.
pub(super) async fn enable(run: &mut Run<'_>, acks: u32) -> Result<StepEnd, StepEnd> {
    check_acks(run, acks)?;
    let profile = with_source(run).await?;
    let names = source_names(run, &profile)?;
    let after = run.change_all(&enabling(&profile, names, acks)).await?;
    match after.semi_sync.source_status {
        Some(true) => Ok(done(after)),
        _ => Err(run.unknown("switched on, but the server says that it is not in effect".to_owned())),
    }
}

/// The number of commits that wait for an acknowledgement now, as an SQL expression.
fn waiting_commits(run: &Run<'_>, names: SemiSyncNames) -> String {
    let table = match run.flavor() {
        Flavor::MySql => "performance_schema.global_status",
        Flavor::MariaDb => "information_schema.GLOBAL_STATUS",
    };
    format!(
        "(SELECT CAST(VARIABLE_VALUE AS UNSIGNED) FROM {table} WHERE VARIABLE_NAME='{}_wait_sessions')",
        names.source()
    )
}

/// A statement that raises an error while a commit waits, so that those behind it are not begun.
pub(super) fn guard_against_waiting(run: &Run<'_>, names: SemiSyncNames) -> String {
    // A server that does not say counts as one where some wait.
    format!("SELECT ~0 + IF({}=0,0,1) AS quorate_waiting", waiting_commits(run, names))
}

/// Switches the source side off; that tells every waiting client that its commit is safe, so none may wait.
pub(super) async fn disable(run: &mut Run<'_>) -> Result<StepEnd, StepEnd> {
    let Some(names) = with_source(run).await?.semi_source else {
        run.note("no semi-sync source plug-in is loaded");
        return Ok(done(run.facts().await?));
    };
    let statements =
        [guard_against_waiting(run, names), format!("SET GLOBAL {}_enabled=OFF", names.source())];
    match run.change(&statements).await {
        Ok(after) => Ok(done(after)),
        Err(Stopped::At(0, error)) if error.code() == Some(GUARD_RAISES) => {
            Err(run.refuse("commits wait for an acknowledgement and would be told that they have it"))
        }
        Err(stopped) => Err(run.ended(stopped)),
    }
}
