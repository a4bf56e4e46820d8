//! Plays a script on real servers.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use mysql_async::{Conn, Error, prelude::Queryable};
use quorate::{
    core::plan::step::{Action, Step, StepEnd, Target},
    executor::{Executor, ExecutorOptions, Permit},
    model::{
        facts::ServerFacts,
        gtid::GtidSet,
        server::{Flavor, ServerId},
    },
};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    fleet::{Account, Statement},
    line::{Deed, Fact, Fault, Line, Script},
    live::{Install, PATIENCE, Server, account, replication},
    seen::Names,
    sql::{change, sql},
};

enum Client {
    Idle(Box<Conn>),
    Busy(JoinHandle<(Conn, String)>),
    Gone,
}

/// Three servers, used by one script after another.
pub struct Stage {
    flavor: Flavor,
    pub servers: Vec<Server>,
    identities: Vec<quorate::model::server::Identity>,
    names: Names,
    frozen: Vec<bool>,
    down: Vec<bool>,
    /// How many of them the last script used.
    used: usize,
}

/// A script under way.
struct Play<'a> {
    stage: &'a mut Stage,
    clients: BTreeMap<&'static str, (u32, Client)>,
    crowd: Vec<Conn>,
    holder: Option<Conn>,
    executors: BTreeMap<u64, Executor>,
    executed: BTreeMap<usize, GtidSet>,
    seen: Vec<String>,
}

impl Stage {
    /// Starts three servers.
    pub async fn start(install: &Install) -> Self {
        let more: &[&str] = match install.flavor {
            Flavor::MySql => &["--replica-net-timeout=2", "--skip-replica-start=OFF"],
            Flavor::MariaDb => &["--slave-net-timeout=2"],
        };
        let mut servers = Vec::new();
        let mut identities = Vec::new();
        let mut names = Names::default();
        for number in 1..=3 {
            let server = Server::start(install, number, more).await;
            let identity = server.facts().await.identity;
            names.uuids.extend(identity.server_uuid.clone().map(|uuid| (uuid, number as usize)));
            names.addresses.push((server.address(), number as usize));
            identities.push(identity);
            servers.push(server);
        }
        let flavor = install.flavor;
        Self { flavor, servers, identities, names, frozen: vec![false; 3], down: vec![false; 3], used: 0 }
    }

    /// Plays one script on servers as good as new.
    pub async fn play(&mut self, script: &Script) -> Vec<String> {
        self.renew().await;
        self.used = script.servers;
        let mut play = Play {
            stage: self,
            clients: BTreeMap::new(),
            crowd: Vec::new(),
            holder: None,
            executors: BTreeMap::new(),
            executed: BTreeMap::new(),
            seen: Vec::new(),
        };
        for line in (script.lines)(play.stage.flavor) {
            play.line(&line).await;
        }
        let seen = play.seen;
        drop((play.clients, play.crowd, play.holder, play.executors));
        seen
    }

    /// Everything that a script has left behind is undone.
    async fn renew(&mut self) {
        for at in 0..self.servers.len() {
            if std::mem::take(&mut self.frozen[at]) {
                self.servers[at].thaw();
            }
            if std::mem::take(&mut self.down[at]) {
                self.servers[at].boot().await;
            }
        }
        let statements: &[&str] = match self.flavor {
            Flavor::MySql => &[
                "SET GLOBAL rpl_semi_sync_source_enabled=OFF, rpl_semi_sync_replica_enabled=OFF, \
                 rpl_semi_sync_source_wait_for_replica_count=1, rpl_semi_sync_source_timeout=10000, \
                 rpl_semi_sync_source_wait_no_replica=ON",
                "SET GLOBAL read_only=OFF, offline_mode=OFF",
                "STOP REPLICA",
                "RESET REPLICA ALL",
                "SET SESSION sql_log_bin=0",
                "DELETE FROM app.t",
                "DELETE FROM app.other",
                "DROP DATABASE IF EXISTS quorate",
                "DROP USER IF EXISTS 'script'@'%'",
                "RESET BINARY LOGS AND GTIDS",
            ],
            Flavor::MariaDb => &[
                "SET GLOBAL rpl_semi_sync_master_enabled=OFF, rpl_semi_sync_slave_enabled=OFF, \
                 rpl_semi_sync_master_timeout=10000, rpl_semi_sync_master_wait_no_slave=ON",
                "SET GLOBAL read_only=OFF",
                "STOP ALL SLAVES",
                "RESET SLAVE ALL",
                "SET SESSION sql_log_bin=0",
                "DELETE FROM app.t",
                "DELETE FROM app.other",
                "DROP DATABASE IF EXISTS quorate",
                "DROP USER IF EXISTS 'script'@'%'",
                "RESET MASTER",
                "SET GLOBAL gtid_slave_pos=''",
            ],
        };
        let used = std::mem::replace(&mut self.used, 0);
        join_all(self.servers.iter().take(used).map(|server| renew(server, statements))).await;
    }
}

