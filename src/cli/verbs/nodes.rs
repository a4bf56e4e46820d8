//! The group of nodes.

use std::{fs, io::Write, path::Path, time::Duration};

use serde_json::json;
use tonic::transport::Channel;

use super::ask;
use crate::{
    cli::{Printer, args::NodesVerb, connect::Session, error::CliError, json, show},
    proto::v1::{self as pb, nodes_client::NodesClient},
};

/// A new group dials all its nodes.
const INIT_MAX: Duration = Duration::from_secs(60);

fn nodes(channel: Channel) -> NodesClient<Channel> {
    NodesClient::new(channel)
}

/// Runs one of these verbs.
pub async fn run(session: &mut Session, out: &Printer, verb: NodesVerb) -> Result<(), CliError> {
    let by = session.by.clone();
    let changed = match verb {
        NodesVerb::Init { nodes } => return init(session, out, &nodes).await,
        NodesVerb::Status => return status(session, out).await,
        NodesVerb::Backup { file } => return backup(session, out, &file).await,
        NodesVerb::Add { node } => {
            ask!(session, nodes, add, pb::AddNodeRequest { node: Some(numbered(&node)?), by })
        }
        NodesVerb::MakeVoter { id } => ask!(session, nodes, make_voter, pb::MakeVoterRequest { id, by }),
        NodesVerb::Remove { id } => ask!(session, nodes, remove, pb::RemoveNodeRequest { id, by }),
        NodesVerb::Replace { old, node } => {
            let request = pb::ReplaceNodeRequest { old_id: old, node: Some(numbered(&node)?), by };
            ask!(session, nodes, replace, request)
        }
        NodesVerb::TransferLeader { to } => {
            let request = pb::TransferLeaderRequest { to: to.unwrap_or_default(), by };
            ask!(session, nodes, transfer_leader, request)
        }
        NodesVerb::Restore { .. } | NodesVerb::Rebuild { .. } => {
            return Err(CliError::usage("not a client command"));
        }
    };
    let changed = changed?;
    let group = changed.status.clone().unwrap_or_default();
    out.print(
        || json!({"text": changed.text, "status": json::group(&group)}),
        |paint| format!("{}\n{}", changed.text, show::group::status(&group, paint)),
    )
}

/// `ID=HOST:PORT`.
fn numbered(text: &str) -> Result<pb::NodeAddress, CliError> {
    let bad = |why: String| {
        CliError::usage(format!("`{text}`: {why}; write ID=HOST:PORT, such as 1=10.0.0.1:7101"))
    };
    let (id, address) = text.split_once('=').ok_or_else(|| bad("no `=`".into()))?;
    let id: u64 = id.parse().map_err(|_| bad(format!("`{id}` is no number")))?;
    let address: crate::model::address::Address = address.parse().map_err(|e| bad(format!("{e}")))?;
    Ok(pb::NodeAddress { id, address: address.to_string() })
}

async fn init(session: &mut Session, out: &Printer, texts: &[String]) -> Result<(), CliError> {
    let named = texts.iter().map(|text| numbered(text)).collect::<Result<_, _>>()?;
    let request = pb::InitRequest { nodes: named };
    let made = session
        .ask_for(INIT_MAX, request, |channel, request| async move { nodes(channel).init(request).await })
        .await?;
    let list: Vec<_> = made.nodes.iter().map(|n| json!({"id": n.id, "address": n.address})).collect();
    out.print(|| json!({"group": made.group, "nodes": list}), |_| show::group::initialised(&made))
}

async fn status(session: &mut Session, out: &Printer) -> Result<(), CliError> {
    let group = ask!(session, nodes, status, pb::StatusRequest { stale: session.stale })?;
    out.print(|| json::group(&group), |paint| show::group::status(&group, paint))
}

/// Written beside and renamed at the end: a file that is there is whole.
async fn backup(session: &mut Session, out: &Printer, file: &Path) -> Result<(), CliError> {
    let fail =
        |what: &str, error: std::io::Error| CliError::local(format!("{}: {what}: {error}", file.display()));
    if file.exists() {
        return Err(CliError::usage(format!("{} exists already", file.display())));
    }
    let mut parts = ask!(session, nodes, backup, pb::BackupRequest {})?;
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = folder.join(format!(".{name}.partial"));
    let mut to = fs::File::create(&partial).map_err(|e| fail("cannot be created", e))?;
    let (mut bytes, mut index) = (0u64, 0u64);
    loop {
        let part = match parts.message().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(status) => {
                let _left_for_nobody = fs::remove_file(&partial);
                return Err(CliError::from_status(&status));
            }
        };
        to.write_all(&part.data).map_err(|e| fail("cannot be written", e))?;
        bytes += part.data.len() as u64;
        index = index.max(part.log_index);
    }
    to.sync_all().map_err(|e| fail("cannot be written", e))?;
    fs::rename(&partial, file).map_err(|e| fail("cannot be renamed", e))?;
    let path = file.display().to_string();
    out.print(
        || json!({"file": path, "bytes": bytes, "log_index": index}),
        |_| format!("{path}: {bytes} bytes, the state as of log index {index}\n"),
    )
}
