//! The group of nodes.

use super::{or_dash, paint::Paint, table};
use crate::{cli::json::enum_name, proto::v1 as pb};

/// Who leads, who follows, who is missing.
pub fn status(group: &pb::GroupStatus, paint: Paint) -> String {
    if !group.initialised {
        return format!(
            "node {} of group {} belongs to no group yet; `quorate nodes init 1=HOST:PORT ...` makes one\n",
            group.answered_by, group.group
        );
    }
    let leader = match group.leader {
        0 => paint.bad("no leader"),
        id => format!("leader is node {id}"),
    };
    let head = format!(
        "group {}: {leader}, term {}, log index {}, as node {} sees it\n",
        paint.bold(&group.group),
        group.term,
        group.log_index,
        group.answered_by
    );
    let row = |n: &pb::Node| {
        let role = enum_name(n.role().as_str_name(), "NODE_ROLE_");
        let role = match n.role() {
            pb::NodeRole::Leader => paint.good(&role),
            pb::NodeRole::Unreachable => paint.bad(&role),
            _ => role,
        };
        vec![
            n.id.to_string(),
            n.address.clone(),
            role,
            if n.voter { "yes" } else { "no" }.to_owned(),
            n.applied.map_or("-".into(), |index| index.to_string()),
            or_dash(&n.datacenter).to_owned(),
            or_dash(&n.version).to_owned(),
            if n.feature_level == 0 { "-".to_owned() } else { n.feature_level.to_string() },
            or_dash(&n.incarnation).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = group.nodes.iter().map(row).collect();
    head + &table(
        &["NODE", "ADDRESS", "ROLE", "VOTES", "APPLIED", "DATACENTER", "VERSION", "LEVEL", "INCARNATION"],
        &rows,
    )
}

/// A new group.
pub fn initialised(answer: &pb::InitResponse) -> String {
    let nodes: Vec<String> = answer.nodes.iter().map(|n| format!("{}={}", n.id, n.address)).collect();
    format!("group {} is made of {} nodes: {}\n", answer.group, nodes.len(), nodes.join(" "))
}
