//! Recoveries, plans, explanations.

use super::{cluster_name, or_dash, paint::Paint, table, time};
use crate::{
    cli::{
        duration::spoken,
        json::{kind_name, state_name},
    },
    proto::v1 as pb,
};

fn state(record: &pb::RecoveryRecord, paint: Paint) -> String {
    let name = state_name(record.state());
    match record.state() {
        pb::RecoveryState::Succeeded => paint.good(&name),
        pb::RecoveryState::Failed => paint.bad(&name),
        _ => paint.warn(&name),
    }
}

/// One that runs has none yet, unless it was given up.
fn reason(r: &pb::RecoveryRecord) -> String {
    match (r.state(), r.fence_unknown) {
        (pb::RecoveryState::Running, true) => format!("fence unknown; being undone: {}", r.given_up),
        (pb::RecoveryState::Running, false) if !r.given_up.is_empty() => {
            format!("being undone: {}", r.given_up)
        }
        _ => r.reason.clone(),
    }
}

/// One a line, newest first.
pub fn list(records: &[pb::RecoveryRecord], paint: Paint) -> String {
    if records.is_empty() {
        return "no recoveries\n".into();
    }
    let row = |r: &pb::RecoveryRecord| {
        vec![
            r.id.to_string(),
            time(r.started_unix_ms),
            cluster_name(&r.alias, &r.cluster).to_owned(),
            kind_name(r.kind()),
            state(r, paint),
            spoken(r.took_ms),
            format!("{} -> {}", r.old_primary, or_dash(&r.new_primary)),
            or_dash(&r.code).to_owned(),
            if r.acknowledged.is_some() { "yes" } else { "no" }.to_owned(),
            reason(r),
        ]
    };
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    table(
        &["ID", "STARTED (UTC)", "CLUSTER", "KIND", "STATE", "TOOK", "PRIMARY", "CODE", "ACKED", "REASON"],
        &rows,
    )
}

/// One whole.
pub fn whole(r: &pb::RecoveryRecord, paint: Paint) -> String {
    let mut text = format!(
        "{} {} of {}: {} after {}\n",
        kind_name(r.kind()),
        paint.bold(&r.id.to_string()),
        cluster_name(&r.alias, &r.cluster),
        state(r, paint),
        spoken(r.took_ms)
    );
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {label:<13}{value}\n"));
        }
    };
    line("primary", &format!("{} -> {}", r.old_primary, or_dash(&r.new_primary)));
    line("code", &r.code);
    line("started", &time(r.started_unix_ms));
    line("requested by", &r.requested_by);
    line("reason", &r.reason);
    if r.state() == pb::RecoveryState::Running {
        line("given up", &r.given_up);
    }
    if r.fence_unknown {
        let what =
            format!("unknown: it may be read-only on {}, or become so when that answers", r.old_primary);
        line("fence", &paint.bad(&what));
    }
    line("lost", if r.lost.is_empty() { "nothing known" } else { &r.lost });
    if !r.unprotected.is_empty() {
        line("unprotected", &paint.bad(&r.unprotected));
    }
    if let Some(ack) = &r.acknowledged {
        line("acknowledged", &format!("by {}: {}", ack.by, ack.comment));
    }
    for left in &r.left_behind {
        line("left behind", &format!("{}: {}", left.address, left.why));
    }
    for witness in &r.evidence {
        line("evidence", &witness_line(witness));
    }
    text.push_str(&candidates(&r.considered, paint));
    if !r.steps.is_empty() {
        let row = |s: &pb::StepRecord| {
            let outcome =
                if s.outcome.starts_with("done") { s.outcome.clone() } else { paint.bad(&s.outcome) };
            vec![
                format!("  +{} ms", s.at_ms),
                s.step.clone(),
                s.server.clone(),
                s.node.to_string(),
                format!("{} ms", s.took_ms),
                outcome,
            ]
        };
        let rows: Vec<Vec<String>> = r.steps.iter().map(row).collect();
        text.push_str(&table(&["  AT", "STEP", "SERVER", "NODE", "TOOK", "OUTCOME"], &rows));
    }
    text
}

fn candidates(considered: &[pb::Considered], paint: Paint) -> String {
    let line = |c: &pb::Considered| {
        let sign = if c.chosen { paint.good("*") } else { " ".into() };
        format!("  {sign} {}: {}\n", c.address, c.why)
    };
    considered.iter().map(line).collect()
}

