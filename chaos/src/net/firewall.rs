//! Packet filters inside one place's namespace. Dropped packets are dropped silently, and counted: a filter that
//! counted nothing was not a fault.

use super::Place;
use crate::{install, rig_error::rig_failure, wait};
use anyhow::{Context, Result};
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// An installed filter; `heal` removes it.
pub struct Cut {
    namespace: i32,
}

impl Cut {
    /// Drops everything that enters or leaves, loopback apart.
    pub fn off(place: &Place) -> Result<Cut> {
        Cut::install(place, "iif != \"lo\" counter drop", "oif != \"lo\" counter drop")
    }

    /// Drops what passes between this place and the given addresses.
    pub fn between(place: &Place, others: &[IpAddr]) -> Result<Cut> {
        let list: Vec<String> = others.iter().map(ToString::to_string).collect();
        let set = list.join(", ");
        Cut::install(
            place,
            &format!("ip saddr {{ {set} }} counter drop"),
            &format!("ip daddr {{ {set} }} counter drop"),
        )
    }

    fn install(place: &Place, input: &str, output: &str) -> Result<Cut> {
        let namespace = place.namespace.ok_or_else(|| rig_failure("a partition needs namespaces"))?;
        nft(
            namespace,
            &format!(
                "table inet chaos {{\n chain input {{ type filter hook input priority 0; {input}; }}\n \
                 chain output {{ type filter hook output priority 0; {output}; }}\n}}\n"
            ),
        )?;
        Ok(Cut { namespace })
    }

    /// Waits until the filter has dropped at least one packet.
    pub async fn wait_hit(&self) -> Result<()> {
        wait::until("the filter to drop a packet", Duration::from_secs(10), async || {
            self.dropped().ok().filter(|n| *n > 0).map(|_| ())
        })
        .await
    }

    /// Packets dropped so far.
    pub fn dropped(&self) -> Result<u64> {
        let text = nft(self.namespace, "list table inet chaos\n")?;
        let counts =
            text.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Removes the filter.
    pub fn heal(self) -> Result<()> {
        nft(self.namespace, "delete table inet chaos\n").map(|_| ())
    }
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
