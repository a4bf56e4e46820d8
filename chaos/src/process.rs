//! Child processes that cannot outlive the rig: started by one thread, tied to it by a parent-death signal,
//! registered in the run's directory, killed by pid.

use crate::run_dir::RunDir;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// What to start.
pub struct Start {
    /// For messages and the log's file name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Standard output and error go here, appended.
    pub log: PathBuf,
    /// The process whose network namespace it runs in.
    pub namespace: Option<i32>,
}

/// A running child. Dropping it kills and reaps it.
pub struct Proc {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
}

impl Proc {
    /// Starts a process of its own group that dies with the rig.
    pub fn start(run: &RunDir, start: Start) -> Result<Proc> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&start.log)
            .with_context(|| start.log.display().to_string())?;
        // PR_SET_PDEATHSIG survives exec: the server itself is killed when the spawner thread, so the rig, ends.
        let mut words: Vec<OsString> = vec!["--pdeathsig".into(), "KILL".into()];
        if let Some(holder) = start.namespace {
            words.extend(["nsenter".into(), format!("--net=/proc/{holder}/ns/net").into()]);
        }
        words.push(start.program.clone().into_os_string());
        words.extend(start.args);
        let mut command = Command::new("setpriv");
        command.args(words).envs(start.env).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn(command).with_context(|| format!("start {}", start.name))?;
        let pid = Pid::from_child(&child);
        live().insert(pid.as_raw_nonzero().get());
        run.register(pid.as_raw_nonzero().get());
        Ok(Proc { name: start.name, pid, child: Mutex::new(child) })
    }

    /// The pid: of the program itself, since every wrapper execs.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("signal {signal:?} to {}", self.name))
    }

    /// SIGKILL; returns at once.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Whether it has ended (and is reaped).
    pub fn ended(&self) -> bool {
        let ended = lock(&self.child).try_wait().map_or(true, |status| status.is_some());
        if ended {
            live().remove(&self.pid());
        }
        ended
    }

    /// Waits until it has ended.
    pub async fn wait_end(&self, within: Duration) -> Result<()> {
        crate::wait::until(&format!("{} to end", self.name), within, async || self.ended().then_some(()))
            .await
    }

    /// Waits until the kernel shows it stopped: the proof that SIGSTOP took.
    pub async fn wait_stopped(&self) -> Result<()> {
        let what = format!("{} to be stopped", self.name);
        crate::wait::until(&what, Duration::from_secs(5), async || (self.state() == Some('T')).then_some(()))
            .await
    }

    /// The state letter of `/proc/PID/stat`.
    pub fn state(&self) -> Option<char> {
        stat(self.pid()).map(|(state, _)| state)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if !self.ended() {
            let _ = self.kill();
            let _ = lock(&self.child).wait();
            live().remove(&self.pid());
        }
    }
}

/// Runs a short command to its end and gives its standard output; its error text on failure.
pub fn run(program: impl AsRef<OsStr>, args: &[&str]) -> Result<String> {
    let name = Path::new(program.as_ref()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = Command::new(program.as_ref())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| name.clone())?;
    if !output.status.success() {
        bail!("{name} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Kills every child that is still alive; for the end of an interrupted run.
pub fn kill_all() {
    let pids: Vec<i32> = live().iter().copied().collect();
    for pid in &pids {
        kill_pid(*pid);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while pids.iter().any(|p| stat(*p).is_some_and(|(state, _)| state != 'Z')) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// SIGKILL to a pid that is known to be a child of some rig run.
pub fn kill_pid(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// State letter and start time (clock ticks since boot) of a process.
pub fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; fields are counted after it.
    let rest = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// A number from a `status` file of /proc; KiB where it is a size.
pub fn status_number(file: &str, key: &str) -> Result<f64> {
    let text = std::fs::read_to_string(file)?;
    let values = || text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) =
        values().find(|(name, _)| *name == key).with_context(|| format!("no {key} in {file}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()?)
}

type Spawned = (Command, mpsc::Sender<io::Result<Child>>);

/// Children are started by one thread that never ends: the parent-death signal follows the *thread* that forked.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<Spawned>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Spawned>();
    std::thread::spawn(move || {
        for (mut command, answer) in receiver {
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(sender)
});

fn spawn(command: Command) -> io::Result<Child> {
    let (sender, receiver) = mpsc::channel();
    let sent = lock(&SPAWNER).send((command, sender));
    sent.ok()
        .and_then(|()| receiver.recv().ok())
        .unwrap_or_else(|| Err(io::Error::other("the spawner thread is gone")))
}

static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<i32>> {
    lock(&LIVE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