fn witness_line(w: &pb::Witness) -> String {
    let age = w.age_ms.map(|ms| format!(", {ms} ms old")).unwrap_or_default();
    let hard = if w.hard { ", hard" } else { "" };
    let role = if w.voter { "" } else { " (learner)" };
    let not_counted =
        if w.not_counted.is_empty() { String::new() } else { format!(" [not counted: {}]", w.not_counted) };
    if w.finding.is_empty() {
        return format!("node {}{role} has given no verdict", w.node);
    }
    let finding = &w.finding;
    let text = if w.text.is_empty() { String::new() } else { format!(": {}", w.text) };
    format!("node {}{role} says {finding}{hard}{age}{text}{not_counted}", w.node)
}

/// What would happen.
pub fn plan(plan: &pb::Plan, paint: Paint) -> String {
    let name = cluster_name(&plan.alias, &plan.cluster);
    let mut text = match plan.kind() {
        pb::Kind::Switchover => format!("if {name} were switched over now"),
        pb::Kind::Forced => format!("if {name} were failed over by force now"),
        _ => format!("if the primary of {name} ({}) died now", or_dash(&plan.old_primary)),
    };
    match plan.new_primary.as_str() {
        "" => text.push_str(&format!(", {}\n", paint.bad("nobody would be promoted"))),
        new => text.push_str(&format!(", {} would become primary\n", paint.bold(new))),
    }
    for refusal in &plan.blocked_by {
        text.push_str(&format!("  {} {} ({})\n", paint.bad("refused:"), refusal.text, refusal.reason));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("  {} {warning}\n", paint.warn("warning:")));
    }
    if !plan.considered.is_empty() {
        text.push_str("candidates\n");
        text.push_str(&candidates(&plan.considered, paint));
    }
    match plan.lost.as_str() {
        "" => text.push_str("lost: nothing, as far as is known now\n"),
        lost => text.push_str(&format!(
            "lost: {lost}, which no replica held when it was last read; under writes, mostly what was on its way\n"
        )),
    }
    let row = |s: &pb::PlannedStep| {
        vec![format!("  {}", s.stage), s.stage_name.clone(), s.step.clone(), s.server.clone(), s.text.clone()]
    };
    let rows: Vec<Vec<String>> = plan.steps.iter().map(row).collect();
    if !rows.is_empty() {
        text.push_str(&table(&["  STAGE", "", "STEP", "SERVER", "WHAT"], &rows));
    }
    text
}

/// Who saw what, whether it is agreed, what stands against it, what would happen.
pub fn explain(e: &pb::ExplainResponse, paint: Paint) -> String {
    let name = paint.bold(cluster_name(&e.alias, &e.cluster));
    let primary = if e.primary.is_empty() { "unclear" } else { &e.primary };
    let mut text = format!("{name}: primary {primary}, epoch {}\n\nwho saw what\n", e.primary_epoch);
    for witness in &e.witnesses {
        text.push_str(&format!("  {}\n", witness_line(witness)));
        for sign in &witness.replicas {
            text.push_str(&format!("    {} {}\n", sign.address, sign.sign));
        }
    }
    let agreement = e.agreement.clone().unwrap_or_default();
    let agreed = if agreement.agreed { paint.bad("agreed") } else { paint.good("no failure agreed") };
    text.push_str(&format!("\nagreement\n  {agreed}: {}\n", agreement.text));
    text.push_str("\nwhat stands against an automatic recovery\n");
    if e.against.is_empty() && e.recovery.is_none() {
        text.push_str("  nothing\n");
    }
    if let Some(id) = e.recovery {
        text.push_str(&format!("  recovery {id} is running\n"));
    }
    for refusal in &e.against {
        text.push_str(&format!("  {} ({})\n", refusal.text, refusal.reason));
    }
    for order in &e.orders {
        text.push_str(&format!(
            "\nstanding order {} since recovery {}\n  {} {}: {}\n",
            order.id, order.recovery, order.server, order.stage, order.text
        ));
    }
    text.push('\n');
    match (&e.plan, &e.plan_refusal) {
        (Some(would), _) => text.push_str(&plan(would, paint)),
        (None, Some(why)) => text.push_str(&format!("what would happen cannot be said: {}\n", why.text)),
        (None, None) => {}
    }
    text
}
