//! Packet filters inside one place's namespace. Dropped packets are dropped silently, and counted: a filter that
//! counted nothing was not a fault.

use super::Place;
use crate::{install, rig_error::rig_failure, wait};
use anyhow::{Context, Result};
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is used is used all the time: probes, heartbeats, writes.
const HIT_WITHIN: Duration = Duration::from_secs(10);

/// An installed filter; `heal` removes it.
pub struct Cut {
    namespace: i32,
    table: String,
}

/// Filters may lie beside each other in one namespace.
static TABLES: AtomicU64 = AtomicU64::new(1);

impl Cut {
    /// Drops everything that enters or leaves, loopback apart.
    pub fn off(place: &Place) -> Result<Cut> {
        Cut::install(place, "iif != \"lo\" counter drop", "oif != \"lo\" counter drop")
    }

    /// Drops what passes between this place and the given addresses.
    pub fn between(place: &Place, others: &[IpAddr]) -> Result<Cut> {
        let set = set(others);
        Cut::install(place, &format!("ip saddr {set} counter drop"), &format!("ip daddr {set} counter drop"))
    }

    /// Drops what this place sends to the given addresses; what they send arrives.
    pub fn to(place: &Place, others: &[IpAddr]) -> Result<Cut> {
        Cut::install(place, "", &format!("ip daddr {} counter drop", set(others)))
    }

    /// Drops what the given addresses send to this place; what it sends leaves.
    pub fn from(place: &Place, others: &[IpAddr]) -> Result<Cut> {
        Cut::install(place, &format!("ip saddr {} counter drop", set(others)), "")
    }

    /// Drops so many of a hundred packets that enter, drawn by the kernel.
    pub fn lossy(place: &Place, percent: u32) -> Result<Cut> {
        Cut::install(place, &format!("iif != \"lo\" numgen random mod 100 < {percent} counter drop"), "")
    }

    /// Drops what is longer than so many bytes and passes between this place and the given addresses: a black hole for
    /// big packets.
    pub fn longer_than(place: &Place, others: &[IpAddr], bytes: u32) -> Result<Cut> {
        let set = set(others);
        Cut::install(
            place,
            &format!("ip saddr {set} meta length > {bytes} counter drop"),
            &format!("ip daddr {set} meta length > {bytes} counter drop"),
        )
    }

    fn install(place: &Place, input: &str, output: &str) -> Result<Cut> {
        let namespace = place.namespace.ok_or_else(|| rig_failure("a partition needs namespaces"))?;
        let table = format!("chaos{}", TABLES.fetch_add(1, Ordering::Relaxed));
        nft(
            namespace,
            &format!(
                "table inet {table} {{\n chain input {{ type filter hook input priority 0; {input}; }}\n \
                 chain output {{ type filter hook output priority 0; {output}; }}\n}}\n"
            ),
        )?;
        Ok(Cut { namespace, table })
    }

    /// Waits until the filter has dropped at least one packet; one that dropped none was no fault.
    pub async fn wait_hit(&self) -> Result<()> {
        wait::until("the filter to drop a packet", HIT_WITHIN, async || {
            self.dropped().ok().filter(|n| *n > 0).map(|_| ())
        })
        .await
        .map_err(|error| rig_failure(format!("{error:#}")))
    }

    /// Packets dropped so far.
    pub fn dropped(&self) -> Result<u64> {
        let text = nft(self.namespace, &format!("list table inet {}\n", self.table))?;
        let counts =
            text.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Removes the filter.
    pub fn heal(self) -> Result<()> {
        nft(self.namespace, &format!("delete table inet {}\n", self.table)).map(|_| ())
    }
}

/// Removes several.
pub fn heal(cuts: Vec<Cut>) -> Result<()> {
    cuts.into_iter().try_for_each(Cut::heal)
}

fn set(addresses: &[IpAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", list.join(", "))
}

fn nft(namespace: i32, script: &str) -> Result<String> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net=/proc/{namespace}/ns/net"))
        .arg(install::tool("nft")?)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("nft has no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(rig_failure(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
