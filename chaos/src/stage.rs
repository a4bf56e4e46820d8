//! One run's stage: a topology, a group that watches it, the client, the watch, and the record being written.

use crate::{
    check::evidence::{Event, Thawed},
    client::Client,
    depth::Depth,
    flavor::Flavor,
    gather::usage::Meter,
    group::{Group, Recovery},
    install::Install,
    net::Net,
    product::Product,
    record::{Outcome, Record},
    rig_error::RigError,
    run_dir::RunDir,
    server::{Server, options},
    topology::{Shape, Topology},
    wait, wall,
    watch::Watch,
};
use anyhow::{Context, Result, anyhow};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run is set up from.
pub struct Setup<'a> {
    /// This process's directory.
    pub run_dir: &'a RunDir,
    /// The servers.
    pub install: &'a Install,
    /// Loopback or namespaces.
    pub net: &'a Net,
    /// The binary under test.
    pub product: &'a Product,
    /// The topology.
    pub shape: Shape,
    /// How many nodes.
    pub nodes: u64,
    /// For names of directories.
    pub name: String,
    /// Environment of the nodes.
    pub env: Vec<(String, String)>,
    /// Seed of this run.
    pub seed: u64,
    /// Where nodes with pause points and the rig talk.
    pub pause_dir: Option<PathBuf>,
    /// How much is written down.
    pub depth: Depth,
    /// What the run may do to the clients.
    pub terms: Terms,
}

/// What a run may do to the clients, whatever the durability mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// No acknowledged write may be lost.
    pub lossless: bool,
    /// The old primary may take writes while the new one does.
    pub may_overlap: bool,
}

/// Everything on stage.
pub struct Stage<'a> {
    /// This process's directory.
    pub run_dir: &'a RunDir,
    /// Loopback or namespaces.
    pub net: &'a Net,
    /// Voters of the group when the run began.
    pub voters: usize,
    /// The servers.
    pub topology: Topology,
    /// The nodes.
    pub group: Group,
    /// Choices of this run.
    pub rng: StdRng,
    /// What will be written.
    pub record: Record,
    /// Present while it writes.
    pub client: Option<Client>,
    /// Present once the load has begun.
    pub watch: Option<Watch>,
    /// The moment of the fault.
    pub fault: Option<Instant>,
    /// Semi-sync acknowledgements, when on: then no acknowledged write may be lost.
    pub semi_sync: bool,
    /// Number of the server the clients should be on at the end.
    pub primary: usize,
    /// Where nodes with pause points and the rig talk.
    pub pause_dir: Option<PathBuf>,
    /// How much is written down.
    pub depth: Depth,
    /// What the run may do to the clients.
    pub terms: Terms,
    /// Watches the nodes' memory and disk.
    pub meter: Meter,
    /// Servers that were cut off with the old primary.
    pub cut_off: Vec<usize>,
    /// Nodes that were thawed.
    pub thawed: Vec<Thawed>,
    /// What the rig did, and when (Unix milliseconds).
    pub told: Vec<(f64, String)>,
}

/// A recovery must be over within this; tests assert facts, not durations.
pub const RECOVER_WITHIN: Duration = Duration::from_secs(60);

