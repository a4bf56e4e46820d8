//! Every statement that changes a server lies between the log entry that allows it and that entry's end, and comes from
//! who may send it (P1). From the servers' general logs, and the group's own record of what it allowed.
//!
//! What allows statements:
//! - a running recovery: its owner, any; every voter, the fence of the old primary. A successor clears its predecessor's
//!   sessions from a server before its own first statement there, and only then are the predecessor's over: until then
//!   a step that began under a permit may still be under way.
//! - a standing order against a server, from the publication (or the failure) that issued it until that server is rejoined
//!   or becomes a candidate: any node.
//! - the call of a witness: any one node.
//! - a step that the record says ended *unknown* may land later: through a link that was cut, or on a server that was
//!   frozen. Told as a note.
//!
//! What a node was allowed before it was frozen is void when it is thawed, unless it owns it still.
//!
//! The times of events are those at which the leader stamped the commands, a moment before they were committed.

mod grants;

use super::{
    Verdict,
    evidence::{Event, Evidence, Statement},
};
use grants::{Grant, grants};

/// The wall time of an event has whole milliseconds.
const ROUNDED_MS: f64 = 1.0;

pub fn check(evidence: &Evidence) -> Verdict {
    let Some(statements) = &evidence.statements else {
        return Verdict::unread("the servers kept no general log");
    };
    let (Some(recoveries), Some(events)) = (&evidence.recoveries, &evidence.events) else {
        return Verdict::unread("no node told the recoveries and events");
    };
    let grants = grants(evidence, recoveries, events, statements);
    let mut verdict = Verdict::default();
    for statement in statements {
        verdict.violations.extend(accuse(statement, &grants));
        verdict.notes.extend(tell_late(statement, &grants));
    }
    verdict.violations.extend(strangers(&grants, statements));
    verdict
}

/// A statement that only the doubt about its step allows.
fn tell_late(statement: &Statement, grants: &[Grant]) -> Option<String> {
    let mut allowing = grants.iter().filter(|grant| grant.allows(statement));
    let doubt = allowing.next().filter(|grant| grant.late)?;
    allowing.all(|grant| grant.late).then(|| {
        let Statement { server, sql, .. } = statement;
        format!("landed late on server {server}, from {} ({}): {sql}", doubt.name, at(statement))
    })
}

fn accuse(statement: &Statement, grants: &[Grant]) -> Option<String> {
    let Statement { server, node, sql, .. } = statement;
    let Some(node) = node else {
        return Some(format!("server {server} was sent over a session without a mark: {sql}"));
    };
    if grants.iter().any(|grant| grant.allows(statement)) {
        return None;
    }
    let near = grants.iter().filter(|grant| grant.covers(statement)).map(|grant| grant.name.clone());
    let near: Vec<String> = near.collect();
    Some(match near.is_empty() {
        true => {
            format!("node {node} sent to server {server} while nothing allowed it ({}): {sql}", at(statement))
        }
        false => format!(
            "node {node} sent to server {server} what was another's to send ({}, {}): {sql}",
            at(statement),
            near.join(", ")
        ),
    })
}

/// The time of a statement, for people: of the day, as the nodes' logs have it.
fn at(statement: &Statement) -> String {
    let day_ms = statement.from_ms.rem_euclid(86_400_000.0);
    let seconds = day_ms / 1000.0;
    let (hours, minutes) = ((seconds / 3600.0) as u64, (seconds / 60.0) as u64 % 60);
    format!("{hours:02}:{minutes:02}:{:06.3} UTC", seconds % 60.0)
}

