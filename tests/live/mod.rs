//! Real servers for the live tests: found, started on free ports of loopback, ended with the test.
//!
//! A server program is named by `QUORATE_MYSQLD` / `QUORATE_MARIADBD`, or stands where `cargo chaos install` puts it,
//! or on `PATH`. Where there is none the test says so by name and ends.
#![allow(dead_code)]

pub mod ports;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use mysql_async::{Conn, OptsBuilder, Row, Value, prelude::Queryable};
use ports::free_port;
use quorate::{
    core::plan::step::{SourceOptions, Target},
    model::{
        address::Address,
        facts::ServerFacts,
        server::{Flavor, ServerId},
    },
    session::{Account, Reading, Secret, Tls},
};
use tokio::sync::{Mutex, MutexGuard};

/// Every wait of a live test: generous, and never the subject.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One live test at a time: servers are large, the machine is small.
pub async fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A server program and its directories.
#[derive(Debug, Clone)]
pub struct Install {
    pub flavor: Flavor,
    program: PathBuf,
    usr: PathBuf,
}

impl Install {
    /// The program of that flavour, or `None` with a line that says so.
    pub fn find(flavor: Flavor) -> Option<Self> {
        let (variable, program, bundle) = match flavor {
            Flavor::MySql => ("QUORATE_MYSQLD", "mysqld", "mysql"),
            Flavor::MariaDb => ("QUORATE_MARIADBD", "mariadbd", "mariadb"),
        };
        let bundle = target().join("servers").join(bundle);
        if let Some(named) = std::env::var_os(variable).filter(|name| !name.is_empty()) {
            return Some(Self::on_host(flavor, PathBuf::from(named)));
        }
        let unpacked = bundle.join("bin").join(program);
        if unpacked.exists() {
            return Some(Self { flavor, program: unpacked, usr: bundle.join("root/usr") });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let found = dirs.map(|dir| dir.join(program)).find(|path| path.is_file());
        if found.is_none() {
            eprintln!("skipped: no {program} (set {variable}, or run `cargo chaos install`)");
        }
        found.map(|program| Self::on_host(flavor, program))
    }

    fn on_host(flavor: Flavor, program: PathBuf) -> Self {
        // .../usr/sbin/mysqld -> .../usr; a wrapper of the rig -> the root it runs.
        let real = program.canonicalize().unwrap();
        let above = real.parent().and_then(Path::parent).unwrap();
        let unpacked = above.join("root/usr");
        let usr = if unpacked.exists() { unpacked } else { above.to_path_buf() };
        Self { flavor, program, usr }
    }

    fn first(&self, choices: &[&str]) -> PathBuf {
        let found = choices.iter().map(|choice| self.usr.join(choice)).find(|path| path.exists());
        found.unwrap_or_else(|| self.usr.join(choices[0]))
    }

    fn base(&self, data: &Path) -> Vec<String> {
        // One a server: a MariaDB that starts deletes the temporary tables of every other one in the same directory.
        let tmp = data.with_file_name("tmp");
        fs::create_dir_all(&tmp).unwrap();
        let mut args = vec![
            "--no-defaults".to_owned(),
            "--user=root".into(),
            format!("--basedir={}", self.usr.display()),
            format!("--plugin-dir={}", self.first(&["lib/mysql/plugin", "lib/plugin"]).display()),
            format!("--lc-messages-dir={}", self.share().display()),
            format!("--datadir={}", data.display()),
            format!("--tmpdir={}", tmp.display()),
        ];
        if self.flavor == Flavor::MySql {
            args.push("--secure-file-priv=".into());
        }
        args
    }

    fn share(&self) -> PathBuf {
        self.first(&["share/mysql", "share/mariadb", "share"])
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

/// The account of Quorate in these tests.
pub const USER: &str = "quorate";
/// Its password: a canary that no output may show.
pub const PASSWORD: &str = "canary-quorate-7f3a";
pub const REPL_PASSWORD: &str = "canary-repl-91cc";

pub fn account() -> Account {
    Account::plain(USER, PASSWORD)
}

pub fn replication() -> Account {
    Account { user: "repl".into(), password: Secret::new(REPL_PASSWORD), tls: Tls::Off }
}

/// A running server.
pub struct Server {
    pub install: Install,
    pub number: u32,
    pub port: u16,
    dir: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
        for end in ["", ".lock"] {
            let _ = fs::remove_file(format!("{}{end}", socket(self.port)));
        }
    }
}

fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let all = target().join("live");
        let dir = all.join(std::process::id().to_string());
        fs::create_dir_all(&dir).unwrap();
        // What test processes that are no more have left behind.
        for entry in fs::read_dir(&all).unwrap().flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        dir
    })
}

