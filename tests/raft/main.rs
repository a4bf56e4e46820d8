//! Consensus as a whole: real nodes over loopback, real directories, real certificates.

mod certificates;
mod cluster;
mod directory;
mod large;
mod latency;
mod members;
mod rescue;
mod support;
