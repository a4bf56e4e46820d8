//! Statements of the simulated fleet -> SQL.

use quorate::model::server::Flavor;

use crate::{
    fleet::{Statement, Thread},
    live::REPL_PASSWORD,
};

/// CHANGE of the default channel.
pub fn change(flavor: Flavor, port: u16, auto_position: bool) -> String {
    let auto = if auto_position { ", SOURCE_AUTO_POSITION=1" } else { "" };
    match flavor {
        Flavor::MySql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='repl', \
             SOURCE_PASSWORD='{REPL_PASSWORD}', GET_SOURCE_PUBLIC_KEY=1, SOURCE_HEARTBEAT_PERIOD=0.5, \
             SOURCE_CONNECT_RETRY=1{auto}"
        ),
        Flavor::MariaDb => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', \
             MASTER_PASSWORD='{REPL_PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_HEARTBEAT_PERIOD=0.5, \
             MASTER_CONNECT_RETRY=1"
        ),
    }
}

/// The statement in the dialect of `flavor`.
pub fn sql(flavor: Flavor, statement: &Statement) -> String {
    let mysql = flavor == Flavor::MySql;
    let switch = |on: bool| if on { "ON" } else { "OFF" };
    let global = |name: &str, value: &dyn std::fmt::Display| format!("SET GLOBAL {name}={value}");
    let (source, replica) = match mysql {
        true => ("rpl_semi_sync_source", "rpl_semi_sync_replica"),
        false => ("rpl_semi_sync_master", "rpl_semi_sync_slave"),
    };
    let noun = if mysql { "REPLICA" } else { "SLAVE" };
    match statement {
        Statement::Ping => "SELECT 1".into(),
        Statement::Sleep(ms) => format!("DO SLEEP({})", *ms as f64 / 1000.0),
        Statement::LockWaitTimeout(s) => format!("SET SESSION lock_wait_timeout={s}"),
        Statement::KillConnection(id) => format!("KILL CONNECTION {id}"),
        Statement::KillQuery(id) => format!("KILL QUERY {id}"),
        Statement::ReadOnly(on) => global("read_only", &switch(*on)),
        Statement::SuperReadOnly(on) => global("super_read_only", &switch(*on)),
        Statement::OfflineMode(on) => global("offline_mode", &switch(*on)),
        Statement::SemiSyncSource(on) => global(&format!("{source}_enabled"), &switch(*on)),
        Statement::SemiSyncTimeout(ms) => global(&format!("{source}_timeout"), ms),
        Statement::SemiSyncWaitNoReplica(on) if mysql => {
            global(&format!("{source}_wait_no_replica"), &switch(*on))
        }
        Statement::SemiSyncWaitNoReplica(on) => global(&format!("{source}_wait_no_slave"), &switch(*on)),
        Statement::SemiSyncWaitFor(k) => global(&format!("{source}_wait_for_replica_count"), k),
        Statement::SemiSyncReplica(on) => global(&format!("{replica}_enabled"), &switch(*on)),
        Statement::Start(_, thread) => format!("START {noun} {}", threads(*thread)),
        Statement::Stop(_, thread) => format!("STOP {noun} {}", threads(*thread)),
        Statement::ResetAll(_) => format!("RESET {noun} ALL"),
        Statement::GtidSlavePos(position) => format!("SET GLOBAL gtid_slave_pos='{position}'"),
        Statement::Insert(row) => format!("INSERT INTO app.t (id, v) VALUES ({row}, 1)"),
        Statement::LongUpdate(ms) => {
            format!("REPLACE INTO app.other (id) SELECT 1000000 + SLEEP({})", *ms as f64 / 1000.0)
        }
        Statement::Begin => "BEGIN".into(),
        Statement::Commit => "COMMIT".into(),
        Statement::Rollback => "ROLLBACK".into(),
        Statement::LockTables => "LOCK TABLES app.t WRITE".into(),
        Statement::UnlockTables => "UNLOCK TABLES".into(),
        Statement::CreateUser => "CREATE USER 'script'@'%' IDENTIFIED BY 'script'".into(),
        other => panic!("no script sends {other:?}"),
    }
}

fn threads(thread: Thread) -> &'static str {
    match thread {
        Thread::Receiver => "IO_THREAD",
        Thread::Applier => "SQL_THREAD",
        Thread::Both => "",
    }
}
