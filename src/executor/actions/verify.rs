//! The proof by a write.

use crate::{
    core::plan::step::StepEnd,
    executor::batch::{Run, Stopped, done},
    session::literal,
};

/// Unknown database; no such table.
const NOT_THERE: [u16; 2] = [1049, 1146];

const CREATE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS quorate",
    "CREATE TABLE IF NOT EXISTS quorate.verified_write (recovery VARCHAR(128) CHARACTER SET ascii NOT NULL PRIMARY KEY, \
     primary_epoch BIGINT UNSIGNED NOT NULL, node BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL)",
];

/// Writes a row keyed by `recovery`. Accounts with administrative rights write through `read_only`, so the switches
/// are read back too: only both together prove that clients can write.
pub(super) async fn write(run: &mut Run<'_>, recovery: &str, epoch: u64) -> Result<StepEnd, StepEnd> {
    let node = run.options.node;
    let insert = format!(
        "INSERT INTO quorate.verified_write (recovery, primary_epoch, node, at) VALUES ({}, {epoch}, {node}, NOW(6)) \
         ON DUPLICATE KEY UPDATE primary_epoch={epoch}, node={node}, at=NOW(6)",
        literal(recovery)
    );
    let written = match run.change(std::slice::from_ref(&insert)).await {
        Err(Stopped::At(_, error)) if error.code().is_some_and(|code| NOT_THERE.contains(&code)) => {
            run.note("made the schema `quorate`");
            let mut statements: Vec<String> = CREATE.map(str::to_owned).into();
            statements.push(insert);
            run.change(&statements).await
        }
        other => other,
    };
    match written {
        Ok(facts) if facts.writable() => Ok(done(facts)),
        Ok(_) => {
            Err(run
                .unknown("the row was written, but clients cannot write: the server is read-only".to_owned()))
        }
        Err(stopped) => Err(run.ended(stopped)),
    }
}
