//! The kill matrix: the executing leader stopped before and after each step of a recovery, in every way that matters.
//!
//! ```text
//! step:side  x  killed  x  back     started again at once
//!                          others   another node takes over; started again at the end
//!                          cut-off  the same, and every other node is cut off from the candidate for a while
//!            x  frozen  x  back     thawed a moment later, drawn from the seed: it may lead still, or be half replaced
//!                          others   thawed when the others have finished: it must send nothing any more
//!                          cut-off  thawed while the others are cut off from the candidate, which it reaches
//! ```

mod play;
mod table;

use crate::{
    act::Act,
    cli::play::{PlayArgs, ready},
    run_dir::RunDir,
    runner::{self, Plan},
    scenario::{STEPS, needs_semi_sync},
    topology::Shape,
};
use anyhow::{Result, ensure};
use clap::Args;
use std::fmt;

/// `cargo chaos kill-matrix`.
#[derive(Args)]
pub struct KillMatrixArgs {
    #[command(flatten)]
    play: PlayArgs,
    /// Only cases with this in their name, e.g. `intent`, `after`, `frozen others`, `publish:before killed back`
    #[arg(long)]
    only: Vec<String>,
    /// Show the cases and play none
    #[arg(long)]
    list: bool,
}

/// What happens to the executing leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// SIGKILL.
    Killed,
    /// SIGSTOP, later SIGCONT.
    Frozen,
}

/// What comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is back fast.
    Back,
    /// Others finish.
    Others,
    /// Others are cut off from the candidate.
    CutOff,
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    step: &'static str,
    before: bool,
    fate: Fate,
    after: After,
}

/// The columns, in the order of the table.
const COLUMNS: [(Fate, After); 6] = [
    (Fate::Killed, After::Back),
    (Fate::Killed, After::Others),
    (Fate::Killed, After::CutOff),
    (Fate::Frozen, After::Back),
    (Fate::Frozen, After::Others),
    (Fate::Frozen, After::CutOff),
];

impl Case {
    /// Every one.
    fn all() -> Vec<Case> {
        let sides = STEPS.iter().flat_map(|step| [(step, true), (step, false)]);
        sides
            .flat_map(|(step, before)| COLUMNS.map(|(fate, after)| Case { step, before, fate, after }))
            .collect()
    }

    /// As nodes know it.
    pub fn point(&self) -> String {
        format!("{}:{}", self.step, if self.before { "before" } else { "after" })
    }

    fn column(&self) -> String {
        let fate = match self.fate {
            Fate::Killed => "killed",
            Fate::Frozen => "frozen",
        };
        let after = match self.after {
            After::Back => "back",
            After::Others => "others",
            After::CutOff => "cut-off",
        };
        format!("{fate} {after}")
    }

    /// Whether packets must be dropped.
    pub fn needs_namespaces(&self) -> bool {
        self.after == After::CutOff
    }

    /// The topology it plays on.
    pub fn shape(&self, asked: &Shape) -> Shape {
        let mut shape = asked.clone();
        let needed = needs_semi_sync(&self.point()).then_some(1);
        shape.settings.semi_sync = shape.settings.semi_sync.or(needed);
        shape
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.point(), self.column())
    }
}

/// Plays the cases, one after another, and prints the table.
pub fn command(args: &KillMatrixArgs) -> Result<u8> {
    let wanted = |case: &Case| {
        args.only.is_empty() || args.only.iter().any(|word| case.to_string().contains(word.as_str()))
    };
    let cases: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no case has {:?} in its name", args.only);
    if args.list {
        cases.iter().for_each(|case| println!("{case}"));
        return Ok(0);
    }
    let ask = args.play.ask();
    let skip = ready(&ask, &[true], cases.iter().any(Case::needs_namespaces))?;
    let run_dir = RunDir::create(args.play.keep)?;
    crate::cli::to_the_end(&run_dir, async {
        let mut records = Vec::new();
        let mut played = Vec::new();
        for flavor in &ask.flavors {
            for (number, case) in (1..).zip(&cases) {
                let act = Act::Kill(*case);
                let plan = Plan { ask: &ask, act, flavor: *flavor, number };
                let record = match &skip {
                    Some(why) if case.needs_namespaces() => runner::skipped(&plan, &why.to_string()),
                    _ => runner::one(&run_dir, &plan).await?,
                };
                println!("{}", record.line());
                records.push(record);
                played.push(*case);
                runner::write(ask.json.as_deref(), &records)?;
            }
        }
        for flavor in &ask.flavors {
            let of_flavor = played.iter().zip(&records).filter(|(_, record)| record.flavor == *flavor);
            println!("\nkill matrix, {flavor}\n{}", table::table(of_flavor));
        }
        let pairs = played.iter().map(|case| Act::Kill(*case)).zip(&records);
        Ok(runner::exit_code(pairs))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_is_there_once() {
        let names: BTreeSet<String> = Case::all().iter().map(ToString::to_string).collect();
        assert_eq!((names.len(), Case::all().len()), (14 * 2 * 6, 14 * 2 * 6));
        assert!(names.contains("intent:before frozen cut-off"));
    }

    #[test]
    fn only_semi_sync_has_ackers() {
        let asked = Shape::default();
        let semi_sync = |case: &Case| case.shape(&asked).settings.semi_sync.is_some();
        assert!(Case::all().iter().all(|case| semi_sync(case) == case.step.starts_with("acker")));
    }
}
