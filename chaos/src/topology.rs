//! A replication topology: one primary, replicas, perhaps some below another replica.

use crate::{
    flavor::Flavor,
    install::Install,
    net::Net,
    run_dir::RunDir,
    server::{Server, options::Settings},
    template, wait,
};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;

/// What to start.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Replicas of the primary.
    pub replicas: usize,
    /// Further replicas below the first replica.
    pub below_first: usize,
    /// Heartbeat period of the replicas' channels.
    pub heartbeat: Duration,
    /// Options of every server.
    pub settings: Settings,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            replicas: 3,
            below_first: 0,
            heartbeat: Duration::from_millis(500),
            settings: Settings::default(),
        }
    }
}

/// A running topology. The first server is the first primary.
pub struct Topology {
    /// All servers, in order of their numbers.
    pub servers: Vec<Arc<Server>>,
    /// The family.
    pub flavor: Flavor,
    shape: Shape,
}

/// Replication must run within this.
const READY_WITHIN: Duration = Duration::from_secs(60);

impl Topology {
    /// Starts servers and replication; returns when every replica's threads run and the roles are set.
    pub async fn start(
        run: &RunDir,
        install: &Install,
        net: &Net,
        shape: &Shape,
        name: &str,
    ) -> Result<Topology> {
        let template = template::ensure(run, install).await?;
        let count = 1 + shape.replicas + shape.below_first;
        let mut servers = Vec::new();
        for number in 1..=count {
            let place = net.place(run).await?;
            let port = net.port(3306)?;
            let data = run.path().join(format!("{name}-s{number}"));
            template::copy(&template, &data)?;
            servers.push(Arc::new(Server::start(
                run,
                install,
                shape.settings.clone(),
                number,
                place,
                port,
                data,
            )?));
        }
        let topology = Topology { servers, flavor: install.flavor, shape: shape.clone() };
        for server in &topology.servers {
            server.wait_answer().await?;
        }
        // In parallel: on MySQL each CHANGE + START takes tens of milliseconds.
        let mut tasks = tokio::task::JoinSet::new();
        for server in topology.servers.iter().skip(1).cloned() {
            let source = topology.first_source(server.number);
            let (flavor, heartbeat) = (topology.flavor, shape.heartbeat);
            tasks.spawn(async move {
                let change = flavor.change_source(&source.place.ip.to_string(), source.port, heartbeat);
                server.admin(&[&change, flavor.start_replica(), flavor.set_read_only()]).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.context("setting up a replica")??;
        }
        for server in topology.servers.iter().skip(1) {
            let source = topology.first_source(server.number);
            topology.wait_follows(server, &source, READY_WITHIN).await?;
        }
        if let Some(count) = shape.settings.semi_sync {
            let primary = topology.server(1);
            for statement in topology.flavor.enable_semi_sync_source(count) {
                primary.admin(&[&statement]).await?;
            }
            topology.wait_semi_sync(&primary, shape.replicas).await?;
        }
        Ok(topology)
    }

    /// The server of that number, from 1.
    pub fn server(&self, number: usize) -> Arc<Server> {
        self.servers[number - 1].clone()
    }

    /// All but one.
    pub fn others(&self, number: usize) -> Vec<Arc<Server>> {
        self.servers.iter().filter(|s| s.number != number).cloned().collect()
    }

    /// Whom a server replicates from at the start.
    fn first_source(&self, number: usize) -> Arc<Server> {
        if number <= 1 + self.shape.replicas { self.server(1) } else { self.server(2) }
    }

    /// Waits until a replica replicates from that source, both threads running.
    pub async fn wait_follows(&self, replica: &Server, source: &Server, within: Duration) -> Result<()> {
        let wanted = source.address();
        let what = format!("{replica} to replicate from {wanted}");
        let mut last = None;
        let outcome = wait::every(Duration::from_millis(20), &what, within, async || {
            last = replica.replica_status().await;
            last.as_ref().is_some_and(|s| s.source == wanted && s.is_running()).then_some(())
        })
        .await;
        outcome.with_context(|| format!("its last report: {last:?}"))
    }

    /// Waits until every given server has executed what the source has.
    pub async fn wait_equal(
        &self,
        source: &Server,
        replicas: &[Arc<Server>],
        within: Duration,
    ) -> Result<()> {
        let query = self.flavor.executed();
        let mut from = source.root(Duration::from_secs(5));
        for replica in replicas {
            let mut db = replica.root(Duration::from_secs(5));
            wait::every(Duration::from_millis(20), &format!("{replica} to catch up"), within, async || {
                let (a, b) = (from.value(query).await.ok()?, db.value(query).await.ok()?);
                (a == b).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn wait_semi_sync(&self, primary: &Server, count: usize) -> Result<()> {
        let mut db = primary.root(Duration::from_secs(5));
        wait::until("semi-sync replicas to register", READY_WITHIN, async || {
            let rows = db.named(self.flavor.semi_sync_clients()).await.ok()?;
            let clients: usize = rows.first()?.get("Value")?.as_ref()?.parse().ok()?;
            (clients >= count).then_some(())
        })
        .await
    }
}
