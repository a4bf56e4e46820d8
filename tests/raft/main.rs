//! Consensus as a whole: real nodes over loopback, real directories, real certificates.

mod cluster;
mod support;
