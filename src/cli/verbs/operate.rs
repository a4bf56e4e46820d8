//! Role changes and acknowledgements.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{ask, recovery};
use crate::{
    cli::{
        Printer,
        args::Waive,
        connect::Session,
        error::{CliError, EXIT_FAILED, EXIT_NO_LEADER, EXIT_UNREACHABLE},
        json, show,
    },
    proto::v1::{self as pb, acknowledge_request::Scope},
};

/// One wait at a node.
const WAIT_MS: u32 = 10_000;
/// How long nobody may answer before the wait is given up; the operation goes on without us.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The rule's name in the API.
pub fn waiver(waive: Waive) -> pb::Waiver {
    match waive {
        Waive::Block => pb::Waiver::Block,
        Waive::Disabled => pb::Waiver::Disabled,
        Waive::Verdict => pb::Waiver::Verdict,
        Waive::Loss => pb::Waiver::Loss,
    }
}

/// Names the rule to waive against this refusal, where there is one.
pub fn with_waiver(error: CliError) -> CliError {
    let rule = match error.reason.as_str() {
        "NO_MAJORITY_VERDICT" | "PRIMARY_STILL_ANSWERS" => "verdict",
        "CLUSTER_BLOCKED" => "block",
        "RECOVERIES_DISABLED" | "DOWNTIME" | "MAINTENANCE" => "disabled",
        "POSSIBLE_DATA_LOSS" | "TOO_FEW_ACKERS" => "loss",
        _ => return error,
    };
    let text = format!(
        "{}\nIf you know better: --waive {rule} (`quorate failover --help` says what that means)",
        error.text
    );
    CliError { text, ..error }
}

/// Prints the plan of a dry run, or waits for the end of what was started.
pub async fn finish(
    session: &mut Session,
    out: &Printer,
    answer: pb::OperationResponse,
    no_wait: bool,
) -> Result<(), CliError> {
    if let Some(plan) = answer.plan {
        return out.print(|| json::plan(&plan), |paint| show::recovery::plan(&plan, paint));
    }
    let Some(started) = answer.recovery else {
        return Err(CliError::local("the node answered without a recovery"));
    };
    let record = if no_wait { started } else { wait(session, out, started).await? };
    out.print(|| json::recovery(&record), |paint| show::recovery::whole(&record, paint))?;
    match record.state() {
        pb::RecoveryState::Failed | pb::RecoveryState::Cancelled => {
            let text = format!(
                "{} {} {}: {}",
                json::kind_name(record.kind()),
                record.id,
                json::state_name(record.state()),
                record.reason
            );
            Err(CliError::new(EXIT_FAILED, "NOT_SUCCEEDED", text))
        }
        _ => Ok(()),
    }
}

async fn wait(
    session: &mut Session,
    out: &Printer,
    started: pb::RecoveryRecord,
) -> Result<pb::RecoveryRecord, CliError> {
    let id = started.id;
    if !out.json && started.state() == pb::RecoveryState::Running {
        eprintln!("{} {id} is running ...", json::kind_name(started.kind()));
    }
    let mut record = started;
    let mut heard = Instant::now();
    while record.state() == pb::RecoveryState::Running {
        let request = pb::WaitRecoveryRequest { recovery: id, timeout_ms: WAIT_MS };
        match ask!(session, recovery, wait_recovery, request) {
            Ok(newer) => (record, heard) = (newer, Instant::now()),
            Err(error) => {
                let passing = matches!(error.exit, EXIT_UNREACHABLE | EXIT_NO_LEADER);
                if !passing || heard.elapsed() > SILENCE_MAX {
                    let text =
                        format!("{id} was started and goes on; waiting for its end failed: {}", error.text);
                    return Err(CliError { text, ..error });
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    Ok(record)
}

/// Acknowledges one, all of a cluster, or all.
pub async fn acknowledge(
    session: &mut Session,
    out: &Printer,
    id: Option<u64>,
    cluster: Option<String>,
    comment: String,
) -> Result<(), CliError> {
    let scope = match (id, cluster) {
        (Some(id), _) => Scope::Recovery(id),
        (None, Some(cluster)) => Scope::Cluster(cluster),
        (None, None) => Scope::All(true),
    };
    let request = pb::AcknowledgeRequest {
        scope: Some(scope),
        comment,
        request_id: session.request_id.clone(),
        validate_only: false,
        by: session.by.clone(),
    };
    let done = ask!(session, recovery, acknowledge, request)?;
    let ids = &done.acknowledged;
    out.print(
        || json!({"acknowledged": ids, "log_index": done.log_index}),
        |_| match ids.is_empty() {
            true => "nothing was left to acknowledge\n".into(),
            false => {
                let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
                format!("acknowledged {}\n", ids.join(", "))
            }
        },
    )
}
