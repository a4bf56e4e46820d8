//! Receivers, relay logs, appliers, positions.

use quorate::model::facts::Receiver;

use super::{BOTH, MARIADB, MYSQL};
use crate::{
    fleet::{Account, Statement, Thread},
    line::{Fact, Fault, Line, Script, insert, start, stop},
};

/// Server 2 has received two rows more than it has applied, and its source is dead.
pub fn with_unapplied() -> Vec<Line> {
    vec![
        Line::Fault(2, Fault::Follow(1)),
        Line::Does(1, insert(1)),
        Line::Until(2, Fact::HasApplied(1)),
        Line::Does(2, stop(Thread::Applier)),
        Line::Does(1, insert(2)),
        Line::Does(1, insert(3)),
        Line::Until(2, Fact::HasReceived(1)),
        Line::See(1),
        Line::Fault(1, Fault::Kill),
        Line::Until(2, Fact::ReceiverFailed),
    ]
}

fn after(mut lines: Vec<Line>, more: Vec<Line>) -> Vec<Line> {
    lines.extend(more);
    lines
}

pub fn scripts() -> Vec<Script> {
    vec![
        Script {
            name: "a replica applies what its source writes, and hears heartbeats",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    Line::See(1),
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Until(2, Fact::Heartbeat),
                    Line::See(1),
                    Line::See(2),
                    Line::Rows(2),
                    Line::Does(1, insert(2)),
                ]
            },
        },
        Script {
            name: "what was received is applied after the source's death",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::See(2),
                        Line::Rows(2),
                        Line::Does(2, start(Thread::Applier)),
                        Line::Until(2, Fact::HasApplied(1)),
                        Line::Rows(2),
                        Line::See(2),
                    ],
                )
            },
        },
        Script {
            name: "starting the applier with the receiver stopped: MariaDB deletes the relay log, MySQL applies it",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Does(2, stop(Thread::Receiver)),
                        Line::See(2),
                        Line::Does(2, start(Thread::Applier)),
                        Line::Fault(2, Fault::Rest(300)),
                        Line::See(2),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "starting the receiver beside a stopped applier: MariaDB deletes the relay log",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Does(2, stop(Thread::Receiver)),
                        Line::Does(2, start(Thread::Receiver)),
                        Line::Until(2, Fact::ReceiverFailed),
                        Line::See(2),
                    ],
                )
            },
        },
        Script {
            name: "CHANGE with both threads stopped deletes the relay log",
            flavors: BOTH,
            servers: 3,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Changes(2, 3, true),
                        Line::Does(2, stop(Thread::Receiver)),
                        Line::Changes(2, 3, true),
                        Line::See(2),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "CHANGE beside a running applier keeps the relay log",
            flavors: MYSQL,
            servers: 3,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Fault(2, Fault::HoldApplier(2)),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasReceived(1)),
                    Line::See(1),
                    Line::Fault(1, Fault::Kill),
                    Line::Until(2, Fact::ReceiverFailed),
                    Line::Does(2, stop(Thread::Receiver)),
                    Line::Changes(2, 3, true),
                    Line::Changes(2, 3, false),
                    Line::See(2),
                    Line::Fault(2, Fault::LetApplierGo),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Rows(2),
                ]
            },
        },
        Script {
            name: "a restarted replica has its relay log on MySQL, and not on MariaDB",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Fault(2, Fault::Kill),
                        Line::Fault(2, Fault::Boot),
                        Line::Until(2, Fact::ReceiverFailed),
                        Line::Fault(2, Fault::Rest(300)),
                        Line::See(2),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "RESET forgets the channel and what it received",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    with_unapplied(),
                    vec![
                        Line::Does(2, vec![Statement::ResetAll(String::new())]),
                        Line::Does(2, stop(Thread::Receiver)),
                        Line::Does(2, vec![Statement::ResetAll(String::new())]),
                        Line::See(2),
                        Line::Rows(2),
                    ],
                )
            },
        },
        Script {
            name: "statements about a channel that is not there",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Does(1, stop(Thread::Receiver)),
                    Line::Does(1, start(Thread::Receiver)),
                    Line::Does(1, vec![Statement::ResetAll(String::new())]),
                ]
            },
        },
        Script {
            name: "a frozen source: the receiver gives up at its time-out, and is back after the thaw",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::See(1),
                    Line::Fault(1, Fault::Freeze),
                    Line::See(2),
                    Line::Until(2, Fact::Receiver(Receiver::Connecting)),
                    Line::See(2),
                    Line::Login("late", 1, Account::App),
                    Line::Fault(1, Fault::Thaw),
                    Line::Until(2, Fact::Receiver(Receiver::Running)),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::See(2),
                ]
            },
        },
        Script {
            name: "a killed source: the receiver is refused, and back after the restart",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Fault(1, Fault::Kill),
                    Line::Login("app", 1, Account::App),
                    Line::Until(2, Fact::ReceiverFailed),
                    Line::See(2),
                    Line::Fault(1, Fault::Boot),
                    Line::Until(2, Fact::Receiver(Receiver::Running)),
                    Line::See(2),
                    Line::See(1),
                ]
            },
        },
        Script {
            name: "an errant write on a replica",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Fault(2, Fault::Errant(50)),
                    Line::See(2),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasReceived(1)),
                    Line::Fault(2, Fault::Rest(300)),
                    Line::See(2),
                    Line::Rows(2),
                ]
            },
        },
        Script {
            name: "a row in the way stops the applier",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Fault(2, Fault::Unlogged(7)),
                    Line::Does(1, insert(7)),
                    Line::Until(2, Fact::ApplierStopped),
                    Line::See(2),
                ]
            },
        },
        Script {
            name: "a replica with transactions of its source that the source has not is turned away for good",
            flavors: BOTH,
            servers: 3,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Does(2, stop(Thread::Both)),
                    Line::Fault(3, Fault::Follow(1)),
                    Line::Until(3, Fact::HasApplied(1)),
                    Line::Does(3, stop(Thread::Both)),
                    // Server 3 writes as if it had been promoted; server 2 then follows it, and after that server 1.
                    Line::Fault(3, Fault::Errant(2)),
                    Line::Changes(2, 3, true),
                    Line::Does(2, start(Thread::Both)),
                    Line::Until(2, Fact::HasApplied(3)),
                    Line::Does(2, stop(Thread::Both)),
                    Line::Changes(2, 1, true),
                    Line::Does(2, start(Thread::Both)),
                    Line::Fault(2, Fault::Rest(500)),
                    Line::See(2),
                ]
            },
        },
        Script {
            name: "a former primary has an empty position and would fetch everything again",
            flavors: MARIADB,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Does(2, stop(Thread::Both)),
                    Line::Does(2, vec![Statement::ResetAll(String::new()), Statement::ReadOnly(false)]),
                    Line::Does(2, insert(3)),
                    Line::See(2),
                    Line::Changes(1, 2, true),
                    Line::Does(1, start(Thread::Both)),
                    Line::Fault(1, Fault::Rest(500)),
                    Line::See(1),
                    Line::Rows(1),
                ]
            },
        },
        Script {
            name: "a former primary is given the position it has; an older one is refused",
            flavors: MARIADB,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, insert(1)),
                    Line::Does(1, insert(2)),
                    Line::Until(2, Fact::HasApplied(1)),
                    Line::Does(2, stop(Thread::Both)),
                    Line::Does(2, vec![Statement::ResetAll(String::new()), Statement::ReadOnly(false)]),
                    Line::Does(2, insert(3)),
                    Line::See(2),
                    Line::Changes(1, 2, true),
                    Line::Does(1, vec![Statement::GtidSlavePos("0-1-1".into())]),
                    Line::Does(1, vec![Statement::GtidSlavePos("0-1-2".into())]),
                    Line::Does(1, start(Thread::Both)),
                    Line::Until(1, Fact::HasApplied(2)),
                    Line::See(1),
                    Line::Rows(1),
                ]
            },
        },
    ]
}
