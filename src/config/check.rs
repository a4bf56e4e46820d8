//! Rules between the values of a node's file, checked before any socket or directory is opened.

use super::{Config, ConfigError, Place, ServerTls};
use crate::model::address::Address;

type Checked = Result<(), ConfigError>;

/// What a limit of clients may be: the command line, a watcher and a monitor find room; and beyond the upper bound it is
/// none.
const LIMITS: std::ops::RangeInclusive<usize> = 8..=1_000_000;

/// All of them.
pub fn check(config: &Config, place: &Place<'_>) -> Checked {
    check_names(config, place)?;
    check_listen(config, place)?;
    check_tls(config, place)?;
    check_servers(config, place)?;
    check_limits(config, place)
}

fn check_limits(config: &Config, place: &Place<'_>) -> Checked {
    let limits = &config.limits;
    for (key, value) in
        [("client_connections", limits.client_connections), ("client_streams", limits.client_streams)]
    {
        if !LIMITS.contains(&value) {
            let what = format!("is {value}; it must be {} to {}", LIMITS.start(), LIMITS.end());
            return Err(place.wrong(&format!("limits.{key}"), what));
        }
    }
    Ok(())
}

fn check_names(config: &Config, place: &Place<'_>) -> Checked {
    if config.node_id == 0 {
        return Err(place.wrong("node_id", "is 0; nodes are numbered from 1"));
    }
    let group = config.group.as_str();
    let plain = group.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if group.is_empty() || group.len() > 40 || !plain || group.starts_with('-') || group.ends_with('-') {
        let what = "must have 1 to 40 of a-z, 0-9 and `-`, and may not begin or end with `-`";
        return Err(place.wrong("group", what));
    }
    if config.data_dir.as_os_str().is_empty() {
        return Err(place.wrong("data_dir", "is empty"));
    }
    for (key, text) in
        [("servers.user", &config.servers.user), ("replication.user", &config.replication.user)]
    {
        if text.is_empty() {
            return Err(place.wrong(key, "is empty"));
        }
    }
    Ok(())
}

fn check_listen(config: &Config, place: &Place<'_>) -> Checked {
    let listen = &config.listen;
    if listen.node == listen.client {
        return Err(place.wrong("listen.client", format!("is {}, and so is `listen.node`", listen.client)));
    }
    for (key, at, advertised) in
        [("node", &listen.node, &listen.advertise_node), ("client", &listen.client, &listen.advertise_client)]
    {
        if any_interface(at) && advertised.is_none() {
            let what = format!("is {at}, which nobody can dial: set `listen.advertise_{key}`");
            return Err(place.wrong(&format!("listen.{key}"), what));
        }
        if advertised.as_ref().is_some_and(any_interface) {
            return Err(place.wrong(&format!("listen.advertise_{key}"), "is an address that nobody can dial"));
        }
    }
    Ok(())
}

fn any_interface(address: &Address) -> bool {
    matches!(address.host.as_str(), "0.0.0.0" | "::" | "0")
}

fn check_tls(config: &Config, place: &Place<'_>) -> Checked {
    let tls = &config.tls;
    let mut plain = Vec::new();
    for (port, files) in [
        ("node", [("ca", &tls.node_ca), ("cert", &tls.node_cert), ("key", &tls.node_key)]),
        ("client", [("ca", &tls.client_ca), ("cert", &tls.client_cert), ("key", &tls.client_key)]),
    ] {
        let given = files.iter().filter(|(_, file)| file.is_some()).count();
        if let (1 | 2, Some((name, _))) = (given, files.iter().find(|(_, file)| file.is_none())) {
            let what = format!(
                "is missing; the {port} port needs `{port}_ca`, `{port}_cert` and `{port}_key`, or none"
            );
            return Err(place.wrong(&format!("tls.{port}_{name}"), what));
        }
        if given == 0 {
            plain.push(port);
        }
    }
    match (tls.plaintext, plain.as_slice()) {
        (true, []) => Err(place
            .wrong("tls.plaintext", "is true, but both ports have certificates; remove one or the other")),
        (false, [port, ..]) => {
            let what =
                format!("is missing: the {port} port has no certificates, and `tls.plaintext` is not true");
            Err(place.wrong(&format!("tls.{port}_cert"), what))
        }
        _ => Ok(()),
    }
}

fn check_servers(config: &Config, place: &Place<'_>) -> Checked {
    let servers = &config.servers;
    match (servers.tls, &servers.tls_ca) {
        (ServerTls::Required, None) => {
            return Err(place.wrong("servers.tls_ca", "is missing; `servers.tls = \"required\"` needs it"));
        }
        (ServerTls::Off, Some(_)) => {
            return Err(
                place.wrong("servers.tls_ca", "is given, but `servers.tls` is off; set it to \"required\"")
            );
        }
        _ => {}
    }
    match (&servers.tls_cert, &servers.tls_key) {
        (Some(_), None) => Err(place.wrong("servers.tls_key", "is missing; `servers.tls_cert` needs it")),
        (None, Some(_)) => Err(place.wrong("servers.tls_cert", "is missing; `servers.tls_key` needs it")),
        (Some(_), Some(_)) if servers.tls == ServerTls::Off => {
            Err(place.wrong("servers.tls_cert", "is given, but `servers.tls` is off; set it to \"required\""))
        }
        _ => Ok(()),
    }
}
