//! Says in the log, in time, that a certificate of this node is about to end: from then on no other node, or no client,
//! trusts it.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{config, raft::Raft};

/// How long before its end it is said.
const AHEAD: Duration = Duration::from_secs(14 * 86_400);
/// How often it is said.
const EVERY: Duration = Duration::from_secs(86_400);

/// Watches what has certificates, from two weeks before their end on; a port in plain text has none.
pub fn watch(raft: &Raft, client_cert: Option<PathBuf>) {
    if let Some(expires) = raft.certificate_expires() {
        let what = "THE CERTIFICATE OF THE NODE PORT (key `tls.node_cert`), or its issuer's,";
        tokio::spawn(warn_daily(what, expires));
    }
    if let Some(expires) = client_cert.and_then(|file| config::certificate_ends(&file)) {
        tokio::spawn(warn_daily("THE CERTIFICATE OF THE CLIENT PORT (key `tls.client_cert`)", expires));
    }
}

async fn warn_daily(what: &str, expires: SystemTime) {
    loop {
        if let Some(days) = days_left(expires, SystemTime::now()) {
            tracing::warn!(days, "{what} ENDS IN {days} DAYS: replace the file and restart this node");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whole days until the end, where that is near; 0 when it is over.
fn days_left(expires: SystemTime, now: SystemTime) -> Option<u64> {
    let left = expires.duration_since(now).unwrap_or_default();
    (left <= AHEAD).then_some(left.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_from_two_weeks_before_and_after() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let in_days = |days: u64| days_left(now + Duration::from_secs(days * 86_400 + 10), now);
        assert_eq!(in_days(15), None);
        assert_eq!(in_days(14), None);
        assert_eq!(in_days(13), Some(13));
        assert_eq!(in_days(0), Some(0));
        assert_eq!(days_left(now - Duration::from_secs(5), now), Some(0));
    }
}
