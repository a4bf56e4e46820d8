//! Says in the log, in time, that this node's certificate is about to end: from then on no other node lets it in.

use std::time::{Duration, SystemTime};

use crate::raft::Raft;

/// How long before its end it is said.
const AHEAD: Duration = Duration::from_secs(14 * 86_400);
/// How often it is said.
const EVERY: Duration = Duration::from_secs(86_400);

/// Warns once a day from two weeks before the end on. Does nothing where the node port speaks plain text.
pub fn watch(raft: &Raft) {
    let Some(expires) = raft.certificate_expires() else { return };
    tokio::spawn(async move {
        loop {
            if let Some(days) = days_left(expires, SystemTime::now()) {
                tracing::warn!(
                    days,
                    "THE CERTIFICATE OF THE NODE PORT (key `tls.node_cert`), or its issuer's, ENDS IN {days} DAYS: \
                     replace the file and restart this node"
                );
            }
            tokio::time::sleep(EVERY).await;
        }
    });
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