/// Ends all sessions and runs `statements`.
async fn renew(server: &Server, statements: &[&str]) {
    let began = Instant::now();
    let mut root = loop {
        match server.try_root().await {
            Ok(root) => break root,
            // The crowd of the last script is still leaving.
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let others = "SELECT id FROM information_schema.processlist WHERE user IN ('app','admin','quorate','repl') \
                  AND id<>CONNECTION_ID()";
    let ids: Vec<u64> = root.query(others).await.expect("the process list");
    for id in ids {
        // It may have gone by itself.
        let _ = root.query_drop(format!("KILL CONNECTION {id}")).await;
    }
    for statement in statements {
        root.query_drop(*statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

impl Play<'_> {
    fn server(&self, at: usize) -> &Server {
        &self.stage.servers[at - 1]
    }

    fn saw(&mut self, line: &Line, what: impl std::fmt::Display) {
        self.seen.push(format!("{line}: {what}"));
    }

    async fn line(&mut self, line: &Line) {
        match line {
            Line::Login(who, at, account) => {
                let words = self.login(who, *at, *account).await;
                self.saw(line, words);
            }
            Line::Sends(who, what) => self.send(who, what),
            Line::Hears(who) => {
                let words = self.hear(who).await;
                self.saw(line, words);
            }
            Line::HearsNothing(who) => {
                let heard = match &self.clients[who].1 {
                    Client::Busy(task) if !task.is_finished() => None::<String>,
                    _ => Some("something".to_owned()),
                };
                self.saw(line, format!("{heard:?}"));
            }
            Line::HangsUp(who) => {
                let (_, client) = self.clients.get_mut(who).expect("a client of the script");
                if let Client::Busy(task) = std::mem::replace(client, Client::Gone) {
                    task.abort();
                }
            }
            Line::Does(at, what) => {
                let words = self.operator(*at, what).await;
                self.saw(line, words);
            }
            Line::Changes(at, to, auto) => {
                let text = change(self.stage.flavor, self.server(*to).port, *auto);
                let mut conn = self.server(*at).root().await;
                let words = run_all(&mut conn, &text).await;
                self.saw(line, words);
            }
            Line::Kills(at, who, connection) => {
                let id = u64::from(self.clients[who].0);
                let kill = match connection {
                    true => Statement::KillConnection(id),
                    false => Statement::KillQuery(id),
                };
                let words = self.operator(*at, &[kill]).await;
                self.saw(line, words);
            }
            Line::Fault(at, fault) => self.fault(*at, fault).await,
            Line::Until(at, fact) => {
                let came = self.wait_for(*at, fact).await;
                self.saw(line, if came { "yes" } else { "never" });
            }
            Line::See(at) => {
                let facts = self.facts(*at).await;
                let words = self.stage.names.facts(&facts);
                self.saw(line, words);
            }
            Line::Rows(at) => {
                let mut root = self.server(*at).root().await;
                let rows: Vec<u64> = root.query("SELECT id FROM app.t ORDER BY id").await.expect("rows");
                let rows: std::collections::BTreeSet<u64> = rows.into_iter().collect();
                self.saw(line, format!("{rows:?}"));
            }
            Line::Step(at, deed, ms) => self.step(line, *at, deed, 1, *ms).await,
            Line::StepEnds(at, deed, ms) => self.step(line, *at, deed, 1, *ms).await,
            Line::OtherStep(at, deed, ms) => self.step(line, *at, deed, 2, *ms).await,
            Line::NewExecutor => {
                // Its session stays: the process is gone, and the server has not noticed.
                std::mem::forget(self.executors.remove(&1));
            }
        }
    }

    async fn login(&mut self, who: &'static str, at: usize, account: Account) -> &'static str {
        let (user, password) = match account {
            Account::App => ("app", "app"),
            Account::Admin => ("admin", "admin"),
            other => panic!("no script logs in as {other:?}"),
        };
        let attempt = self.server(at).try_connect(user, password);
        match tokio::time::timeout(Duration::from_secs(1), attempt).await {
            Err(_) => "silent",
            Ok(Ok(conn)) => {
                self.clients.insert(who, (conn.id(), Client::Idle(Box::new(conn))));
                "let in"
            }
            Ok(Err(Error::Server(error))) => match error.code {
                1040 => "too many connections",
                1053 => "shutting down",
                3032 => "offline",
                _ => panic!("{error}"),
            },
            Ok(Err(_)) => "refused",
        }
    }

    fn send(&mut self, who: &str, what: &[Statement]) {
        let text: Vec<String> = what.iter().map(|statement| sql(self.stage.flavor, statement)).collect();
        let (_, client) = self.clients.get_mut(who).expect("a client of the script");
        let Client::Idle(mut conn) = std::mem::replace(client, Client::Gone) else {
            panic!("{who} has not heard yet");
        };
        *client = Client::Busy(tokio::spawn(async move {
            let words = run_all(&mut conn, &text.join("; ")).await;
            (*conn, words)
        }));
    }

    async fn hear(&mut self, who: &str) -> String {
        let (_, client) = self.clients.get_mut(who).expect("a client of the script");
        match std::mem::replace(client, Client::Gone) {
            Client::Busy(task) => {
                let Ok(done) = tokio::time::timeout(PATIENCE, task).await else {
                    return "nothing".to_owned();
                };
                let (conn, words) = done.expect("a client's task");
                if words != "closed" {
                    *client = Client::Idle(Box::new(conn));
                }
                words
            }
            Client::Idle(mut conn) => {
                // It said nothing; whether it is still connected shows when it does.
                let words = run_all(&mut conn, "SELECT 1").await;
                *client = Client::Idle(conn);
                words
            }
            Client::Gone => "closed".to_owned(),
        }
    }

    async fn operator(&mut self, at: usize, what: &[Statement]) -> String {
        let text: Vec<String> = what.iter().map(|statement| sql(self.stage.flavor, statement)).collect();
        let mut conn = self.server(at).root().await;
        match tokio::time::timeout(PATIENCE, run_all(&mut conn, &text.join("; "))).await {
            Ok(words) => words,
            Err(_) => "nothing".to_owned(),
        }
    }

    async fn fault(&mut self, at: usize, fault: &Fault) {
        let mysql = self.stage.flavor == Flavor::MySql;
        let read_only = if mysql { "super_read_only" } else { "read_only" };
        match fault {
            Fault::Kill => {
                self.stage.down[at - 1] = true;
                self.stage.servers[at - 1].kill();
                self.sessions_are_gone(at).await;
            }
            Fault::Boot => {
                self.stage.servers[at - 1].boot().await;
                self.stage.down[at - 1] = false;
            }
            Fault::Freeze => {
                self.stage.frozen[at - 1] = true;
                self.server(at).freeze();
            }
            Fault::Thaw => {
                self.stage.frozen[at - 1] = false;
                self.server(at).thaw();
            }
            Fault::Follow(source) => self.server(at).follow(self.server(*source)).await,
            Fault::Errant(row) => {
                let insert = format!("INSERT INTO app.t (id, v) VALUES ({row}, 1)");
                let sql = format!("SET GLOBAL read_only=OFF; {insert}; SET GLOBAL {read_only}=ON");
                self.server(at).sql(&sql).await;
            }
            Fault::Unlogged(row) => {
                let insert =
                    format!("SET SESSION sql_log_bin=0; INSERT INTO app.t (id, v) VALUES ({row}, 1)");
                let sql = format!("SET GLOBAL read_only=OFF; {insert}; SET GLOBAL {read_only}=ON");
                self.server(at).sql(&sql).await;
            }
            Fault::HoldApplier(row) => {
                // A gap lock where the row will be.
                let mut conn = self.server(at).root().await;
                conn.query_drop("BEGIN").await.expect("begin");
                let lock = format!("SELECT * FROM app.t WHERE id>={row} LOCK IN SHARE MODE");
                conn.query_drop(lock).await.expect("lock");
                self.holder = Some(conn);
            }
            Fault::LetApplierGo => {
                let mut conn = self.holder.take().expect("a holder");
                conn.query_drop("ROLLBACK").await.expect("rollback");
            }
            Fault::Saturate => {
                while let Ok(conn) = self.server(at).try_root().await {
                    self.crowd.push(conn);
                }
            }
            Fault::Rest(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        }
    }

    async fn facts(&mut self, at: usize) -> ServerFacts {
        let facts = self.server(at).facts().await;
        self.executed.insert(at, facts.executed.clone());
        facts
    }

    async fn wait_for(&mut self, at: usize, fact: &Fact) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.is_so(at, fact).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    async fn is_so(&mut self, at: usize, fact: &Fact) -> bool {
        let mysql = self.stage.flavor == Flavor::MySql;
        let count = match (fact, mysql) {
            (Fact::CommitsWait, true) => Some(
                "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                 WHERE VARIABLE_NAME='Rpl_semi_sync_source_wait_sessions'"
                    .to_owned(),
            ),
            (Fact::CommitsWait, false) => Some(
                "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
                 WHERE VARIABLE_NAME='Rpl_semi_sync_master_wait_sessions'"
                    .to_owned(),
            ),
            (Fact::Busy(_), _) => Some(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query','Killed') AND \
                 USER IN ('app','admin') AND ID<>CONNECTION_ID()"
                    .to_owned(),
            ),
            _ => None,
        };
        if let Some(count) = count {
            let seen: u64 =
                self.server(at).value(&count).await.and_then(|text| text.parse().ok()).unwrap_or(0);
            return match fact {
                Fact::Busy(n) => seen == *n as u64,
                _ => seen > 0,
            };
        }
        let other = match fact {
            Fact::HasApplied(other) | Fact::HasReceived(other)
                if !self.stage.down[other - 1] && !self.stage.frozen[other - 1] =>
            {
                Some(self.facts(*other).await.executed)
            }
            Fact::HasApplied(other) | Fact::HasReceived(other) => self.executed.get(other).cloned(),
            _ => None,
        };
        let facts = self.facts(at).await;
        crate::is_so(&facts, fact, other.as_ref())
    }

    async fn step(&mut self, line: &Line, at: usize, deed: &Deed, node: u64, within_ms: u64) {
        let of = match deed {
            Deed::ReadFactsOf(other) => *other,
            _ => at,
        };
        let target = Target {
            server: ServerId(format!("s{at}")),
            identity: self.stage.identities[of - 1].clone(),
            address: self.server(at).address(),
        };
        let action: Action =
            crate::action(self.stage.flavor, deed, |to| self.server(to).as_source(), &self.executed);
        let executor = self.executors.entry(node).or_insert_with(|| executor(node));
        let (step, within) = (Step { target, action }, Duration::from_millis(within_ms));
        let end = match executor.open(&step.target, within).await {
            Ok(_) => {
                let permit = Permit::new("r1", 7, 1, Instant::now(), 4 * PATIENCE);
                executor.run(&permit, &step, within).await
            }
            Err(why) => StepEnd::Refused { why },
        };
        let words = match line {
            Line::StepEnds(..) => crate::seen::kind(&end).to_owned(),
            _ => self.stage.names.end(&end),
        };
        eprintln!("      {end}");
        self.saw(line, words);
    }

    /// Waits until the executors have noticed that a server which was killed is gone: the end of a connection takes its time.
    async fn sessions_are_gone(&self, at: usize) {
        let target = Target {
            server: ServerId(format!("s{at}")),
            identity: self.stage.identities[at - 1].clone(),
            address: self.server(at).address(),
        };
        for executor in self.executors.values() {
            let began = Instant::now();
            while executor.open(&target, Duration::from_secs(1)).await.is_ok() {
                assert!(began.elapsed() < PATIENCE, "a session to a killed server stays open");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn executor(node: u64) -> Executor {
    Executor::new(ExecutorOptions {
        group: "live".into(),
        node,
        account: account(),
        replication: replication(),
        nodes: vec![1],
    })
}

async fn run_all(conn: &mut Conn, sql: &str) -> String {
    let result = async {
        let mut result = conn.query_iter(sql).await?;
        while !result.is_empty() {
            let _: Vec<mysql_async::Row> = result.collect().await?;
        }
        // An error of a later statement is kept for whoever asks next.
        result.drop_result().await
    };
    match result.await {
        Ok(()) => "ok".to_owned(),
        // Killed, going down, offline: the connection is over.
        Err(Error::Server(error)) if matches!(error.code, 1053 | 1927 | 3032 | 3169 | 4031) => {
            "closed".to_owned()
        }
        // SLEEP in a write that is interrupted fails at commit on MySQL, and says so by another number.
        Err(Error::Server(error)) if error.code == 3100 => "error 1317".to_owned(),
        Err(Error::Server(error)) => format!("error {}", error.code),
        Err(_) => "closed".to_owned(),
    }
}
