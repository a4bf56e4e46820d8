//! Tables: clusters, problems, events, policy, settings, discoveries.

use super::{cluster_name, or_dash, paint::Paint, table, time, tree};
use crate::{
    cli::{args::PolicyVerb, duration::spoken},
    proto::v1 as pb,
};

/// Clusters, one a line.
pub fn clusters(list: &[pb::ClusterSummary], paint: Paint) -> String {
    if list.is_empty() {
        return "no cluster yet; `quorate discover HOST:PORT` adopts one\n".into();
    }
    let row = |c: &pb::ClusterSummary| {
        let problems = match c.problems.is_empty() {
            true => paint.good("none"),
            false => paint.bad(&c.problems.join(",")),
        };
        let mut notes = Vec::new();
        if c.blocked {
            notes.push(paint.warn("blocked"));
        }
        if !c.recoveries_enabled {
            notes.push(paint.warn("recoveries disabled"));
        }
        if let Some(id) = c.recovery {
            notes.push(paint.warn(&format!("recovery {id} running")));
        }
        if c.durability == "unprotected" {
            notes.push(paint.warn("unprotected"));
        }
        let primary = if c.primary.is_empty() { paint.bad("unclear") } else { c.primary.clone() };
        vec![
            cluster_name(&c.alias, &c.cluster).to_owned(),
            c.flavor.clone(),
            primary,
            c.primary_epoch.to_string(),
            c.members.to_string(),
            problems,
            notes.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = list.iter().map(row).collect();
    table(&["CLUSTER", "FLAVOR", "PRIMARY", "EPOCH", "MEMBERS", "PROBLEMS", ""], &rows)
}

/// Problems, one a line.
pub fn problems(list: &[pb::Problem], paint: Paint) -> String {
    if list.is_empty() {
        return "no problems\n".into();
    }
    let row = |p: &pb::Problem| {
        let nodes: Vec<String> = p.nodes.iter().map(u64::to_string).collect();
        vec![
            paint.severity(&p.severity, &p.severity),
            cluster_name(&p.alias, &p.cluster).to_owned(),
            p.code.clone(),
            or_dash(&p.server).to_owned(),
            or_dash(&nodes.join(",")).to_owned(),
            p.text.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = list.iter().map(row).collect();
    table(&["SEVERITY", "CLUSTER", "CODE", "SERVER", "SEEN BY", "WHAT"], &rows)
}

/// One event, one line.
pub fn event(event: &pb::Event, paint: Paint) -> String {
    let kind = match event.kind.as_str() {
        "alert" | "quarantined" => paint.bad(&event.kind),
        "recovery_started" | "recovery_refused" | "blocked" | "fenced" => paint.warn(&event.kind),
        "published" | "recovery_ended" | "rejoined" | "unblocked" => paint.good(&event.kind),
        _ => event.kind.clone(),
    };
    let pad = " ".repeat(17usize.saturating_sub(event.kind.len()));
    let server = if event.server.is_empty() { String::new() } else { format!(" {}", event.server) };
    let by = if event.by.is_empty() || event.by == "quorate" {
        String::new()
    } else {
        paint.dim(&format!(" (by {})", event.by))
    };
    let when = paint.dim(&time(event.time_unix_ms));
    format!(
        "{:>7} {when} {kind}{pad} {}{server}: {}{by}\n",
        event.index,
        or_dash(cluster_name(&event.alias, &event.cluster)),
        event.text
    )
}

/// A discovery.
pub fn discovered(d: &pb::DiscoverResponse, dry_run: bool, paint: Paint) -> String {
    let what = match (dry_run, d.adopted) {
        (true, true) => "would be adopted",
        (true, false) => "is known; this is what is there now",
        (false, true) => "adopted",
        (false, false) => "was known; looked at it again",
    };
    let name = paint.bold(cluster_name(&d.alias, &d.cluster));
    let mut text = format!("cluster {name} {what}, {} members\n", d.members.len());
    for member in &d.members {
        let indent = "  ".repeat(member.depth.min(tree::DEPTH_MAX) as usize + 1);
        text.push_str(&format!("{indent}{} {}\n", member.address, paint.dim(&member.version)));
    }
    for warning in &d.warnings {
        text.push_str(&format!("{} {warning}\n", paint.warn("warning:")));
    }
    text
}

/// The policy, key by key; what differs from the default says so.
pub fn policy(document: &pb::PolicyDocument, verb: &PolicyVerb, paint: Paint) -> String {
    let (keys, only_changed): (&[String], bool) = match verb {
        PolicyVerb::Get { keys, changed } => (keys, *changed),
        PolicyVerb::Set { .. } => (&[], true),
    };
    let mut rows = Vec::new();
    for setting in &document.settings {
        let changed = setting.value != setting.default_value;
        if (!keys.is_empty() && !keys.contains(&setting.key)) || (only_changed && !changed) {
            continue;
        }
        let note =
            if changed { paint.warn(&format!("default {}", setting.default_value)) } else { String::new() };
        rows.push(vec![setting.key.clone(), setting.value.clone(), note]);
    }
    format!("policy version {}\n{}", document.version, table(&["KEY", "VALUE", ""], &rows))
}

/// What people have set.
pub fn settings(settings: &pb::Settings) -> String {
    let mut lines = Vec::new();
    let switch = settings.recoveries.clone().unwrap_or_default();
    let why = if switch.why.is_empty() { String::new() } else { format!(": {}", switch.why) };
    let state = if switch.enabled { "enabled" } else { "disabled" };
    lines.push(format!("automatic recoveries {state} globally, by {}{why}", switch.by));
    for cluster in &settings.clusters {
        let switch = cluster.recoveries.clone().unwrap_or_default();
        lines.push(format!(
            "disabled for cluster {}, by {}: {}",
            cluster_name(&cluster.alias, &cluster.cluster),
            switch.by,
            switch.why
        ));
    }
    for downtime in &settings.downtimes {
        let pause = downtime.pause.clone().unwrap_or_default();
        let left = spoken(pause.left_ms);
        lines.push(format!("downtime of {}, {left} left, by {}: {}", downtime.address, pause.by, pause.why));
    }
    for maintenance in &settings.maintenance {
        let pause = maintenance.pause.clone().unwrap_or_default();
        let left = spoken(pause.left_ms);
        lines.push(format!(
            "maintenance of {}, {left} left, by {}: {}",
            cluster_name(&maintenance.alias, &maintenance.cluster),
            pause.by,
            pause.why
        ));
    }
    for rule in &settings.rules {
        let left = rule.left_ms.map(|ms| format!(", {} left", spoken(ms))).unwrap_or_default();
        lines.push(format!("promotion rule of {}: {}, by {}{left}", rule.address, rule.rule, rule.by));
    }
    for block in settings.blocks.iter().filter(|b| !b.lifted) {
        let left = spoken(block.left_ms);
        lines.push(format!(
            "block of {} ({}), {left} left, since recovery {}",
            cluster_name(&block.alias, &block.cluster),
            block.class,
            block.recovery
        ));
    }
    lines.join("\n") + "\n"
}

/// The tree of a cluster.
pub fn topology(cluster: &pb::Cluster, paint: Paint) -> String {
    tree::cluster(cluster, paint)
}
