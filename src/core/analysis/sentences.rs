//! The sentence of each problem: what a tired person needs to read, with its numbers. Decides nothing.

use super::{
    ReplicaSign,
    derive::{Derived, Reach},
};

pub(super) fn wrong_identity(d: &Derived<'_>) -> String {
    let seen = match &d.reach {
        Reach::WrongIdentity { seen } => seen.as_str(),
        _ => "another server",
    };
    format!("at {} answers {seen}, not the primary ({})", d.primary.address, d.primary.identity)
}

pub(super) fn login_failed(d: &Derived<'_>) -> String {
    let why = match &d.reach {
        Reach::LoginFailed { why } => why.as_str(),
        _ => "",
    };
    format!("primary {} lives, but this node cannot use it: {why}", d.primary.address)
}

pub(super) fn saturated(d: &Derived<'_>) -> String {
    let connections = d.facts.and_then(|f| f.connections);
    match (&d.reach, connections) {
        (Reach::Saturated, _) => {
            format!("primary {} says \"too many connections\": it lives, and is full", d.primary.address)
        }
        (Reach::Answering, Some((used, most))) => {
            format!("primary {} uses {used} of {most} connections", d.primary.address)
        }
        _ => format!(
            "primary {} answers late: silent for {} ms now, and for {} ms a moment ago",
            d.primary.address,
            silent_ms(d),
            d.recent_pause_ms
        ),
    }
}

pub(super) fn dead_without_replicas(d: &Derived<'_>) -> String {
    format!("{}; it has no replica in service", primary(d))
}

pub(super) fn dead_and_replicas(d: &Derived<'_>) -> String {
    format!("{}; of {} none answers either", primary(d), replicas(d))
}

pub(super) fn dead_and_some_replicas(d: &Derived<'_>) -> String {
    dead(d)
}

pub(super) fn dead(d: &Derived<'_>) -> String {
    format!("{}; of {} {}", primary(d), replicas(d), signs(d))
}

pub(super) fn stalled(d: &Derived<'_>) -> String {
    format!(
        "primary {} greets and has not answered for {} ms; of {} {}",
        d.primary.address,
        silent_ms(d),
        replicas(d),
        signs(d)
    )
}

pub(super) fn unreachable_lagging(d: &Derived<'_>) -> String {
    let least = d.replicas.iter().filter_map(|r| r.lag_s).min().unwrap_or(0);
    format!("{}; of {} each lags by {least} s or more", primary(d), replicas(d))
}

pub(super) fn unreachable(d: &Derived<'_>) -> String {
    let advice = match d.needs_witness() {
        true => {
            ": their heartbeat is too long to prove that it lives (set SOURCE_HEARTBEAT_PERIOD / \
                 MASTER_HEARTBEAT_PERIOD to 0.5 s)"
        }
        false => "",
    };
    format!("{}; of {} {}{advice}", primary(d), replicas(d), signs(d))
}

pub(super) fn none_replicates(d: &Derived<'_>) -> String {
    let reached = d.reached();
    let receiving = d.replicas.iter().filter(|r| r.receives).count();
    let applying = d.replicas.iter().filter(|r| r.applies).count();
    format!(
        "primary {} answers, and of {} none replicates: {reached} reached, {receiving} receiving, {applying} applying",
        d.primary.address,
        replicas(d)
    )
}

pub(super) fn paused(d: &Derived<'_>) -> String {
    match &d.reach {
        Reach::Answering => {
            format!("primary {} was silent for {} ms a moment ago", d.primary.address, d.recent_pause_ms)
        }
        Reach::Gone { .. } => format!("{}; too early to judge", primary(d)),
        _ => format!("primary {} has been silent for {} ms", d.primary.address, silent_ms(d)),
    }
}

pub(super) fn read_only(d: &Derived<'_>) -> String {
    let on = |name: &'static str, value: bool| value.then_some(name);
    let switches: Vec<&str> = d
        .facts
        .map(|f| {
            [
                on("read_only", f.read_only),
                on("super_read_only", f.super_read_only == Some(true)),
                on("offline_mode", f.offline_mode == Some(true)),
            ]
        })
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    format!("primary {} refuses writes: {} on", d.primary.address, switches.join(", "))
}

pub(super) fn without_replicas(d: &Derived<'_>) -> String {
    format!("primary {} has no replica in service", d.primary.address)
}

pub(super) fn lost_their_own(d: &Derived<'_>) -> String {
    let each: Vec<String> = d
        .lost_their_own()
        .iter()
        .map(|(replica, lost)| format!("{} lacks {lost}", replica.member.address))
        .collect();
    format!(
        "{}, which it wrote itself and primary {} has: no source sends it that, it has to be built anew",
        each.join("; "),
        d.primary.address
    )
}

/// The primary's part of a sentence.
fn primary(d: &Derived<'_>) -> String {
    let address = &d.primary.address;
    match (&d.reach, d.silent_ms) {
        (Reach::Gone { how }, Some(ms)) => format!("primary {address}: {how}, last answer {ms} ms ago"),
        (Reach::Gone { how }, None) => format!("primary {address}: {how}"),
        (Reach::Silent { trouble: Some(why) }, _) => {
            format!("primary {address} not reached for {} ms ({why})", silent_ms(d))
        }
        _ => format!("primary {address} silent for {} ms", silent_ms(d)),
    }
}

fn silent_ms(d: &Derived<'_>) -> u64 {
    d.silent_ms.unwrap_or(0)
}

fn replicas(d: &Derived<'_>) -> String {
    match d.replicas.len() {
        1 => "its 1 replica".into(),
        more => format!("its {more} replicas"),
    }
}

/// What the replicas say, counted: `2 lost it, 1 unreachable`.
fn signs(d: &Derived<'_>) -> String {
    let named = [
        (ReplicaSign::Lost, "lost it"),
        (ReplicaSign::Connected, "still receive from it"),
        (ReplicaSign::Unproven, "claim to be connected without proof"),
        (ReplicaSign::Stopped, "say nothing (not receiving from it)"),
        (ReplicaSign::Unreachable, "unreachable"),
    ];
    let counted: Vec<String> = named
        .into_iter()
        .map(|(sign, words)| (d.count(sign), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    match (counted.is_empty(), d.heard_by_any) {
        (true, _) => "none is in service".into(),
        // A replica that is not counted (downtime) is heard all the same.
        (_, true) if d.count(ReplicaSign::Connected) == 0 => {
            format!("{}, and one out of service still receives from it", counted.join(", "))
        }
        _ => counted.join(", "),
    }
}
