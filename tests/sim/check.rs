//! The promises and invariants: one small file each, fed with the same events. A check keeps its own account of what
//! happened; it asks the product's code for no opinion.
//!
//! | file | promise | invariant |
//! |---|---|---|
//! | `p1_permitted` | P1, P7 | I1, I4 |
//! | `p2_majority` | P2, P12 | I2, I3 |
//! | `p3_one_slot` | P3 | I5 |
//! | `p4_ends_once` | P4 | I8 |
//! | `p4_begins_fresh` | P4 | |
//! | `p4_one_owner` | P4, P5 | I4 |
//! | `p5_barriers` | P5 | I13 |
//! | `p6_acknowledged` | P6 | I12, I18 |
//! | `p7_undone` | P7 | I15 |
//! | `p8_fail_static` | P8 | I20 |
//! | `p9_votes` | P9 | I9 |
//! | `p9_proposals`, `p9_reads`, `one_leader` | P9 | I9 (tier B) |
//! | `p10_log_time` | P10 | I6 |
//! | `p11_identity` | P11 | |
//! | `i7_switches` | | I7 |
//! | `i10_same_state` | | I10 |
//! | `i11_one_writable` | | I11 |
//! | `i14_candidate` | | I14 |
//! | `i16_relay_log` | | I16 |
//! | `i19_rejoined` | | I17, I19 |
//! | `converges` | P4, L1, L2 | I15, I17 |
//! | `false_failover` | P2 | I3, L4 |
//! | `l3_refusals` | P7 | L3 |

pub mod account;
pub mod converges;
mod false_failover;
mod i10_same_state;
mod i11_one_writable;
mod i14_candidate;
mod i16_relay_log;
mod i19_rejoined;
mod i7_switches;
mod l3_refusals;
mod one_leader;
mod p10_log_time;
mod p11_identity;
mod p1_permitted;
mod p2_majority;
mod p3_one_slot;
mod p4_begins_fresh;
mod p4_ends_once;
mod p4_one_owner;
mod p5_barriers;
mod p6_acknowledged;
mod p7_undone;
mod p8_fail_static;
mod p9_proposals;
mod p9_reads;
mod p9_votes;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{trace::Event, world::World};

/// One promise or invariant.
pub trait Check: Send {
    /// Its name in a report.
    fn id(&self) -> &'static str;
    /// An event happened; the world is as it is after it.
    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String>;
    /// The run is over.
    fn end(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// True time, milliseconds.
    pub at: u64,
    /// Which.
    pub check: Cow<'static, str>,
    /// How.
    pub what: String,
}

/// All of them.
pub fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::<p3_one_slot::OneSlot>::default(),
        Box::<p4_ends_once::EndsOnce>::default(),
        Box::<p4_begins_fresh::BeginsFresh>::default(),
        Box::<p4_one_owner::OneOwner>::default(),
        Box::<p9_votes::Votes>::default(),
        Box::<one_leader::OneLeader>::default(),
        Box::<p9_proposals::Proposals>::default(),
        Box::new(p9_reads::Reads),
        Box::<p10_log_time::LogTime>::default(),
        Box::<p11_identity::IdentityNotAddress>::default(),
        Box::<i7_switches::Switches>::default(),
        Box::new(i10_same_state::SameState),
        Box::new(converges::Converges),
        Box::<p1_permitted::Permitted>::default(),
        Box::new(p2_majority::Majority),
        Box::<p5_barriers::Barriers>::default(),
        Box::<p6_acknowledged::Acknowledged>::default(),
        Box::<p7_undone::Undone>::default(),
        Box::<p8_fail_static::FailStatic>::default(),
        Box::<i11_one_writable::OneWritable>::default(),
        Box::<i14_candidate::Candidate>::default(),
        Box::<i16_relay_log::RelayLog>::default(),
        Box::<i19_rejoined::Rejoined>::default(),
        Box::<false_failover::FalseFailover>::default(),
        Box::<l3_refusals::Refusals>::default(),
    ]
}

impl World {
    /// Shows an event to every check.
    pub fn check(&mut self, event: &Event) {
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            if let Err(what) = check.see(self.now, event, self) {
                self.violations.push(Violation { at: self.now, check: check.id().into(), what });
            }
        }
        self.checks = checks;
    }

    /// Asks every check for its last word.
    pub fn check_end(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            if let Err(what) = check.end(self) {
                self.violations.push(Violation { at: self.now, check: check.id().into(), what });
            }
        }
    }
}
