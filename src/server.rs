//! x
pub mod clock;
pub mod discovery;
pub mod driver;
pub mod fencer;
pub mod group;
pub mod leader;
pub mod observer;
pub mod pause;
pub mod peer;
pub mod reporter;
