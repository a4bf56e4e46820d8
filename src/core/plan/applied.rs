//! Whether what a server received is applied: what must be proven before it may forget whom it received it from. Pure,
//! so that the simulated executor (`tests/sim`) goes by the same proof as the real one.

use crate::{
    mistake::{Mistake, planted},
    model::{
        facts::{Channel, Receiver, ServerFacts},
        server::Flavor,
    },
};

/// Whether everything received is applied. By GTID where the channel works by GTID, else by position.
pub fn is_applied(facts: &ServerFacts, channel: &Channel) -> bool {
    if planted(Mistake::RelayLogNotProven) && channel.applier_running {
        return true;
    }
    match channel.by_gtid {
        true => facts.executed.contains(&channel.received),
        false => channel.read_position == channel.executed_position,
    }
}

/// Starting MariaDB's threads while both are stopped deletes the relay log and fetches anew from `gtid_slave_pos`:
/// harmless while the source lives, a silent loss when it does not (measured on 10.11).
pub fn start_would_lose(flavor: Flavor, facts: &ServerFacts, channel: &Channel) -> bool {
    flavor == Flavor::MariaDb
        && channel.receiver == Receiver::Stopped
        && !channel.applier_running
        && !is_applied(facts, channel)
}