impl<'a> Stage<'a> {
    /// Starts servers and nodes, lets the group adopt the topology, and begins the load.
    pub async fn set(setup: Setup<'a>, record: &mut Record) -> Result<Stage<'a>> {
        let Setup { run_dir, install, net, product, shape, nodes, name, env, seed, pause_dir, depth, terms } =
            setup;
        let flavor: Flavor = install.flavor;
        record.server_options = options::named(flavor, &shape.settings);
        let topology = Topology::start(run_dir, install, net, &shape, &name)
            .await
            .map_err(|e| RigError::Failed(format!("the {flavor} topology did not start: {e:#}")))?;
        let group = Group::start(run_dir, net, product, nodes, &name, &env).await?;
        let meter = Meter::start(&group);
        let mut stage = Stage {
            run_dir,
            net,
            voters: group.nodes.len(),
            topology,
            group,
            rng: StdRng::seed_from_u64(seed),
            record: record.clone(),
            client: None,
            watch: None,
            fault: None,
            semi_sync: shape.settings.semi_sync.is_some(),
            primary: 1,
            pause_dir,
            depth,
            terms,
            meter,
            cut_off: Vec::new(),
            thawed: Vec::new(),
            told: Vec::new(),
        };
        stage.get_ready().await?;
        Ok(stage)
    }

    async fn get_ready(&mut self) -> Result<()> {
        self.group.init().await.context("the group did not form")?;
        // Any server will do; a replica shows that both directions are followed.
        let through = self.topology.servers[self.rng.random_range(0..self.topology.servers.len())].address();
        self.group.discover(&self.topology, &through).await.context("the topology was not adopted")?;
        if self.semi_sync {
            // Before it is known a recovery would follow the asynchronous rules, and be another story.
            self.group.wait_durability("semi_sync").await?;
            self.group.wait_ackers_known(&self.primary().address()).await?;
        }
        self.client = Some(Client::start(&self.topology, self.depth));
        self.watch = Some(Watch::start(&self.topology, self.depth));
        wait::until("the client's first 100 writes", Duration::from_secs(30), async || {
            (self.client().count() >= 100).then_some(())
        })
        .await?;
        // The fault falls anywhere in the nodes' rhythm.
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..1000))).await;
        Ok(())
    }

    /// The running client.
    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("the client runs from `set` to `judge`")
    }

    /// The running watch.
    pub fn watch(&self) -> &Watch {
        self.watch.as_ref().expect("the watch runs from `set` on")
    }

    /// The server clients should be on now.
    pub fn primary(&self) -> Arc<Server> {
        self.topology.server(self.primary)
    }

    /// Marks the moment of the fault: all times count from here.
    pub fn mark_fault(&mut self) -> Instant {
        self.fault_was(Instant::now())
    }

    /// A fault whose installation takes time, begun at `begun`: it is dated by the last write that the server
    /// acknowledged, which is before it and, with a write every 5 ms, close to it.
    pub fn date_fault(&mut self, server: usize, begun: Instant) -> Instant {
        let acks = self.client().acks();
        let last = acks.into_iter().filter(|ack| ack.server == server).map(|ack| ack.at).max();
        self.fault_was(last.map_or(begun, |last| last.max(begun)))
    }

    fn fault_was(&mut self, at: Instant) -> Instant {
        self.fault = Some(at);
        self.told.push((wall::of(at), "the fault".into()));
        at
    }

    /// Notes what the rig does, for the reader of the run.
    pub fn say(&mut self, what: impl Into<String>) {
        self.told.push((wall::now(), what.into()));
    }

    /// The fault was seen to be in place.
    pub fn fault_is_in_place(&mut self) {
        self.record.fault_installed = true;
    }

    /// Milliseconds from the fault.
    fn since_fault(&self, at: Instant) -> Option<f64> {
        Some(millis(at.saturating_duration_since(self.fault?)))
    }

    /// Waits for the recovery of a primary that failed at `since`: the client writes elsewhere, the survivors follow,
    /// and the group says it is over. Fills the record's times at the first call.
    pub async fn await_recovery(&mut self, gone: &[usize], since: Instant) -> Result<()> {
        let before = self.primary;
        let recovered = self.see_recovery(gone, since).await;
        match recovered {
            Ok(()) => self.record.outcome = Outcome::Recovered,
            Err(error) => {
                let newest = self.group.recoveries().await.ok().and_then(|list| list.into_iter().next());
                self.record.outcome = match newest.as_ref().map(|r| r.state.as_str()) {
                    Some("cancelled") => Outcome::Cancelled,
                    _ => Outcome::Failed,
                };
                let told = newest.map_or_else(
                    || "no recovery is recorded".to_string(),
                    |r| format!("{}: {}", r.state, r.reason),
                );
                self.record.reason = format!("{error:#}; {told}");
                self.primary = before;
            }
        }
        Ok(())
    }

    async fn see_recovery(&mut self, gone: &[usize], since: Instant) -> Result<()> {
        let deadline = Instant::now() + RECOVER_WITHIN;
        let left = || deadline.saturating_duration_since(Instant::now());
        let old = self.primary;
        let write = wait::until("a client write on another server", left(), async || {
            self.client().first_elsewhere(old, since)
        })
        .await;
        let is_first = self.record.repointed_ms.is_none();
        let seen_writable = self.watch().first_writable_elsewhere(old, since).map(|c| c.at);
        if is_first {
            self.record.writable_ms = seen_writable.and_then(|at| self.since_fault(at));
        }
        let write = write?;
        if is_first {
            self.record.first_write_ms = self.since_fault(write.at);
            // The watch looks every 5 ms: an acknowledged write may come before its look.
            self.record.writable_ms = self.since_fault(seen_writable.map_or(write.at, |at| at.min(write.at)));
        }
        self.primary = write.server;

        let new = self.primary();
        for replica in
            self.topology.servers.iter().filter(|s| s.number != new.number && !gone.contains(&s.number))
        {
            self.topology.wait_follows(replica, &new, left()).await?;
        }
        if is_first {
            self.record.repointed_ms = self.since_fault(Instant::now());
        }
        let address = new.address();
        wait::every(Duration::from_millis(50), "the group to end its recovery", left(), async || {
            let recoveries = self.group.recoveries().await.ok()?;
            let is_done = |r: &Recovery| r.state == "succeeded" && r.new_primary.as_deref() == Some(&address);
            (recoveries.iter().all(|r| r.state != "running") && recoveries.iter().any(is_done)).then_some(())
        })
        .await
    }

    /// For scenarios in which nothing may happen: watches for a while; a recovery or another writable server fails it.
    pub async fn await_nothing(&mut self, during: Duration) -> Result<()> {
        let since = self.fault.unwrap_or_else(Instant::now);
        let end = Instant::now() + during;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(change) = self.watch().first_writable_elsewhere(self.primary, since) {
                self.record.violations.push(format!("server {} became writable", change.server));
                self.record.outcome = Outcome::Failed;
                return Ok(());
            }
        }
        self.record.outcome = Outcome::Nothing;
        Ok(())
    }

    /// The old primary comes back by `action`: it must be fenced, and follow the new one or be quarantined. The action
    /// returns since when it can be reached, where that is not the moment it began.
    pub async fn old_primary_returns(
        &mut self,
        old: usize,
        action: impl AsyncFnOnce(&Stage) -> Result<Option<Instant>>,
    ) -> Result<()> {
        // A client that missed the failover keeps trying it.
        self.client().pin(old);
        let back = Instant::now();
        let back = action(self).await?.unwrap_or(back);
        let new = self.primary().address();
        let server = self.topology.server(old);
        let mut last = String::new();
        let settled = wait::every(
            Duration::from_millis(20),
            &format!("{server} to be fenced and rejoined or quarantined"),
            RECOVER_WITHIN,
            async || {
                let fenced = server.is_read_only().await;
                let status = server.replica_status().await;
                last = format!("read only {fenced:?}, replication {status:?}");
                let rejoined = status.is_some_and(|s| s.source == new && s.is_running());
                (fenced? && (rejoined || self.is_quarantined(&server).await)).then_some(())
            },
        )
        .await;
        let greeted = self.watch().greets_since(old, back).unwrap_or(back);
        let last_ack =
            self.client().acks().into_iter().filter(|a| a.server == old && a.at > back).map(|a| a.at).max();
        self.record.returned_acks_ms =
            Some(last_ack.map_or(0.0, |at| millis(at.saturating_duration_since(greeted))));
        if self.semi_sync && last_ack.is_some() {
            self.record
                .violations
                .push("the returned old primary acknowledged writes in semi-sync mode".into());
        }
        if let Err(error) = settled {
            self.record.violations.push(format!("{error:#}; {last}"));
        }
        Ok(())
    }

    async fn is_quarantined(&self, server: &Server) -> bool {
        let address = server.address();
        let events = self.group.events().await.unwrap_or_default();
        events.iter().any(|e| e["kind"] == "quarantined" && e["server"] == address.as_str())
    }

    /// Times the group itself recorded: the first verdict and the first start of a recovery after the fault.
    pub fn read_event_times(&mut self, events: &[Event]) {
        let Some(fault) = self.fault else { return };
        // The nodes' times are whole milliseconds.
        let fault = wall::of(fault).floor();
        let first = |kind: &str| {
            let times = events.iter().filter(|e| e.kind == kind).map(|e| e.time_ms);
            times.filter(|at| *at >= fault).min_by(f64::total_cmp).map(|at| at - fault)
        };
        self.record.detected_ms = first("verdict");
        self.record.started_ms = first("recovery_started");
    }

    /// Hands the client out, to be stopped.
    pub fn take_client(&mut self) -> Result<Client> {
        self.client.take().ok_or_else(|| anyhow!("the client was stopped before"))
    }
}

/// Milliseconds with a fraction.
pub fn millis(d: Duration) -> f64 {
    (d.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
