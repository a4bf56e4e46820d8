//! One Quorate node: its file, its directories, its process.

use crate::{
    net::{Net, Place},
    preload::{self, Dials},
    process::{Proc, Start},
    product::Product,
    run_dir::RunDir,
    sql::{QUORATE, REPL},
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A node of the group.
pub struct Node {
    /// Its id in the group.
    pub id: u64,
    /// Where it runs.
    pub place: Place,
    node_port: u16,
    client_port: u16,
    dir: PathBuf,
    product: Product,
    env: Vec<(String, String)>,
    /// Clocks and syncs apart from the machine's, where the run wants that.
    dials: Option<Dials>,
    process: Mutex<Option<Arc<Proc>>>,
    outside: AtomicBool,
}

impl Node {
    /// Writes the node's file and starts it.
    pub async fn start(
        run: &RunDir,
        net: &Net,
        product: &Product,
        id: u64,
        name: &str,
        env: &[(String, String)],
    ) -> Result<Node> {
        let place = net.place(run).await?;
        let (node_port, client_port) = (net.port(7101)?, net.port(7201)?);
        let dir = run.path().join(format!("{name}-node{id}"));
        std::fs::create_dir_all(&dir)?;
        for (file, account) in [("servers.password", QUORATE), ("replication.password", REPL)] {
            std::fs::write(dir.join(file), account.password)?;
        }
        let mut env = env.to_vec();
        let own = env.iter().any(|(name, _)| name == preload::PRELOAD);
        let dials = own.then(|| Dials::create(&dir.join("dials"))).transpose()?;
        if own {
            env.push((preload::FILE.to_string(), dir.join("dials").display().to_string()));
        }
        let node = Node {
            id,
            place,
            node_port,
            client_port,
            dir,
            product: product.clone(),
            env,
            dials,
            process: Mutex::new(None),
            outside: AtomicBool::new(false),
        };
        std::fs::write(node.config_file(), node.config())?;
        node.launch(run)?;
        Ok(node)
    }

    /// Starts the process (again) on the same file and data directory.
    pub fn launch(&self, run: &RunDir) -> Result<()> {
        let start = Start {
            name: format!("node {}", self.id),
            program: self.product.program.clone(),
            args: vec!["serve".into(), "--config".into(), self.config_file().into()],
            env: self.env.clone(),
            log: self.log(),
            namespace: self.place.namespace,
        };
        *self.slot() = Some(Arc::new(Proc::start(run, start)?));
        Ok(())
    }

    fn config(&self) -> String {
        let Node { id, place, node_port, client_port, dir, .. } = self;
        let (ip, dir) = (place.ip, dir.display());
        let (servers, replication) = (QUORATE.user, REPL.user);
        format!(
            "node_id = {id}\ngroup = \"chaos\"\ndata_dir = \"{dir}/data\"\nprofile = \"lan\"\n\n\
             [listen]\nnode = \"{ip}:{node_port}\"\nclient = \"{ip}:{client_port}\"\n\n\
             [tls]\nplaintext = true\n\n\
             [servers]\nuser = \"{servers}\"\npassword_file = \"{dir}/servers.password\"\n\n\
             [replication]\nuser = \"{replication}\"\npassword_file = \"{dir}/replication.password\"\n"
        )
    }

    /// What it remembers.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("quorate.toml")
    }

    /// What it printed.
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// For `nodes init`.
    pub fn member(&self) -> String {
        format!("{}={}:{}", self.id, self.place.ip, self.node_port)
    }

    /// For `--endpoint`.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.place.ip, self.client_port)
    }

    /// Where other nodes call it.
    pub fn node_endpoint(&self) -> String {
        format!("{}:{}", self.place.ip, self.node_port)
    }

    /// Its dials, where the run gave it some.
    pub fn dials(&self) -> Result<&Dials> {
        self.dials.as_ref().with_context(|| format!("node {} has no dials", self.id))
    }

    /// The process, when it was started.
    pub fn process(&self) -> Option<Arc<Proc>> {
        self.slot().clone()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process().is_some_and(|p| !p.ended())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().with_context(|| format!("node {} does not run", self.id))?.signal(signal)
    }

    /// SIGKILL, seen done.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process().with_context(|| format!("node {} does not run", self.id))?;
        process.kill()?;
        process.wait_end(Duration::from_secs(10)).await
    }

    /// Whether it runs as a member of the group; a wiped node does not, nor one that is frozen.
    pub fn is_member(&self) -> bool {
        let runs = |process: Arc<Proc>| !process.ended() && process.state() != Some('T');
        self.process().is_some_and(runs) && !self.outside.load(Ordering::Relaxed)
    }

    /// It is no member any more. From then on nothing is asked of it.
    pub fn leave(&self) {
        self.outside.store(true, Ordering::Relaxed);
    }

    /// Removes everything it remembers, as a lost disk would. From then on nothing is asked of it.
    pub fn wipe(&self) -> Result<()> {
        self.leave();
        std::fs::remove_dir_all(self.data_dir()).context("wipe the data directory")
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Proc>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
