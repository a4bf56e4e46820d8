//! What the executor can be asked to do, in terms that leave it no choice.

pub mod step;
