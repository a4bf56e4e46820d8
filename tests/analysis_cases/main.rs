//! The judging of primaries as data: scenario tables in this repository's own words (`tests/scenarios/analysis`), and
//! the cases of a peer (`tests/cases/analysis`). One builder makes clusters and observations for both.

mod fleet;
mod peer;
mod properties;
mod scenarios;
mod sources;
