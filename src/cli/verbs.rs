//! One function a verb: its request, its answer, how it is printed.

mod events;
mod nodes;
mod operate;
mod settings;

use tonic::transport::Channel;

use super::{
    Printer,
    args::{Cli, Verb},
    connect::Session,
    error::CliError,
    json, show,
};
use crate::proto::v1::{self as pb, recovery_client::RecoveryClient, topology_client::TopologyClient};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

fn topology(channel: Channel) -> TopologyClient<Channel> {
    TopologyClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn recovery(channel: Channel) -> RecoveryClient<Channel> {
    RecoveryClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Asks one typed call of the session: `ask!(session, client, method, request)`.
macro_rules! ask {
    ($session:expr, $client:expr, $method:ident, $request:expr) => {
        $session
            .ask($request, |channel, request| async move { $client(channel).$method(request).await })
            .await
    };
}
pub(super) use ask;

/// Runs a verb.
pub async fn run(cli: Cli, out: &Printer) -> Result<(), CliError> {
    if let Verb::Completions { shell } = cli.verb {
        return completions(shell);
    }
    let mut session = Session::new(&cli.connect)?;
    let session = &mut session;
    match cli.verb {
        Verb::Clusters => clusters(session, out).await,
        Verb::Topology { cluster } => show_topology(session, out, cluster).await,
        Verb::Problems { cluster } => problems(session, out, cluster).await,
        Verb::Explain { cluster } => explain(session, out, cluster).await,
        Verb::Plan { cluster } => plan(session, out, cluster).await,
        Verb::Recoveries { cluster, limit } => recoveries(session, out, cluster, limit).await,
        Verb::Recovery { id } => one_recovery(session, out, id).await,
        Verb::Events(args) => events::run(session, out, args).await,
        Verb::Discover { address, alias, dry_run } => discover(session, out, address, alias, dry_run).await,
        Verb::Ack { recovery, cluster, comment, .. } => {
            operate::acknowledge(session, out, recovery, cluster, comment).await
        }
        Verb::Switchover { cluster, to, dry_run, kill_writers, no_wait } => {
            let request = pb::SwitchoverRequest {
                cluster,
                to: to.unwrap_or_default(),
                kill_writers,
                request_id: session.request_id.clone(),
                validate_only: dry_run,
                by: session.by.clone(),
            };
            let answer = ask!(session, recovery, switchover, request)?;
            operate::finish(session, out, answer, no_wait).await
        }
        Verb::Failover { cluster, to, dry_run, waive, no_wait } => {
            let request = pb::FailoverRequest {
                cluster,
                to: to.unwrap_or_default(),
                waive: waive.into_iter().map(|w| operate::waiver(w).into()).collect(),
                request_id: session.request_id.clone(),
                validate_only: dry_run,
                by: session.by.clone(),
            };
            let answer = ask!(session, recovery, failover, request).map_err(operate::with_waiver)?;
            operate::finish(session, out, answer, no_wait).await
        }
        Verb::Nodes(verb) => nodes::run(session, out, verb).await,
        Verb::Serve { .. } | Verb::Completions { .. } => Err(CliError::usage("not a client command")),
        other => settings::run(session, out, other).await,
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "quorate", &mut text);
    super::write_out(&String::from_utf8_lossy(&text))
}

async fn clusters(session: &mut Session, out: &Printer) -> Result<(), CliError> {
    let list = ask!(session, topology, list_clusters, pb::ListClustersRequest { stale: session.stale })?;
    out.print(|| json::clusters(&list.clusters), |paint| show::lists::clusters(&list.clusters, paint))
}

async fn show_topology(
    session: &mut Session,
    out: &Printer,
    cluster: Option<String>,
) -> Result<(), CliError> {
    let stale = session.stale;
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => only_cluster(session).await?,
    };
    let whole = ask!(session, topology, get_cluster, pb::GetClusterRequest { cluster, stale })?;
    out.print(|| json::cluster(&whole), |paint| show::lists::topology(&whole, paint))
}

async fn only_cluster(session: &mut Session) -> Result<String, CliError> {
    let list = ask!(session, topology, list_clusters, pb::ListClustersRequest { stale: session.stale })?;
    let name = |c: &pb::ClusterSummary| show::cluster_name(&c.alias, &c.cluster).to_owned();
    match list.clusters.as_slice() {
        [one] => Ok(one.cluster.clone()),
        [] => Err(CliError::local("no cluster yet; `quorate discover HOST:PORT` adopts one")),
        many => {
            let names: Vec<String> = many.iter().map(name).collect();
            Err(CliError::usage(format!("which one? there are {}", names.join(", "))))
        }
    }
}

async fn problems(session: &mut Session, out: &Printer, cluster: Option<String>) -> Result<(), CliError> {
    let request = pb::ListProblemsRequest { cluster: cluster.unwrap_or_default(), stale: session.stale };
    let list = ask!(session, topology, list_problems, request)?;
    out.print(|| json::problems(&list.problems), |paint| show::lists::problems(&list.problems, paint))
}

async fn explain(session: &mut Session, out: &Printer, cluster: String) -> Result<(), CliError> {
    let answer = ask!(session, recovery, explain, pb::ExplainRequest { cluster, stale: session.stale })?;
    out.print(|| json::explain(&answer), |paint| show::recovery::explain(&answer, paint))
}

async fn plan(session: &mut Session, out: &Printer, cluster: String) -> Result<(), CliError> {
    let answer = ask!(session, recovery, get_plan, pb::GetPlanRequest { cluster, stale: session.stale })?;
    out.print(|| json::plan(&answer), |paint| show::recovery::plan(&answer, paint))
}

async fn recoveries(
    session: &mut Session,
    out: &Printer,
    cluster: Option<String>,
    limit: u32,
) -> Result<(), CliError> {
    let cluster = cluster.unwrap_or_default();
    let request = pb::ListRecoveriesRequest { cluster, limit, before: 0, stale: session.stale };
    let list = ask!(session, recovery, list_recoveries, request)?;
    out.print(|| json::recoveries(&list.recoveries), |paint| show::recovery::list(&list.recoveries, paint))
}

async fn one_recovery(session: &mut Session, out: &Printer, id: u64) -> Result<(), CliError> {
    let request = pb::GetRecoveryRequest { recovery: id, stale: session.stale };
    let record = ask!(session, recovery, get_recovery, request)?;
    out.print(|| json::recovery(&record), |paint| show::recovery::whole(&record, paint))
}

async fn discover(
    session: &mut Session,
    out: &Printer,
    address: String,
    alias: Option<String>,
    dry_run: bool,
) -> Result<(), CliError> {
    let request = pb::DiscoverRequest {
        address,
        alias: alias.unwrap_or_default(),
        request_id: session.request_id.clone(),
        validate_only: dry_run,
        by: session.by.clone(),
    };
    let found = ask!(session, topology, discover, request)?;
    out.print(|| json::discovered(&found), |paint| show::lists::discovered(&found, dry_run, paint))
}
