//! An initialised data directory with the rig's accounts, made once per flavour and copied for every server.

use crate::{
    flavor::Flavor,
    install::Install,
    paths,
    process::{Proc, Start},
    run_dir::RunDir,
    server::options,
    sql::{APP, Address, Db, QUORATE, REPL, ROOT},
    wait,
};
use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Raise it when what a template holds changes.
const RECIPE: u32 = 1;

/// The template of this server version, made when it is not there.
pub async fn ensure(run: &RunDir, install: &Install) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (RECIPE, install.flavor.grants(), &install.program).hash(&mut hasher);
    let name = format!("template-{}-{}-{:08x}", install.flavor, install.version, hasher.finish() as u32);
    let dir = paths::servers().join(name);
    if dir.exists() {
        return Ok(dir);
    }
    let building = run.path().join(format!("template-{}", install.flavor));
    make(run, install, &building)
        .await
        .with_context(|| format!("initialise a {} data directory", install.flavor))?;
    std::fs::create_dir_all(paths::servers())?;
    if std::fs::rename(&building, &dir).is_err() && !dir.exists() {
        bail!("the template could not be moved to {}", dir.display());
    }
    Ok(dir)
}

/// Copies the template to a new data directory.
pub fn copy(template: &Path, to: &Path) -> Result<()> {
    crate::process::run(
        "cp",
        &["-a", "--reflink=auto", &template.display().to_string(), &to.display().to_string()],
    )?;
    Ok(())
}

async fn make(run: &RunDir, install: &Install, dir: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    let log = run.path().join(format!("template-{}.log", install.flavor));
    initialise(install, dir, &log)?;

    let socket = run.sockets().join(format!("template-{}.sock", install.flavor));
    let mut args = options::program(install, dir, &socket);
    args.extend(["--skip-networking", "--server-id=1", "--log-bin=binlog"].map(OsString::from));
    if install.flavor == Flavor::Mysql {
        args.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"].map(OsString::from));
    }
    let start = Start {
        name: format!("{} template", install.flavor),
        program: install.program.clone(),
        args,
        env: Vec::new(),
        log: log.clone(),
        namespace: None,
    };
    let server = Proc::start(run, start)?;
    let no_password = crate::sql::Account { password: "", ..ROOT };
    let mut db = Db::new(&Address::Socket(socket), no_password, Duration::from_secs(10));
    wait::until("the template server to answer", Duration::from_secs(60), async || {
        if server.ended() { Some(false) } else { db.exec("SELECT 1").await.ok().map(|()| true) }
    })
    .await?
    .then_some(())
    .with_context(|| format!("the server ended; see its log:\n{}", tail(&log)))?;

    for statement in statements(install.flavor) {
        db.exec(&statement).await.with_context(|| redact(&statement))?;
    }
    db.exec(install.flavor.reset_binary_logs()).await?;
    // MySQL answers; MariaDB may close first.
    let _ = db.exec("SHUTDOWN").await;
    server.wait_end(Duration::from_secs(30)).await?;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "auto.cnf" || name.starts_with("binlog.") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn initialise(install: &Install, dir: &Path, log: &Path) -> Result<()> {
    let log_file = File::create(log)?;
    let mut command = Command::new(&install.program);
    command.args(options::base(install, dir)).stdout(log_file.try_clone()?).stderr(log_file);
    let status = match install.flavor {
        Flavor::Mysql => command
            .args(["--initialize-insecure", "--innodb-redo-log-capacity=8M"])
            .stdin(Stdio::null())
            .status()?,
        Flavor::Mariadb => {
            std::fs::create_dir_all(dir)?;
            command.args(["--bootstrap", "--log-warnings=0", "--enforce-storage-engine="]);
            command.args(["--innodb-log-file-size=8M", "--max-allowed-packet=8M", "--net-buffer-length=16K"]);
            let mut child = command.stdin(Stdio::piped()).spawn()?;
            let mut input = child.stdin.take().context("bootstrap has no input")?;
            for sql in mariadb_system_tables(install)? {
                input.write_all(&sql)?;
            }
            drop(input);
            child.wait()?
        }
    };
    if !status.success() {
        bail!("{status}:\n{}", tail(log));
    }
    Ok(())
}

/// What `mariadb-install-db` feeds to a bootstrapping server, without its help tables.
fn mariadb_system_tables(install: &Install) -> Result<Vec<Vec<u8>>> {
    let mut parts = vec![b"create database mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n".to_vec()];
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
            ["mysql_", "mariadb_", ""].map(|prefix| install.share.join(format!("{prefix}{name}.sql")));
        let path = choices.iter().find(|path| path.exists()).unwrap_or(&choices[0]);
        parts.push(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    Ok(parts)
}

fn statements(flavor: Flavor) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if flavor == Flavor::Mysql {
        all.push("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'".into());
        all.push("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'".into());
    }
    for account in [QUORATE, REPL, APP] {
        all.push(format!("CREATE USER '{}'@'%' IDENTIFIED BY '{}'", account.user, account.password));
    }
    all.extend(grants(flavor));
    all.push("GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'".into());
    all.push("GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO 'app'@'%'".into());
    all.push("CREATE DATABASE app".into());
    all.push("CREATE TABLE app.writes (id BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL)".into());
    all.push(format!("CREATE USER 'root'@'%' IDENTIFIED BY '{}'", ROOT.password));
    all.push("GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION".into());
    all.push(format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{}'", ROOT.password));
    all
}

/// The statements of the grants file.
pub fn grants(flavor: Flavor) -> Vec<String> {
    let text: String =
        flavor.grants().lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join("\n");
    text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_string).collect()
}

fn redact(statement: &str) -> String {
    statement.split(" IDENTIFIED").next().unwrap_or_default().to_string()
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The README tells people which grants to give; the rig gives exactly those.
    #[test]
    fn the_readme_names_every_grant_the_rig_gives() {
        let Ok(readme) = std::fs::read_to_string(paths::root().join("README.md")) else { return };
        for grant in Flavor::ALL.into_iter().flat_map(grants) {
            assert!(readme.contains(&grant), "README.md lacks: {grant}");
        }
    }
}