/// Where the owner is not told by name (before a take-over), it must at least be one node. What another grant allows its
/// sender is that grant's: the times of statements are coarse, so a successor's first ones touch its predecessor's time.
fn strangers(grants: &[Grant], statements: &[Statement]) -> Vec<String> {
    let unnamed = grants.iter().filter_map(|grant| Some((grant, grant.sole?)));
    let senders = unnamed.filter_map(|(grant, sole)| {
        let elsewhere = |s: &&Statement| grants.iter().any(|other| other.sole.is_none() && other.allows(s));
        let own = |s: &&Statement| grant.allows(s) && sole(&s.sql) && !elsewhere(s);
        let mut nodes: Vec<u64> = statements.iter().filter(own).filter_map(|s| s.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        (nodes.len() > 1).then(|| format!("nodes {nodes:?} all sent statements of {}", grant.name))
    });
    senders.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::evidence::{
        Thawed,
        samples::{A, B, C, event, statement},
    };
    use serde_json::json;

    /// The failover, with these statements.
    fn sent(statements: Vec<Statement>) -> Evidence {
        Evidence { statements: Some(statements), ..Evidence::failover() }
    }

    fn count(evidence: &Evidence) -> usize {
        check(evidence).violations.len()
    }

    #[test]
    fn the_owner_may_send_from_the_entry_to_the_end() {
        let stop = "STOP REPLICA IO_THREAD FOR CHANNEL ''";
        let of_owner = |at| count(&sent(vec![statement(2, 1, at, stop)]));
        assert_eq!((of_owner(1000.0), of_owner(1100.0), of_owner(1200.5)), (0, 0, 0));
        assert_eq!((of_owner(999.0), of_owner(1202.0)), (1, 1));
    }

    #[test]
    fn others_may_only_fence_the_old_primary() {
        let fence = "SET GLOBAL super_read_only=ON";
        assert_eq!(count(&sent(vec![statement(1, 2, 1010.0, fence)])), 0);
        assert_eq!(count(&sent(vec![statement(2, 2, 1010.0, fence)])), 1);
        assert_eq!(count(&sent(vec![statement(1, 2, 1010.0, "SET GLOBAL read_only=OFF")])), 1);
    }

    #[test]
    fn a_session_without_a_mark_may_nothing() {
        let unmarked = Statement { node: None, ..statement(2, 1, 1100.0, "STOP REPLICA") };
        assert!(check(&sent(vec![unmarked])).violations[0].contains("without a mark"));
    }

    #[test]
    fn a_standing_order_lasts_until_the_rejoin() {
        let fence = "SET GLOBAL super_read_only=ON";
        let late = |at| {
            let mut evidence = sent(vec![statement(1, 3, at, fence)]);
            evidence.events.as_mut().unwrap().push(event(20, 5000.0, "rejoined", Some(A), Some(10)));
            count(&evidence)
        };
        assert_eq!((late(1300.0), late(4999.0)), (0, 0));
        assert_eq!(late(5002.0), 1);
        // Against another server there is none.
        assert_eq!(count(&sent(vec![statement(3, 3, 1300.0, fence)])), 1);
    }

    /// Taken over by node 2 at 1080.
    fn taken_over(statements: Vec<Statement>) -> Evidence {
        let mut evidence = sent(statements);
        let taken = crate::check::evidence::Event {
            text: "node 2 takes recovery 10 over in phase Decided".into(),
            ..event(12, 1080.0, "taken_over", None, Some(10))
        };
        evidence.events.as_mut().unwrap().insert(2, taken);
        evidence.recoveries.as_mut().unwrap()[0]["owner_node"] = json!(2);
        evidence
    }

    #[test]
    fn a_predecessor_is_over_once_its_sessions_were_cleared() {
        let stop = "STOP REPLICA";
        let successor = statement(2, 2, 1090.0, "KILL CONNECTION 7");
        let old = |at| count(&taken_over(vec![successor.clone(), statement(2, 1, at, stop)]));
        assert_eq!((old(1070.0), old(1085.0)), (0, 0));
        assert_eq!(old(1095.0), 1);
        // Its next statement at the moment of its first one's end is its own, though the log's times are coarse.
        let next = Statement { to_ms: 1100.0, ..statement(2, 2, 1090.0, "SET GLOBAL read_only=OFF") };
        assert_eq!(count(&taken_over(vec![statement(2, 1, 1070.0, stop), successor.clone(), next])), 0);
        // The successor not before it took over.
        assert_eq!(count(&taken_over(vec![statement(2, 2, 1070.0, stop), statement(2, 1, 1060.0, stop)])), 1);
    }

    #[test]
    fn a_thawed_node_is_silent_unless_it_owns_the_recovery() {
        let sent_at = |evidence: &mut Evidence, thawed_ms| {
            evidence.thawed = vec![Thawed { node: 1, at_ms: thawed_ms }];
            count(evidence)
        };
        // The successor has sent nothing to that server: until then its predecessor's steps may be under way there.
        let mut evidence = taken_over(vec![statement(2, 1, 1150.0, "STOP REPLICA")]);
        assert_eq!(count(&evidence), 0);
        assert_eq!(sent_at(&mut evidence, 1140.0), 1);
        // Thawed before anybody took over, it was the owner.
        assert_eq!(sent_at(&mut evidence, 1050.0), 0);
        let mut owner = sent(vec![statement(2, 1, 1150.0, "STOP REPLICA")]);
        assert_eq!(sent_at(&mut owner, 1140.0), 0);
    }

    #[test]
    fn a_step_that_ended_unknown_may_land_later_and_is_told() {
        let step =
            |outcome: &str| json!([{"step": "stop_receiver", "server": C, "node": 1, "outcome": outcome}]);
        let with = |outcome: &str, sql: &str, server| {
            let mut evidence = sent(vec![statement(server, 1, 9000.0, sql)]);
            evidence.recoveries.as_mut().unwrap()[0]["steps"] = step(outcome);
            check(&evidence)
        };
        let late = with("unknown: no answer", "STOP REPLICA IO_THREAD", 3);
        assert_eq!((late.violations.len(), late.notes.len()), (0, 1));
        assert_eq!(with("done", "STOP REPLICA IO_THREAD", 3).violations.len(), 1);
        assert_eq!(with("unknown: no answer", "SET GLOBAL read_only=OFF", 3).violations.len(), 1);
        assert_eq!(with("unknown: no answer", "STOP REPLICA IO_THREAD", 2).violations.len(), 1);
        // In its time it is nothing to be told.
        let mut evidence = sent(vec![statement(3, 1, 1100.0, "STOP REPLICA")]);
        evidence.recoveries.as_mut().unwrap()[0]["steps"] = step("unknown: no answer");
        assert_eq!(check(&evidence), Verdict::default());
    }

    #[test]
    fn a_witness_is_one_nodes() {
        let call = |nodes: &[u64]| {
            let restart = |node: &u64| statement(3, *node, 2010.0, "STOP REPLICA; START REPLICA");
            let mut evidence =
                Evidence { statements: Some(nodes.iter().map(restart).collect()), ..Evidence::quiet() };
            let witness = event(7, 2000.0, "witness", Some("10.0.0.3:3306"), None);
            let settled = Event {
                text: "its receiver was restarted".into(),
                ..event(8, 2100.0, "witness", Some("10.0.0.3:3306"), None)
            };
            evidence.events = Some(vec![witness, settled]);
            count(&evidence)
        };
        assert_eq!((call(&[1]), call(&[1, 2])), (0, 1));
    }

    #[test]
    fn without_general_logs_nothing_is_judged() {
        let unread = Evidence { statements: None, ..Evidence::failover() };
        assert!(check(&unread).unread.is_some());
    }

    #[test]
    fn a_failed_candidate_is_fenced_by_an_order() {
        let mut evidence = sent(vec![statement(2, 3, 3000.0, "SET GLOBAL super_read_only=ON")]);
        assert_eq!(count(&evidence), 1);
        evidence.recoveries.as_mut().unwrap()[0]["state"] = json!("failed");
        evidence.events.as_mut().unwrap().retain(|e| e.kind != "published" && e.kind != "blocked");
        assert_eq!(count(&evidence), 0);
        assert_eq!(evidence.number(B), Some(2));
    }
}
