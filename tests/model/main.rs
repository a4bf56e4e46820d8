//! The life of a recovery, explored exhaustively: the product's machine, log and standing orders in a small world in which
//! everything that may happen does. `docs/chaos.md` says what that world is and how far it was followed.

mod args;
mod driver;
mod events;
mod explore;
mod fingerprint;
mod flights;
mod log;
mod memo;
mod orders;
mod promises;
mod samples;
mod scenario;
mod servers;
mod world;

use std::process::ExitCode;

use self::{
    args::Wish,
    explore::{Explored, explore},
    scenario::Scenario,
};

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Some(wish)) => run(&wish),
        Ok(None) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

fn run(wish: &Wish) -> ExitCode {
    fingerprint::check();
    let (mut states, mut transitions, mut wrong) = (0, 0, 0);
    let chosen =
        scenario::ALL.iter().filter(|s| wish.only.as_ref().is_none_or(|only| s.name.contains(only.as_str())));
    for scenario in chosen {
        let faults = wish.faults.unwrap_or(scenario.faults);
        let explored = explore(scenario, faults, wish.depth.unwrap_or(scenario.depth));
        tell(scenario, faults, &explored);
        states += explored.states;
        transitions += explored.transitions;
        wrong += usize::from(explored.wrong.is_some());
    }
    println!("model: {states} states, {transitions} transitions, {wrong} broken");
    ExitCode::from(u8::from(wrong > 0 || states == 0))
}

fn tell(scenario: &Scenario, faults: u32, explored: &Explored) {
    let Explored { states, transitions, depth, settled, well, took_ms, .. } = explored;
    let end = if explored.closed { "closed" } else { "open" };
    println!(
        "{}: {faults} faults, depth {depth} ({end}), {states} states, {transitions} transitions, {settled} settled, {well} well, {took_ms} ms",
        scenario.name
    );
    let (machines, replicated, moves) = memo::sizes();
    println!("  {machines} machines, {replicated} replicated states, {moves} moves");
    if let Some((what, path)) = &explored.wrong {
        println!("  {what}, after {} events:", path.len());
        path.iter().enumerate().for_each(|(at, event)| println!("  {:>3}. {event}", at + 1));
    }
}
