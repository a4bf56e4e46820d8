//! P2, P12, I2, I3: an automatic recovery starts only on the verdicts of a majority of the voters, each its own, of the
//! incarnation that votes, about this primary and epoch; and each of those nodes has really failed to hear it: refused
//! or cut off, or silent for as long as policy says and through an urgent round besides.

use std::collections::BTreeSet;

use quorate::core::replicated::{Change, Kind, recovery::Testimony};

use super::{Check, account::done};
use crate::{fleet::ServerNo, prober::LastSeen, trace::Event, world::World};

/// How long ago what a verdict rests on may lie, besides its age: rounds, a leader's delay, milliseconds.
const LATE_MS: u64 = 6_000;

/// See above.
pub struct Majority;

impl Check for Majority {
    fn id(&self) -> &'static str {
        "P2 a majority that each saw it themselves"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        let Change::StartRecovery(start) = &command.change else { return Ok(()) };
        if start.kind != Kind::Failover || id != index {
            return Ok(());
        }
        // What it rests on was seen before it was proposed, however late it was committed.
        let proposed = world.proposed.get(&(command.node, command.term, command.at_ms)).copied();
        let proposed = proposed.unwrap_or(at);
        let state = &world.group.state;
        let mut nodes = BTreeSet::new();
        for testimony in &start.evidence {
            let verdict = &testimony.verdict;
            let votes = state.voters.get(&verdict.node) == Some(&verdict.incarnation);
            let about = verdict.epoch == start.epoch && verdict.subject == start.subject;
            let fresh = testimony.age_ms <= state.policy.verdict_fresh_for_ms;
            // Silence counts only where it went on through an urgent round.
            let fails = verdict.failure().is_some_and(|(class, _, evidence)| {
                class == start.class && (evidence.hard || evidence.urgent_round_done)
            });
            if votes && about && fresh && fails {
                nodes.insert(verdict.node);
                saw(world, proposed, testimony)?;
            }
        }
        let need = state.voters.len() / 2 + 1;
        match nodes.len() >= need {
            true => Ok(()),
            false => Err(format!("recovery {id} starts on the word of {nodes:?}, {need} voters are needed")),
        }
    }
}

/// `at`: when the start was proposed that names it, true time.
fn saw(world: &World, at: u64, testimony: &Testimony) -> Result<(), String> {
    let verdict = &testimony.verdict;
    let Some((_, member)) = world.group.state.find_server(&verdict.subject.0).ok() else { return Ok(()) };
    let Some(ServerNo(server)) = world.server_at(&member.address) else { return Ok(()) };
    let seen = world.probers.seen.get(&(verdict.node, server)).copied().unwrap_or_default();
    let hard = verdict.failure().is_some_and(|(_, _, evidence)| evidence.hard);
    let since = at.saturating_sub(testimony.age_ms + LATE_MS);
    let silence = world.group.state.policy.silence_ms * 9 / 10;
    // Another server answered there meanwhile: that one's silence is not the primary's, which is gone for longer.
    if world.strangers.since(ServerNo(server)).is_some_and(|since| at >= since + silence) {
        return Ok(());
    }
    let LastSeen { answered, gone, gaps, silent_round } = seen;
    // What another server said in its place was not its answer.
    let answered = answered.filter(|answered| !world.strangers.stood(ServerNo(server), *answered));
    let heard_nothing = answered.is_none_or(|answered| at >= answered + silence)
        || gaps.iter().flatten().any(|(ended, ms)| *ended >= since && *ms >= silence);
    let turned_away = gone.is_some_and(|gone| gone >= since);
    // A round holds as long as there was no answer after it; what was heard after the proposal ends a silence, and undoes
    // nothing.
    let within =
        |round: u64| gaps.iter().flatten().any(|(ended, ms)| *ended >= since && round + ms >= *ended);
    let unanswered =
        |round: u64| round >= since || answered.is_none_or(|answered| round > answered) || within(round);
    let asked_urgently = silent_round.is_some_and(unanswered);
    match turned_away || (!hard && heard_nothing && asked_urgently) {
        true => Ok(()),
        false => Err(format!("node {} says {}, and has seen {seen:?}", verdict.node, verdict.label())),
    }
}
