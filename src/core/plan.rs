//! Plans: who is promoted and why, and what the executor is asked to do, in terms that leave it no choice.

pub mod applied;
pub mod choose;
pub mod durability;
pub mod marks;
pub mod next;
pub mod outside;
pub mod preview;
pub mod rejoin;
pub mod step;
pub mod witness;
