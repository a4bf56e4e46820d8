//! Writers that stand in the way, statements that land late, connections that are taken.

use super::BOTH;
use crate::{
    fleet::{Account, Statement},
    line::{Fact, Fault, Line, Script, insert},
};

pub fn scripts() -> Vec<Script> {
    vec![
        Script {
            name: "a statement sent to a frozen server lands when it thaws, though its sender is gone",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("gone", 1, Account::Admin),
                    Line::Fault(1, Fault::Freeze),
                    Line::Sends("gone", vec![Statement::ReadOnly(true)]),
                    Line::Fault(1, Fault::Rest(300)),
                    Line::HangsUp("gone"),
                    Line::Login("late", 1, Account::App),
                    Line::Fault(1, Fault::Thaw),
                    Line::Until(1, Fact::ReadOnly),
                    Line::See(1),
                ]
            },
        },
        Script {
            name: "a session whose client is gone still runs its statements to the end",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("gone", 1, Account::Admin),
                    // What the script before left running would be taken for the statement that is sent here.
                    Line::Until(1, Fact::Busy(0)),
                    Line::Sends("gone", vec![Statement::Sleep(700), Statement::ReadOnly(true)]),
                    Line::Until(1, Fact::Busy(1)),
                    Line::HangsUp("gone"),
                    Line::Until(1, Fact::ReadOnly),
                ]
            },
        },
        Script {
            name: "read_only waits behind a long update, and new writes behind read_only",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("long", 1, Account::App),
                    Line::Login("switch", 1, Account::Admin),
                    Line::Login("new", 1, Account::App),
                    Line::Sends("long", vec![Statement::LongUpdate(1_500)]),
                    Line::Until(1, Fact::Busy(1)),
                    Line::Sends("switch", vec![Statement::ReadOnly(true)]),
                    Line::Until(1, Fact::Busy(2)),
                    Line::Sends("new", insert(1)),
                    Line::Until(1, Fact::Busy(3)),
                    Line::HearsNothing("switch"),
                    Line::HearsNothing("new"),
                    Line::Hears("switch"),
                    Line::Hears("new"),
                    Line::Rows(1),
                ]
            },
        },
        Script {
            name: "a table lock holds read_only off; an idle transaction does not, and cannot commit afterwards",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("holder", 1, Account::App),
                    Line::Sends("holder", vec![Statement::LockTables]),
                    Line::Hears("holder"),
                    Line::Does(1, vec![Statement::LockWaitTimeout(1), Statement::ReadOnly(true)]),
                    Line::Sends(
                        "holder",
                        vec![Statement::UnlockTables, Statement::Begin, Statement::Insert(1)],
                    ),
                    Line::Hears("holder"),
                    Line::Does(1, vec![Statement::LockWaitTimeout(1), Statement::ReadOnly(true)]),
                    Line::Sends("holder", vec![Statement::Commit]),
                    Line::Hears("holder"),
                    Line::Rows(1),
                    Line::Login("app", 1, Account::App),
                    Line::Sends("app", insert(2)),
                    Line::Hears("app"),
                    Line::Does(1, insert(3)),
                    Line::Rows(1),
                ]
            },
        },
        Script {
            name: "a saturated server turns clients away and lets others finish",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("inside", 1, Account::App),
                    Line::Fault(1, Fault::Saturate),
                    Line::Login("outside", 1, Account::App),
                    Line::Sends("inside", insert(1)),
                    Line::Hears("inside"),
                ]
            },
        },
        Script {
            name: "KILL of an idle client and of a long statement",
            flavors: BOTH,
            servers: 1,
            lines: |_| {
                vec![
                    Line::Login("idle", 1, Account::App),
                    Line::Login("busy", 1, Account::App),
                    Line::Sends("busy", vec![Statement::LongUpdate(20_000)]),
                    Line::Until(1, Fact::Busy(1)),
                    Line::Kills(1, "idle", true),
                    Line::Kills(1, "busy", false),
                    Line::Hears("busy"),
                    Line::Hears("idle"),
                    Line::Does(1, vec![Statement::KillConnection(4_000_000)]),
                ]
            },
        },
    ]
}
