//! Hostile input: whatever comes from outside ends in a value or in an error with a name, never in a panic and never in
//! an endless wait. What is fuzzed, and how to fuzz for longer: docs/chaos.md, *Hostile input*.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

mod crawl;
#[path = "../state_properties/generate.rs"]
#[allow(dead_code)]
mod generate;
mod group;
mod liars;
mod log;
mod messages;
mod mysql;
mod odd;
mod servers;
mod spoil;
mod texts;
#[path = "../state_properties/world.rs"]
mod world;
