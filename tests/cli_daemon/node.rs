//! Daemons on loopback, and commands at them.

// Live tests have it twice; each begins at a port of its own.
#[allow(clippy::duplicate_mod)]
#[path = "../live/ports.rs"]
mod ports;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub use ports::free_port;
use serde_json::Value;
use tempfile::TempDir;

/// A generous bound: these tests assert facts, never durations.
const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of a node's log that a failed test shows.
const LOG_TAIL: usize = 200;

/// How a command ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn quorate(words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for name in
        ["QUORATE_ENDPOINTS", "QUORATE_TLS_CA", "QUORATE_TLS_CERT", "QUORATE_TLS_KEY", "QUORATE_TLS_NAME"]
    {
        command.env_remove(name);
    }
    let run = command.env("QUORATE_BY", "anna").args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let shown = [text(run.stdout.clone()), text(run.stderr.clone())].concat();
    assert!(!shown.contains("canary-"), "{words:?} shows a password: {shown}");
    Ran { code: run.status.code().unwrap_or(-1), out: text(run.stdout), err: text(run.stderr) }
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub struct Node {
    pub id: usize,
    pub node_port: u16,
    pub client_port: u16,
    pub folder: PathBuf,
    /// `QUORATE_LOG` of the process, where it is not the default.
    pub log_level: Option<&'static str>,
    child: Option<Child>,
}

impl Node {
    /// Writes its file; `tls` is the body of that section.
    pub fn new(id: usize, folder: &Path, tls: &str) -> Self {
        let folder = folder.join(format!("node{id}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("servers.password"), "canary-5b1d\n").unwrap();
        fs::write(folder.join("repl.password"), "canary-5b1d\n").unwrap();
        let (node_port, client_port) = (free_port(), free_port());
        let text = format!(
            "node_id = {id}\ngroup = \"demo\"\ndata_dir = \"data\"\n[listen]\nnode = \"127.0.0.1:{node_port}\"\n\
             client = \"127.0.0.1:{client_port}\"\n[tls]\n{tls}\n[servers]\nuser = \"quorate\"\n\
             password_file = \"servers.password\"\n[replication]\nuser = \"repl\"\n\
             password_file = \"repl.password\"\n"
        );
        fs::write(folder.join("quorate.toml"), text).unwrap();
        Self { id, node_port, client_port, folder, log_level: None, child: None }
    }

    #[allow(dead_code)]
    pub fn set_passwords(&self, servers: &str, replication: &str) {
        fs::write(self.folder.join("servers.password"), servers).unwrap();
        fs::write(self.folder.join("repl.password"), replication).unwrap();
    }

    pub fn config(&self) -> String {
        self.folder.join("quorate.toml").to_str().unwrap().to_owned()
    }

    pub fn start(&mut self) {
        let before = self.log().matches(" serving ").count();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["serve", "--config", &self.config()])
            .envs(self.log_level.map(|level| ("QUORATE_LOG", level)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("it serves", || self.log().matches(" serving ").count() > before);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Exit code, if it has ended by itself.
    #[allow(dead_code)]
    pub fn ended(&mut self) -> Option<i32> {
        self.child.as_mut()?.try_wait().unwrap()?.code()
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(told.success());
        let mut status = None;
        until("it stops", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}\n{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let shown = std::thread::panicking().then(|| self.log());
        self.kill();
        // A second panic would abort, and leave processes behind.
        assert!(shown.is_some() || !self.log().contains("canary-"), "a password is in the log");
        if let Some(log) = shown {
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
            eprintln!("--- end of the log of node {}\n{tail}", self.id);
        }
    }
}

/// Writes the certificates of a node below a folder, and names them in the words of its file.
pub type TlsOf<'a> = dyn Fn(usize, &Path) -> String + 'a;

pub struct Group {
    pub nodes: Vec<Node>,
    /// Words that every command needs, besides the endpoint.
    pub client: Vec<String>,
    pub folder: TempDir,
}

impl Group {
    /// Nodes that run and belong to no group yet. `tls` writes a node's files and names them.
    pub fn of(count: usize, tls: Option<&TlsOf>) -> Self {
        Self::prepared(count, tls, |_| {})
    }

    /// Nodes that log in to servers with these passwords (for live tests).
    #[allow(dead_code)]
    pub fn watching(count: usize, servers: &str, replication: &str) -> Self {
        Self::prepared(count, None, |node| node.set_passwords(servers, replication))
    }

    /// As [`Group::of`]; `prepare` sees each node before it starts.
    pub fn prepared(count: usize, tls: Option<&TlsOf>, prepare: impl Fn(&mut Node)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for id in 1..=count {
            let body = tls.map_or("plaintext = true".to_owned(), |tls| tls(id, folder.path()));
            let mut node = Node::new(id, folder.path(), &body);
            prepare(&mut node);
            node.start();
            nodes.push(node);
        }
        Self { nodes, client: vec![], folder }
    }

    /// One more that runs; its node port.
    pub fn add_node(&mut self) -> String {
        let mut node = Node::new(self.nodes.len() + 1, self.folder.path(), "plaintext = true");
        node.start();
        let address = format!("127.0.0.1:{}", node.node_port);
        self.nodes.push(node);
        address
    }

    pub fn at(&self, n: usize, words: &[impl AsRef<str>]) -> Ran {
        let endpoint = format!("127.0.0.1:{}", self.nodes[n - 1].client_port);
        let mut all = vec!["--endpoint", &endpoint];
        all.extend(self.client.iter().map(String::as_str));
        all.extend(words.iter().map(AsRef::as_ref));
        quorate(&all)
    }

    pub fn json(&self, n: usize, words: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(words);
        let ran = self.at(n, &all);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    pub fn json_lines(&self, n: usize, words: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(words);
        let ran = self.at(n, &all);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn init_words(&self) -> Vec<String> {
        let mut words = vec!["nodes".to_owned(), "init".to_owned()];
        words.extend(self.nodes.iter().map(|n| format!("{}=127.0.0.1:{}", n.id, n.node_port)));
        words
    }

    pub fn init(&self) -> Value {
        let words = self.init_words();
        self.json(1, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub fn leader(&self) -> Option<usize> {
        (1..=self.nodes.len()).find_map(|n| {
            let ran = self.at(n, &["nodes", "status", "--json", "--timeout", "5s"]);
            let status: Value = serde_json::from_str(&ran.out).ok()?;
            status["leader"].as_u64().map(|id| id as usize)
        })
    }

    pub fn wait_for_leader(&self) -> usize {
        let mut leader = None;
        until("there is a leader", || {
            leader = self.leader();
            leader.is_some()
        });
        leader.unwrap()
    }
}
