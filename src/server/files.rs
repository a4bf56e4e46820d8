//! How many files this process may have open. Connections are files too.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is assumed where the system does not say, or says that there is no bound.
const PLENTY: u64 = 1 << 20;

/// Raises the limit as far as it may be raised, and tells it.
pub fn most() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    usize::try_from(limit.current.unwrap_or(PLENTY)).unwrap_or(usize::MAX)
}
