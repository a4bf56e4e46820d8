//! One server of a topology: its process, its addresses, its data directory.

pub mod options;

use crate::{
    flavor::Flavor,
    install::Install,
    net::Place,
    process::{Proc, Start},
    run_dir::RunDir,
    sql::{APP, Account, Address, Db, ROOT, dialect::ReplicaStatus},
    template::{self, tail},
    wait,
};
use anyhow::{Context, Result, anyhow};
use options::Settings;
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A mysqld or mariadbd of the rig.
pub struct Server {
    /// Position in the topology; 1 is the first primary.
    pub number: usize,
    /// Where it runs.
    pub place: Place,
    /// Its port.
    pub port: u16,
    install: Install,
    settings: Settings,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Arc<Proc>>>,
    stranger: AtomicBool,
}

/// Of a server that stands behind another's address.
const STRANGER: [&str; 2] = ["--server-id=199", "--read-only=ON"];

impl Server {
    /// Starts a server on a copy of the template; it may not answer yet.
    pub fn start(
        run: &RunDir,
        install: &Install,
        settings: Settings,
        number: usize,
        place: Place,
        port: u16,
        data: PathBuf,
    ) -> Result<Server> {
        let socket = run.sockets().join(format!("{port}-{number}.sock"));
        let log = data.with_extension("log");
        let server = Server {
            number,
            place,
            port,
            install: install.clone(),
            settings,
            data,
            socket,
            log,
            process: Mutex::new(None),
            stranger: AtomicBool::new(false),
        };
        server.launch(run)?;
        Ok(server)
    }

    /// Starts the process again on the same data, port and options, as an init system would.
    pub fn launch(&self, run: &RunDir) -> Result<()> {
        self.launch_with(run, &[])
    }

    /// The same with the configuration of a replica: clients cannot write to it.
    pub fn launch_read_only(&self, run: &RunDir) -> Result<()> {
        self.launch_with(run, &["--read-only=ON"])
    }

    fn launch_with(&self, run: &RunDir, more: &[&str]) -> Result<()> {
        let mut args: Vec<OsString> = options::program(&self.install, &self.data, &self.socket);
        args.extend(options::member(self.flavor(), &self.settings, self.number, self.place.ip, self.port));
        if self.stranger.load(Ordering::Relaxed) {
            args.extend(STRANGER.map(OsString::from));
        }
        args.extend(more.iter().map(OsString::from));
        let start = Start {
            name: self.to_string(),
            program: self.install.program.clone(),
            args,
            env: Vec::new(),
            log: self.log.clone(),
            namespace: self.place.namespace,
        };
        *self.slot() = Some(Arc::new(Proc::start(run, start)?));
        Ok(())
    }

    /// Another server takes its place, address and port: empty, read-only, with an identity of its own. It must not run.
    pub async fn replace(&self, run: &RunDir) -> Result<()> {
        std::fs::remove_dir_all(&self.data)?;
        template::copy(&template::ensure(run, &self.install).await?, &self.data)?;
        self.stranger.store(true, Ordering::Relaxed);
        self.launch(run)?;
        self.wait_answer().await
    }

    /// The family.
    pub fn flavor(&self) -> Flavor {
        self.install.flavor
    }

    /// `HOST:PORT`, as clients and nodes know it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.place.ip, self.port)
    }

    /// A client's connection, over the network.
    pub fn tcp(&self, account: Account, deadline: Duration) -> Db {
        Db::new(&Address::Tcp(self.place.ip, self.port), account, deadline)
    }

    /// The application's connection.
    pub fn app(&self, deadline: Duration) -> Db {
        self.tcp(APP, deadline)
    }

    /// The rig's own connection, through the file system: partitions do not touch it.
    pub fn root(&self, deadline: Duration) -> Db {
        Db::new(&Address::Socket(self.socket.clone()), ROOT, deadline)
    }

    /// The id in its binlog events.
    pub fn server_id(&self) -> u32 {
        options::server_id(self.number)
    }

    /// Its binlog files, oldest first.
    pub fn binlogs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.data).into_iter().flatten().flatten();
        let is_log = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.strip_prefix("binlog.").is_some_and(|number| number.parse::<u64>().is_ok())
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_log).collect();
        files.sort();
        files
    }

    /// Whether every statement is written to its general log.
    pub fn keeps_general_log(&self) -> bool {
        self.settings.general_log
    }

    /// Where `general_log` writes when it is on.
    pub fn general_log(&self) -> PathBuf {
        self.data.join("general.log")
    }

    /// Waits until it answers a query.
    pub async fn wait_answer(&self) -> Result<()> {
        let mut db = self.root(Duration::from_secs(2));
        let what = format!("{self} to answer");
        let answered = wait::until(&what, Duration::from_secs(60), async || {
            if self.process().is_none_or(|p| p.ended()) {
                Some(false)
            } else {
                db.exec("SELECT 1").await.ok().map(|()| true)
            }
        });
        if answered.await? {
            Ok(())
        } else {
            Err(anyhow!("{self} ended while starting:\n{}", tail(&self.log)))
        }
    }

    /// SIGKILL, seen done.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process().with_context(|| format!("{self} does not run"))?;
        process.kill()?;
        process.wait_end(Duration::from_secs(10)).await
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().with_context(|| format!("{self} does not run"))?.signal(signal)
    }

    /// The process, when it was started and not replaced.
    pub fn process(&self) -> Option<Arc<Proc>> {
        self.slot().clone()
    }

    /// Whether it refuses ordinary writes; `None` when it cannot be asked.
    pub async fn is_read_only(&self) -> Option<bool> {
        let value = self.root(Duration::from_secs(2)).value(self.flavor().is_read_only()).await.ok()??;
        Some(value != "0")
    }

    /// Its report as a replica.
    pub async fn replica_status(&self) -> Option<ReplicaStatus> {
        let rows = self.root(Duration::from_secs(2)).named(self.flavor().replica_status()).await.ok()?;
        ReplicaStatus::read(&rows)
    }

    /// Runs statements as the rig's administrator.
    pub async fn admin(&self, statements: &[&str]) -> Result<()> {
        let mut db = self.root(Duration::from_secs(30));
        for statement in statements {
            let shown = statement.split("PASSWORD").next().unwrap_or_default();
            db.exec(statement).await.with_context(|| format!("{self}: {shown}"))?;
        }
        Ok(())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Proc>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "server {} ({} {})", self.number, self.flavor(), self.address())
    }
}
