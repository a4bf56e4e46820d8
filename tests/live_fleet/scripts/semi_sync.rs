//! Commits that wait, and what ends the waiting.

use super::{BOTH, MYSQL};
use crate::{
    fleet::{Account, Statement},
    line::{Fact, Fault, Line, Script, insert},
};
use quorate::model::server::Flavor;

/// Semi-sync on server 1 without an acker, and a client's commit that waits.
fn one_waits(timeout_ms: u64) -> Vec<Line> {
    vec![
        Line::Does(1, vec![Statement::SemiSyncTimeout(timeout_ms), Statement::SemiSyncSource(true)]),
        Line::Login("client", 1, Account::App),
        Line::Sends("client", insert(1)),
        Line::Until(1, Fact::CommitsWait),
    ]
}

const LONG_MS: u64 = 4_000_000_000;

fn after(mut lines: Vec<Line>, more: Vec<Line>) -> Vec<Line> {
    lines.extend(more);
    lines
}

pub fn scripts() -> Vec<Script> {
    vec![
        Script {
            name: "a commit that waits is in the binlog and not yet seen by readers",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(one_waits(LONG_MS), vec![Line::HearsNothing("client"), Line::See(1), Line::Rows(1)])
            },
        },
        Script {
            name: "KILL QUERY of a waiting commit: MariaDB acknowledges it, MySQL goes on waiting",
            flavors: BOTH,
            servers: 1,
            lines: |flavor| {
                let mut lines = after(one_waits(LONG_MS), vec![Line::Kills(1, "client", false)]);
                match flavor {
                    Flavor::MySql => {
                        lines.extend([Line::Fault(1, Fault::Rest(300)), Line::HearsNothing("client")]);
                    }
                    Flavor::MariaDb => lines.push(Line::Hears("client")),
                }
                lines.extend([Line::See(1), Line::Rows(1)]);
                lines
            },
        },
        Script {
            name: "KILL CONNECTION of a waiting commit: no acknowledgement; on MySQL it keeps its lock",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(LONG_MS),
                    vec![
                        Line::Kills(1, "client", true),
                        Line::Hears("client"),
                        Line::Fault(1, Fault::Rest(300)),
                        Line::Rows(1),
                        Line::Does(1, vec![Statement::LockWaitTimeout(1), Statement::ReadOnly(true)]),
                        Line::See(1),
                    ],
                )
            },
        },
        Script {
            name: "waiting commits hold off read_only until the lock wait times out",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(LONG_MS),
                    vec![
                        Line::Does(1, vec![Statement::LockWaitTimeout(1), Statement::ReadOnly(true)]),
                        Line::HearsNothing("client"),
                        Line::See(1),
                    ],
                )
            },
        },
        Script {
            name: "switching semi-sync off tells every waiting client that its commit is safe",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(LONG_MS),
                    vec![
                        Line::Login("second", 1, Account::App),
                        Line::Sends("second", insert(2)),
                        Line::Until(1, Fact::Busy(2)),
                        Line::Does(1, vec![Statement::SemiSyncSource(false)]),
                        Line::Hears("client"),
                        Line::Hears("second"),
                        Line::See(1),
                        Line::Rows(1),
                    ],
                )
            },
        },
        Script {
            name: "offline_mode cuts waiting clients without an OK; then semi-sync goes off and read_only on",
            flavors: MYSQL,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(LONG_MS),
                    vec![
                        Line::Does(1, vec![Statement::OfflineMode(true)]),
                        Line::Hears("client"),
                        Line::Login("late", 1, Account::App),
                        Line::Does(
                            1,
                            vec![
                                Statement::SemiSyncSource(false),
                                Statement::LockWaitTimeout(1),
                                Statement::SuperReadOnly(true),
                            ],
                        ),
                        Line::See(1),
                        Line::Rows(1),
                    ],
                )
            },
        },
        Script {
            name: "with a finite time-out a source that was frozen acknowledges alone after the thaw",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(1_000),
                    vec![
                        Line::Fault(1, Fault::Freeze),
                        Line::Fault(1, Fault::Rest(1_500)),
                        Line::HearsNothing("client"),
                        Line::Fault(1, Fault::Thaw),
                        Line::Hears("client"),
                        Line::Until(1, Fact::SemiSync(false)),
                        Line::See(1),
                        Line::Rows(1),
                    ],
                )
            },
        },
        Script {
            name: "a crash while a commit waits leaves it on the old source",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                after(
                    one_waits(LONG_MS),
                    vec![
                        Line::Fault(1, Fault::Kill),
                        Line::Hears("client"),
                        Line::Fault(1, Fault::Boot),
                        Line::See(1),
                        Line::Rows(1),
                    ],
                )
            },
        },
        Script {
            name: "CREATE USER that waits holds up logins",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Does(1, vec![Statement::SemiSyncTimeout(LONG_MS), Statement::SemiSyncSource(true)]),
                    Line::Login("looker", 1, Account::Admin),
                    Line::Login("client", 1, Account::Admin),
                    Line::Sends("client", vec![Statement::CreateUser]),
                    Line::Fault(1, Fault::Rest(500)),
                    Line::HearsNothing("client"),
                    Line::Login("late", 1, Account::App),
                    Line::Sends("looker", vec![Statement::SemiSyncSource(false)]),
                    Line::Hears("looker"),
                    Line::Hears("client"),
                    Line::Login("later", 1, Account::App),
                ]
            },
        },
        Script {
            name: "a semi-sync replica that connects acknowledges what waits",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    vec![Line::Does(2, vec![Statement::SemiSyncReplica(true)])],
                    after(
                        one_waits(LONG_MS),
                        vec![
                            Line::Fault(2, Fault::Follow(1)),
                            Line::Hears("client"),
                            Line::Until(1, Fact::Ackers(1)),
                            Line::Until(2, Fact::HasApplied(1)),
                            Line::See(1),
                            Line::See(2),
                        ],
                    ),
                )
            },
        },
        Script {
            name: "an acknowledgement comes from the relay log, not from the applier; with two wanted one is not enough",
            flavors: BOTH,
            servers: 3,
            lines: |flavor| {
                let mut on = vec![Statement::SemiSyncTimeout(LONG_MS)];
                if flavor == Flavor::MySql {
                    on.push(Statement::SemiSyncWaitFor(2));
                }
                on.push(Statement::SemiSyncSource(true));
                let mut lines = vec![
                    Line::Does(2, vec![Statement::SemiSyncReplica(true)]),
                    Line::Does(3, vec![Statement::SemiSyncReplica(true)]),
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(2, crate::line::stop(crate::fleet::Thread::Applier)),
                    Line::Does(1, on),
                    Line::Until(1, Fact::Ackers(1)),
                    Line::Login("client", 1, Account::App),
                    Line::Sends("client", insert(1)),
                ];
                if flavor == Flavor::MySql {
                    lines.extend([
                        Line::Until(1, Fact::CommitsWait),
                        Line::Fault(1, Fault::Rest(300)),
                        Line::HearsNothing("client"),
                        Line::Fault(3, Fault::Follow(1)),
                    ]);
                }
                lines.extend([Line::Hears("client"), Line::Rows(1), Line::Rows(2), Line::See(1)]);
                lines
            },
        },
        Script {
            name: "a source that gave up waiting goes back to it when a replica has caught up",
            flavors: BOTH,
            servers: 2,
            lines: |_| {
                after(
                    one_waits(300),
                    vec![
                        Line::Hears("client"),
                        Line::Until(1, Fact::SemiSync(false)),
                        Line::Does(2, vec![Statement::SemiSyncReplica(true)]),
                        Line::Fault(2, Fault::Follow(1)),
                        Line::Until(2, Fact::HasApplied(1)),
                        Line::Until(1, Fact::SemiSync(true)),
                        Line::See(1),
                    ],
                )
            },
        },
        Script {
            name: "offline_mode at the source cuts its replicas off",
            flavors: MYSQL,
            servers: 2,
            lines: |_| {
                vec![
                    Line::Fault(2, Fault::Follow(1)),
                    Line::Does(1, vec![Statement::OfflineMode(true)]),
                    // An attempt that was under way may end in the middle of its TLS handshake (2026): the next one is refused.
                    Line::Until(2, Fact::ReceiverError(3032)),
                    Line::See(2),
                ]
            },
        },
    ]
}
