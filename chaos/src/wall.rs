//! Wall time, in which what servers, nodes and clients say is compared: all of them run on this machine.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks.
static ORIGIN: LazyLock<(Instant, f64)> = LazyLock::new(|| {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), wall.as_secs_f64() * 1000.0)
});

/// Unix milliseconds of a moment. A wall clock that is stepped while the rig runs is not followed.
pub fn of(at: Instant) -> f64 {
    let (origin, wall_ms) = *ORIGIN;
    match at.checked_duration_since(origin) {
        Some(since) => wall_ms + since.as_secs_f64() * 1000.0,
        None => wall_ms - (origin - at).as_secs_f64() * 1000.0,
    }
}

/// Unix milliseconds now.
pub fn now() -> f64 {
    of(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn both_directions_from_the_origin() {
        let at = Instant::now();
        let apart = of(at + Duration::from_secs(3)) - of(at - Duration::from_millis(500));
        assert!((apart - 3500.0).abs() < 0.01, "{apart}");
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0;
        assert!((now() - real).abs() < 1000.0);
    }
}
