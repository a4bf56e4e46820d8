//! Each action of the executor: how it ends and what is so afterwards, the real executor against its recipe.

use super::{BOTH, MARIADB, replication::with_unapplied};
use crate::{
    fleet::{Account, Statement, Thread},
    line::{Deed, Fact, Fault, Line, Script, insert, stop},
};
use quorate::model::{facts::Receiver, server::Flavor};

/// Long enough for every step that can end.
const LONG_MS: u64 = 30_000;

fn step(server: usize, deed: Deed) -> Line {
    Line::Step(server, deed, LONG_MS)
}

/// Server 2 follows server 1 and has its first row.
fn pair() -> Vec<Line> {
    vec![
        Line::Fault(2, Fault::Follow(1)),
        Line::Does(1, insert(1)),
        Line::Until(2, Fact::HasApplied(1)),
        Line::See(1),
    ]
}

fn after(mut lines: Vec<Line>, more: Vec<Line>) -> Vec<Line> {
    lines.extend(more);
    lines
}

pub fn scripts() -> Vec<Script> {
    let mut all = vec![
        Script {
            name: "a whole failover, step by step, each step twice",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                let mut lines = after(pair(), vec![Line::Fault(1, Fault::Kill)]);
                let twice = [
                    Deed::StopReceiver,
                    Deed::Drain(Some(1)),
                    Deed::Detach(Some(1)),
                    Deed::MakeWritable,
                    Deed::VerifyWrite(2),
                    Deed::ReadFacts,
                ];
                lines.extend(twice.into_iter().flat_map(|deed| [step(2, deed.clone()), step(2, deed)]));
                lines.extend([
                    Line::Fault(1, Fault::Boot),
                    Line::StepEnds(1, Deed::Point(2, Some(true), true, true), LONG_MS),
                    Line::Until(1, Fact::HasApplied(2)),
                    step(1, Deed::Point(2, Some(true), true, true)),
                    Line::See(1),
                    step(2, Deed::Fence),
                    step(2, Deed::Fence),
                    step(2, Deed::Unfence(None)),
                    step(2, Deed::Unfence(None)),
                ]);
                lines
            },
        },
        Script {
            name: "a step is refused by a server that is somebody else",
            flavors: BOTH,
            servers: 2,
            lines: |_| vec![step(1, Deed::ReadFactsOf(2)), step(1, Deed::ReadFacts)],
        },
        Script {
            name: "steps on a server that is dead or frozen",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    step(1, Deed::ReadFacts),
                    Line::Fault(1, Fault::Freeze),
                    Line::Step(1, Deed::ReadFacts, 500),
                    Line::Step(1, Deed::ReadFacts, 500),
                    Line::Fault(1, Fault::Thaw),
                    step(1, Deed::ReadFacts),
                    Line::Fault(1, Fault::Kill),
                    Line::Step(1, Deed::ReadFacts, 500),
                ]
            },
        },
        Script {
            name: "revocation, drain and detach with relay log unapplied",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        step(2, Deed::Detach(None)),
                        step(2, Deed::Detach(Some(1))),
                        step(2, Deed::RestartReceiver),
                        step(2, Deed::Drain(Some(1))),
                        step(2, Deed::StopReceiver),
                        step(2, Deed::Detach(Some(1))),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "both threads stopped over unapplied relay log",
            flavors: BOTH,
            servers: 3,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Does(2, stop(Thread::Receiver)),
                        Line::StepEnds(2, Deed::Point(3, None, false, false), LONG_MS),
                        Line::StepEnds(2, Deed::Drain(Some(1)), LONG_MS),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "a receiver is started and restarted",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    pair(),
                    vec![
                        step(2, Deed::StopReceiver),
                        step(2, Deed::RestartReceiver),
                        Line::Step(2, Deed::StartReceiver, LONG_MS),
                        Line::Until(2, Fact::Receiver(Receiver::Running)),
                        step(2, Deed::ReadFacts),
                        Line::Does(2, stop(Thread::Applier)),
                        step(2, Deed::RestartReceiver),
                        step(1, Deed::RestartReceiver),
                        step(1, Deed::StopReceiver),
                        step(1, Deed::StartReceiver),
                        step(1, Deed::Detach(None)),
                        step(1, Deed::Drain(None)),
                    ],
                )
            },
        },
        Script {
            name: "a drain that does not end in time, and one that an error ends",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    pair(),
                    vec![
                        Line::Fault(2, Fault::HoldApplier(2)),
                        Line::Does(1, insert(2)),
                        Line::Until(2, Fact::HasReceived(1)),
                        Line::See(1),
                        Line::Step(2, Deed::Drain(Some(1)), 700),
                        Line::Fault(2, Fault::LetApplierGo),
                        step(2, Deed::Drain(Some(1))),
                        Line::Fault(2, Fault::Unlogged(9)),
                        Line::Does(1, insert(9)),
                        Line::See(1),
                        Line::Until(2, Fact::ApplierStopped),
                        step(2, Deed::Drain(Some(1))),
                    ],
                )
            },
        },
        Script {
            name: "a replica is pointed elsewhere, its relay log first",
            flavors: BOTH,
            servers: 3,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        step(2, Deed::Point(3, None, false, false)),
                        Line::Until(2, Fact::HasApplied(1)),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "a replica whose applier stops again is not pointed, and its receiver runs on",
            flavors: MARIADB,
            servers: 2,
            lines: |_| {
                after(
                    pair(),
                    vec![
                        Line::Fault(2, Fault::Unlogged(9)),
                        Line::Does(1, insert(9)),
                        Line::See(1),
                        Line::Until(2, Fact::ApplierStopped),
                        step(2, Deed::Point(1, None, true, false)),
                        Line::Until(2, Fact::Receiver(Receiver::Running)),
                        Line::Until(2, Fact::HasReceived(1)),
                    ],
                )
            },
        },
        Script {
            name: "a fresh server is pointed at a dead source",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![Line::Fault(1, Fault::Kill), Line::Step(2, Deed::Point(1, None, true, false), 1_500)]
            },
        },
        Script {
            name: "semi-sync is switched on and off, and not off under waiting commits",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    step(1, Deed::EnableSemiSync(0)),
                    step(1, Deed::EnableSemiSync(1)),
                    step(1, Deed::EnableSemiSync(1)),
                    Line::Login("client", 1, Account::App),
                    Line::Sends("client", insert(1)),
                    Line::Until(1, Fact::CommitsWait),
                    step(1, Deed::DisableSemiSync),
                    Line::HearsNothing("client"),
                    Line::StepEnds(2, Deed::Point(1, Some(true), true, false), LONG_MS),
                    Line::Hears("client"),
                    Line::Until(2, Fact::HasApplied(1)),
                    step(1, Deed::DisableSemiSync),
                    step(1, Deed::DisableSemiSync),
                ]
            },
        },
        Script {
            name: "a fence cuts waiting commits off without an acknowledgement",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    step(1, Deed::EnableSemiSync(1)),
                    Line::Login("one", 1, Account::App),
                    Line::Login("two", 1, Account::App),
                    Line::Sends("one", insert(1)),
                    Line::Sends("two", insert(2)),
                    Line::Until(1, Fact::Busy(2)),
                    Line::Until(1, Fact::CommitsWait),
                    step(1, Deed::Fence),
                    Line::Hears("one"),
                    Line::Hears("two"),
                    step(1, Deed::Unfence(Some(1))),
                    Line::Rows(1),
                ]
            },
        },
        Script {
            name: "a fence kills what blocks it, a polite switch does not",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("holder", 1, Account::App),
                    Line::Sends("holder", vec![Statement::LockTables]),
                    Line::Hears("holder"),
                    step(1, Deed::MakeReadOnly(1)),
                    step(1, Deed::Fence),
                    Line::Hears("holder"),
                    step(1, Deed::MakeWritable),
                    step(1, Deed::Unfence(None)),
                    step(1, Deed::MakeReadOnly(1)),
                ]
            },
        },
        Script {
            name: "a proof cannot be written on a fenced server",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![step(1, Deed::VerifyWrite(1)), step(1, Deed::Fence), step(1, Deed::VerifyWrite(2))]
            },
        },
        Script {
            name: "blockers are listed, and writers killed",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("idle", 1, Account::App),
                    Line::Login("open", 1, Account::App),
                    Line::Login("busy", 1, Account::App),
                    Line::Sends("open", vec![Statement::Begin, Statement::Insert(1)]),
                    Line::Hears("open"),
                    Line::Sends("busy", vec![Statement::Sleep(20_000)]),
                    Line::Until(1, Fact::Busy(1)),
                    // Past the second that ages are told by, and past the 100 ms for which InnoDB keeps a list.
                    Line::Fault(1, Fault::Rest(1_500)),
                    step(1, Deed::ListBlockers(300)),
                    Line::Fault(1, Fault::Rest(300)),
                    step(1, Deed::KillWriters),
                    Line::Hears("busy"),
                    Line::Hears("open"),
                    Line::Hears("idle"),
                    Line::Rows(1),
                ]
            },
        },
        Script {
            name: "whoever stops a receiver ends the executor sessions of others there",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                let lines = vec![
                    Line::OtherStep(2, Deed::ReadFacts, LONG_MS),
                    step(2, Deed::StopReceiver),
                    step(2, Deed::StopReceiver),
                    Line::OtherStep(2, Deed::ReadFacts, LONG_MS),
                    // Not again in one term over one session.
                    step(2, Deed::StopReceiver),
                    Line::NewExecutor,
                    step(2, Deed::StopReceiver),
                ];
                after(pair(), lines)
            },
        },
        Script {
            name: "earlier executor sessions are ended",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    step(1, Deed::ReadFacts),
                    Line::OtherStep(1, Deed::ReadFacts, LONG_MS),
                    step(1, Deed::KillPredecessors),
                    step(1, Deed::KillPredecessors),
                    Line::NewExecutor,
                    step(1, Deed::MakeReadOnly(1)),
                    step(1, Deed::MakeWritable),
                ]
            },
        },
    ];
    all.push(Script {
        name: "MariaDB cannot wait for two",
        flavors: &[Flavor::MariaDb],
        servers: 1,
        lines: |_| vec![step(1, Deed::EnableSemiSync(2))],
    });
    all
}
