//! The second decision anew: who takes the place of a candidate that does not apply in time what it received.

use super::choose::{self, Sets};
use crate::core::replicated::{
    State,
    recovery::{Decision, PassedOver, Recovery},
};

/// The decision without the present candidate, on the same sets; `why` it is passed over. The error is a sentence: nobody
/// is left, or whoever is would give something up.
pub fn choose(state: &State, recovery: &Recovery, sets: &Sets, why: &str) -> Result<Decision, String> {
    let before = recovery.decision.as_ref().ok_or("nobody was chosen yet")?;
    let mut without = recovery.clone();
    without.passed_over.push(PassedOver { server: before.candidate.server.clone(), why: why.to_owned() });
    let decision = choose::decide(state, &without, sets).map_err(|refusal| refusal.to_string())?;
    decision.keeps(before, recovery.semi_sync.is_some())?;
    Ok(decision)
}
