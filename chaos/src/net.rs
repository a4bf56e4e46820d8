//! Where processes live: on loopback, each on its own port, or each in a network namespace of its own on one bridge.
//!
//! Namespaces need no root where the kernel lets users make them: the rig then runs itself again under `unshare`.

pub mod firewall;
pub mod reexec;

use crate::{
    install,
    process::{self, Proc, Start},
    rig_error::rig_failure,
    run_dir::RunDir,
    wait,
};
use anyhow::Result;
use rand::Rng;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

/// An address, and the namespace behind it if it has one.
#[derive(Clone)]
pub struct Place {
    /// Servers and nodes listen here.
    pub ip: IpAddr,
    /// A process that holds the namespace open.
    pub namespace: Option<i32>,
    _holder: Option<Arc<Proc>>,
}

/// Hands out places and ports.
pub struct Net {
    namespaces: bool,
    next_host: AtomicU8,
    next_port: AtomicU16,
}

const BRIDGE: &str = "qbr0";

impl Net {
    /// Everything on 127.0.0.1.
    pub fn loopback() -> Net {
        // Below the kernel's ephemeral range, so that no outgoing connection takes the port of a server that is down.
        let first = rand::rng().random_range(10_000..28_000);
        Net { namespaces: false, next_host: AtomicU8::new(0), next_port: AtomicU16::new(first) }
    }

    /// A bridge in this process's network namespace, which must be one of its own (see `reexec`).
    pub fn namespaces() -> Result<Net> {
        let ip = install::tool("ip")?;
        process::run(&ip, &["link", "set", "lo", "up"])?;
        // The bridge outlives a run of several: it ends with the namespace.
        if process::run(&ip, &["link", "show", BRIDGE]).is_err() {
            process::run(&ip, &["link", "add", BRIDGE, "type", "bridge"])?;
            process::run(&ip, &["addr", "add", "10.77.0.1/24", "dev", BRIDGE])?;
            process::run(&ip, &["link", "set", BRIDGE, "up"])?;
        }
        Ok(Net { namespaces: true, next_host: AtomicU8::new(10), next_port: AtomicU16::new(0) })
    }

    /// A place for one process.
    pub async fn place(&self, run: &RunDir) -> Result<Place> {
        if !self.namespaces {
            return Ok(Place { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), namespace: None, _holder: None });
        }
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        let start = Start {
            name: format!("namespace {host}"),
            program: PathBuf::from("unshare"),
            args: ["--net", "sleep", "infinity"].map(Into::into).to_vec(),
            env: Vec::new(),
            log: run.path().join("namespaces.log"),
            namespace: None,
        };
        let holder = Proc::start(run, start)?;
        let pid = holder.pid();
        let mine = std::fs::read_link("/proc/self/ns/net")?;
        wait::until("a network namespace", Duration::from_secs(5), async || {
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (theirs != mine).then_some(())
        })
        .await?;
        let ip = install::tool("ip")?;
        let (outer, pid_word) = (format!("qv{host}"), pid.to_string());
        let _ = process::run(&ip, &["link", "del", &outer]);
        process::run(
            &ip,
            &["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &pid_word],
        )?;
        process::run(&ip, &["link", "set", &outer, "master", BRIDGE, "up"])?;
        let inside = format!("--net=/proc/{pid}/ns/net");
        let ip_word = ip.display().to_string();
        for words in [
            vec!["addr", "add", &format!("10.77.0.{host}/24"), "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            let mut all = vec![inside.as_str(), ip_word.as_str()];
            all.extend(words);
            process::run("nsenter", &all)?;
        }
        let address = IpAddr::V4(Ipv4Addr::new(10, 77, 0, host));
        Ok(Place { ip: address, namespace: Some(pid), _holder: Some(Arc::new(holder)) })
    }

    /// A port that nobody listens on at that place; `wish` where every process has an address of its own.
    pub fn port(&self, wish: u16) -> Result<u16> {
        if self.namespaces {
            return Ok(wish);
        }
        for _ in 0..1000 {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(rig_failure("no free port on 127.0.0.1"))
    }
}