/// Short: a socket's path has 107 characters at most.
fn socket(port: u16) -> String {
    std::env::temp_dir().join(format!("q-{}-{port}.sock", std::process::id())).display().to_string()
}

impl Server {
    /// Starts a server on a copy of the template, with more options.
    pub async fn start(install: &Install, number: u32, more: &[&str]) -> Self {
        let template = template(install).await;
        let dir = run_dir().join(format!("{}-{number}-{}", install.flavor, free_port()));
        let copied = Command::new("cp").arg("-a").arg(&template).arg(&dir).status().unwrap();
        assert!(copied.success());
        let mut server = Self {
            install: install.clone(),
            number,
            port: free_port(),
            dir,
            args: more.iter().map(ToString::to_string).collect(),
            child: None,
        };
        server.boot().await;
        server
    }

    /// Starts it again on the data it has.
    pub async fn boot(&mut self) {
        let mut args = self.install.base(&self.dir.join("data"));
        args.extend(options(self.install.flavor, self.number, self.port));
        args.push(format!("--socket={}", socket(self.port)));
        args.push(format!("--pid-file={}", self.dir.join("pid").display()));
        args.extend(self.args.iter().cloned());
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let child = Command::new(&self.install.program)
            .args(&args)
            // Nothing may take the machine's clock for UTC: five and a half hours east, without tzdata.
            .env("TZ", "QRT-5:30")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while Conn::new(self.opts("admin", "admin")).await.is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn opts(&self, user: &str, password: &str) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false)
    }

    pub fn address(&self) -> Address {
        Address::new("127.0.0.1", self.port)
    }

    fn pid(&self) -> String {
        self.child.as_ref().unwrap().id().to_string()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid()]).status().unwrap().success());
    }

    /// Returns once every thread stands still: a signal is taken when a thread next enters the kernel, and until then the
    /// server may answer.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let pid = self.child.as_ref().expect("it runs").id();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !stands_still(pid) {
            assert!(std::time::Instant::now() < deadline, "process {pid} goes on after SIGSTOP");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A connection of a test's own, as any account.
    pub async fn connect(&self, user: &str, password: &str) -> Conn {
        Conn::new(self.opts(user, password)).await.unwrap()
    }

    /// Whether that account is let in.
    pub async fn try_connect(&self, user: &str, password: &str) -> Result<Conn, mysql_async::Error> {
        Conn::new(self.opts(user, password)).await
    }

    /// Ends every session of an account.
    pub async fn kill_sessions_of(&self, user: &str) {
        let mut root = self.root().await;
        let list = format!("SELECT id FROM information_schema.processlist WHERE user='{user}'");
        let sessions: Vec<u64> = root.query(list).await.unwrap();
        for session in sessions {
            // It may have gone by itself.
            let _ = root.query_drop(format!("KILL CONNECTION {session}")).await;
        }
    }

    pub async fn try_root(&self) -> Result<Conn, mysql_async::Error> {
        Conn::new(self.opts("admin", "admin")).await
    }

    pub async fn root(&self) -> Conn {
        self.connect("admin", "admin").await
    }

    /// How a client of the application logs in.
    pub fn app_opts(&self) -> OptsBuilder {
        self.opts("app", "app")
    }

    pub async fn app(&self) -> Conn {
        self.connect("app", "app").await
    }

    /// Runs statements as root.
    pub async fn sql(&self, sql: &str) {
        self.root().await.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One value, as text.
    pub async fn value(&self, sql: &str) -> Option<String> {
        self.try_value(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn try_value(&self, sql: &str) -> Result<Option<String>, mysql_async::Error> {
        let row: Option<Row> = self.root().await.query_first(sql).await?;
        let first = row.and_then(|row| row.unwrap().into_iter().next());
        Ok(first.and_then(text))
    }

    /// Polls until a value of a statement is as wished.
    pub async fn until(&self, what: &str, sql: &str, wished: impl Fn(Option<&str>) -> bool) {
        let began = Instant::now();
        loop {
            let value = self.try_value(sql).await;
            if wished(value.as_ref().ok().and_then(Option::as_deref)) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {value:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Facts over a connection of their own.
    pub async fn facts(&self) -> ServerFacts {
        self.reading().await.facts
    }

    pub async fn reading(&self) -> Reading {
        quorate::probe::read_once(&self.address(), &account(), 9, true, PATIENCE).await.unwrap()
    }

    pub async fn target(&self) -> Target {
        Target {
            server: ServerId(format!("s{}", self.number)),
            identity: self.facts().await.identity,
            address: self.address(),
        }
    }

    /// Makes it a replica of `source`.
    pub async fn follow(&self, source: &Server) {
        let port = source.port;
        let sql = match self.install.flavor {
            Flavor::MySql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='repl', \
                 SOURCE_PASSWORD='{REPL_PASSWORD}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, \
                 SOURCE_HEARTBEAT_PERIOD=0.5, SOURCE_CONNECT_RETRY=1; START REPLICA; SET GLOBAL super_read_only=ON"
            ),
            Flavor::MariaDb => format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', \
                 MASTER_PASSWORD='{REPL_PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_HEARTBEAT_PERIOD=0.5, \
                 MASTER_CONNECT_RETRY=1; START SLAVE; SET GLOBAL read_only=ON"
            ),
        };
        self.sql(&sql).await;
        let began = Instant::now();
        while self
            .facts()
            .await
            .channels
            .first()
            .is_none_or(|c| c.receiver != quorate::model::facts::Receiver::Running)
        {
            assert!(began.elapsed() < PATIENCE, "the replica does not connect");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn as_source(&self) -> SourceOptions {
        SourceOptions { source: self.address(), heartbeat_ms: 500, connect_retry_s: 1, gtid_slave_pos: None }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

fn options(flavor: Flavor, number: u32, port: u16) -> Vec<String> {
    let mut args: Vec<String> = [
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--log-bin=binlog",
        "--relay-log=relay",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=2",
        "--sync-binlog=0",
        "--innodb-use-native-aio=OFF",
        "--max-connections=100",
        "--report-host=127.0.0.1",
    ]
    .map(str::to_owned)
    .into();
    args.extend([format!("--port={port}"), format!("--report-port={port}"), format!("--server-id={number}")]);
    let own: &[&str] = match flavor {
        Flavor::MySql => &[
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--mysqlx=OFF",
            "--performance-schema=OFF",
            "--innodb-redo-log-capacity=16M",
            "--innodb-doublewrite=OFF",
        ],
        Flavor::MariaDb => &["--log-slave-updates", "--gtid-strict-mode=ON", "--innodb-log-file-size=16M"],
    };
    args.extend(own.iter().map(ToString::to_string));
    args
}

/// The grants of Quorate's account, as the README names them.
pub fn grants(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MySql => &[
            "GRANT REPLICATION CLIENT, REPLICATION SLAVE, PROCESS, RELOAD ON *.* TO 'quorate'@'%'",
            "GRANT REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* TO 'quorate'@'%'",
            "GRANT SELECT ON performance_schema.* TO 'quorate'@'%'",
            "GRANT ALL ON quorate.* TO 'quorate'@'%'",
        ],
        Flavor::MariaDb => &[
            "GRANT SLAVE MONITOR, BINLOG MONITOR, REPLICATION SLAVE, PROCESS, RELOAD ON *.* TO 'quorate'@'%'",
            "GRANT REPLICATION MASTER ADMIN, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN ON *.* \
             TO 'quorate'@'%'",
            "GRANT ALL ON quorate.* TO 'quorate'@'%'",
        ],
    }
}

/// An initialised data directory with the accounts, made once per run of the tests.
async fn template(install: &Install) -> PathBuf {
    static MADE: Mutex<Vec<(Flavor, PathBuf)>> = Mutex::const_new(Vec::new());
    let mut made = MADE.lock().await;
    if let Some((_, dir)) = made.iter().find(|(flavor, _)| *flavor == install.flavor) {
        return dir.clone();
    }
    let dir = run_dir().join(format!("template-{}", install.flavor));
    fs::create_dir_all(&dir).unwrap();
    initialise(install, &dir.join("data"));
    let socket = socket(0);
    let mut args = install.base(&dir.join("data"));
    args.extend(options(install.flavor, 1, free_port()));
    args.push(format!("--socket={socket}"));
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut child =
        Command::new(&install.program).args(&args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let began = Instant::now();
    let mut conn = loop {
        let opts = OptsBuilder::default().socket(Some(&socket)).user(Some("root"));
        match Conn::new(opts).await {
            Ok(conn) => break conn,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for statement in accounts(install.flavor) {
        conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let _ = conn.query_drop("SHUTDOWN").await;
    child.wait().unwrap();
    for entry in fs::read_dir(dir.join("data")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "auto.cnf" || name.starts_with("binlog.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    made.push((install.flavor, dir.clone()));
    dir
}

fn accounts(flavor: Flavor) -> Vec<String> {
    let mut all = Vec::new();
    if flavor == Flavor::MySql {
        all.push("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'".to_owned());
        all.push("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'".to_owned());
    }
    for (user, password) in [(USER, PASSWORD), ("repl", REPL_PASSWORD), ("app", "app"), ("admin", "admin")] {
        all.push(format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'"));
    }
    all.extend(grants(flavor).iter().map(ToString::to_string));
    all.push("GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'".into());
    all.push("GRANT ALL ON *.* TO 'admin'@'%' WITH GRANT OPTION".into());
    all.push("CREATE DATABASE app".into());
    all.push("GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO 'app'@'%'".into());
    all.push("GRANT LOCK TABLES ON app.* TO 'app'@'%'".into());
    all.push("CREATE TABLE app.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v INT NOT NULL DEFAULT 0)".into());
    all.push("CREATE TABLE app.other (id BIGINT PRIMARY KEY)".into());
    all.push(match flavor {
        Flavor::MySql => "RESET BINARY LOGS AND GTIDS".into(),
        Flavor::MariaDb => "RESET MASTER".into(),
    });
    all
}

fn initialise(install: &Install, data: &Path) {
    let mut command = Command::new(&install.program);
    let log = fs::File::create(data.with_extension("log")).unwrap();
    command.args(install.base(data)).stdout(Stdio::null()).stderr(log);
    // The machine's number of asynchronous I/O contexts may be used up by other servers.
    command.arg("--innodb-use-native-aio=OFF");
    match install.flavor {
        Flavor::MySql => {
            let status =
                command.args(["--initialize-insecure", "--innodb-redo-log-capacity=8M"]).status().unwrap();
            assert!(status.success());
        }
        Flavor::MariaDb => {
            use std::io::Write;
            fs::create_dir_all(data).unwrap();
            command.args(["--bootstrap", "--log-warnings=0", "--innodb-log-file-size=8M"]);
            let share = install.share();
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(b"create database mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n").unwrap();
            // `mysql_...` up to MariaDB 10, `mariadb_...` from 11 on.
            let files = [
                "system_tables",
                "performance_tables",
                "system_tables_data",
                "maria_add_gis_sp_bootstrap",
                "sys_schema",
            ];
            for name in files {
                let choices =
                    ["mysql_", "mariadb_", ""].map(|prefix| share.join(format!("{prefix}{name}.sql")));
                let path = choices.iter().find(|path| path.exists()).unwrap();
                let sql = fs::read(path).unwrap();
                input.write_all(&sql).unwrap_or_else(|error| {
                    panic!("{error}: {}", fs::read_to_string(data.with_extension("log")).unwrap_or_default())
                });
            }
            drop(input);
            assert!(child.wait().unwrap().success());
        }
    }
}

/// Whether all threads of a process are stopped (`proc(5)`: the state stands behind the name in brackets).
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    threads.flatten().all(|thread| match std::fs::read_to_string(thread.path().join("stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')),
        // It ended meanwhile.
        Err(_) => true,
    })
}
