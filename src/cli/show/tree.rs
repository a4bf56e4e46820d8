//! A cluster as a tree.
//!
//! ```text
//! db1:3306     [0s,ok,8.4.2,rw,ROW,>>,GTID]
//! + db2:3306   [0s,ok,8.4.2,ro,ROW,>>,GTID]
//!   + db3:3306 [2s,ok,8.4.2,ro,ROW,>>,GTID]
//! - db4:3306   [null,nonreplicating,8.4.2,ro,ROW,>>,GTID]
//! ```

use super::{cluster_name, paint::Paint, paint::width};
use crate::{cli::duration::spoken, proto::v1 as pb};

/// Deepest indentation.
pub const DEPTH_MAX: u32 = 100;

/// The tree with its head and what stands beside it.
pub fn cluster(cluster: &pb::Cluster, paint: Paint) -> String {
    let mut text = head(cluster, paint);
    text.push_str(&members(&cluster.members, paint));
    for problem in &cluster.problems {
        let code = paint.severity(&problem.severity, &problem.code);
        text.push_str(&format!("{code}: {}\n", problem.text));
    }
    for block in &cluster.blocks {
        let line = format!(
            "blocked: no automatic recovery for another {}, since recovery {}; `quorate ack {} --comment ...` lifts it",
            spoken(block.left_ms),
            block.recovery,
            block.recovery
        );
        text.push_str(&format!("{}\n", paint.warn(&line)));
    }
    for refusal in cluster.paused.iter().filter(|r| r.reason != "CLUSTER_BLOCKED") {
        text.push_str(&format!("{}\n", paint.warn(&format!("no automatic recovery: {}", refusal.text))));
    }
    text
}

fn head(cluster: &pb::Cluster, paint: Paint) -> String {
    let durability = cluster.durability.clone().unwrap_or_default();
    let durable = match durability.mode.as_str() {
        "semi_sync" => format!("semi-sync, {} of {} acknowledge", durability.acks, durability.ackers.len()),
        "unprotected" => paint.warn(&format!("unprotected: {}", durability.why)),
        _ => "asynchronous".to_owned(),
    };
    let running = cluster.recovery.map(|id| format!(", recovery {id} is running")).unwrap_or_default();
    let name = paint.bold(cluster_name(&cluster.alias, &cluster.cluster));
    let epoch = cluster.primary_epoch;
    format!("{name} ({}), primary epoch {epoch}, {durable}{running}\n", cluster.flavor)
}

/// The tree alone.
pub fn members(members: &[pb::Member], paint: Paint) -> String {
    let names: Vec<String> = members.iter().map(|m| name(m, paint)).collect();
    let widest = names.iter().map(|name| width(name)).max().unwrap_or_default();
    let mut text = String::new();
    for (member, name) in members.iter().zip(&names) {
        let pad = " ".repeat(widest - width(name));
        text.push_str(&format!("{name}{pad} [{}]\n", fields(member, paint)));
    }
    text
}

fn name(member: &pb::Member, paint: Paint) -> String {
    let address = match member.role() {
        pb::Role::Primary => paint.bold(&member.address),
        _ => member.address.clone(),
    };
    if member.depth == 0 {
        return address;
    }
    let sign = if matches!(member.status.as_str(), "ok" | "lag") { '+' } else { '-' };
    format!("{}{sign} {address}", "  ".repeat(member.depth.min(DEPTH_MAX) as usize - 1))
}

fn fields(member: &pb::Member, paint: Paint) -> String {
    let status = match member.status.as_str() {
        "ok" => paint.good("ok"),
        "lag" => paint.warn("lag"),
        other => paint.bad(other),
    };
    let mut fields = vec![lag(member), status, member.version.clone()];
    match &member.live {
        Some(live) => fields.extend(live_fields(member, live, paint)),
        None => fields.extend(["?".to_owned(), "?".to_owned()]),
    }
    fields.extend(extras(member, paint));
    fields.retain(|field| !field.is_empty());
    fields.join(",")
}

fn lag(member: &pb::Member) -> String {
    match &member.live {
        Some(live) if live.fresh && live.receiver.is_empty() => "0s".into(),
        Some(live) if live.fresh => live.lag_s.map_or("null".into(), |lag| format!("{lag}s")),
        _ => "unknown".into(),
    }
}

fn live_fields(member: &pb::Member, live: &pb::Live, paint: Paint) -> Vec<String> {
    let mode = match (live.writable, member.role()) {
        (true, pb::Role::Primary) => "rw".to_owned(),
        (true, _) => paint.warn("rw"),
        (false, pb::Role::Primary) => paint.bad("ro"),
        (false, _) => "ro".to_owned(),
    };
    let format = match (live.log_bin, live.binlog_format.as_str()) {
        (false, _) => "nobinlog",
        (true, format) => format,
    };
    let mut fields = vec![mode, format.to_owned()];
    if live.log_bin && live.log_replica_updates {
        fields.push(">>".into());
    }
    if live.gtid_on {
        let errant = !live.gtid_ahead.is_empty();
        fields.push(if errant { paint.bad("GTID:errant") } else { "GTID".into() });
    }
    if live.semi_sync_source == Some(true) {
        fields.push("semi:source".into());
    }
    if live.semi_sync_replica == Some(true) {
        fields.push("semi:replica".into());
    }
    fields
}

fn extras(member: &pb::Member, paint: Paint) -> Vec<String> {
    let mut extras = Vec::new();
    if member.downtime.is_some() {
        extras.push("downtimed".to_owned());
    }
    if member.channels > 1 {
        extras.push(paint.warn("multi-source"));
    }
    match member.state() {
        pb::MemberState::Quarantined => extras.push(paint.bad("quarantined")),
        pb::MemberState::Replaced => extras.push(paint.warn("replaced")),
        pb::MemberState::Changed => extras.push(paint.bad("changed")),
        _ => {}
    }
    if !member.standing_order.is_empty() && member.state() != pb::MemberState::Quarantined {
        extras.push(paint.warn("fence"));
    }
    if member.fence_unknown {
        extras.push(paint.bad("fence unknown"));
    }
    extras
}
