//! Times as people type them: `250ms`, `30s`, `5m`, `2h`, `1d`. A number without a unit is refused.

use std::time::Duration;

/// A time that was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// In whole milliseconds.
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Reads a time.
pub fn span(text: &str) -> Result<Span, String> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no time; {UNITS}"))?;
    let each_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("`{text}` has no unit; {UNITS}")),
        other => return Err(format!("`{other}` is no unit of time; {UNITS}")),
    };
    match number.checked_mul(each_ms) {
        Some(ms) if ms > 0 => Ok(Span(Duration::from_millis(ms))),
        _ => Err(format!("`{text}` is out of range; {UNITS}")),
    }
}

const UNITS: &str = "write a whole number and ms, s, m, h or d, such as 90s or 2h";

/// A time for people: the two largest units.
pub fn spoken(ms: u64) -> String {
    let (s, rest_ms) = (ms / 1_000, ms % 1_000);
    match s {
        0 => format!("{rest_ms} ms"),
        1..=9 => format!("{s}.{:01} s", rest_ms / 100),
        10..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min {} s", s / 60, s % 60),
        7_200..=172_799 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_their_unit() {
        assert_eq!(span("250ms").unwrap().ms(), 250);
        assert_eq!(span("2h").unwrap().ms(), 7_200_000);
        for (text, why) in [
            ("30", "no unit"),
            ("30x", "no unit of time"),
            ("s", "is no time"),
            ("0s", "out of range"),
            ("99999999999999999d", "out of range"),
        ] {
            assert!(span(text).unwrap_err().contains(why), "{text}: {}", span(text).unwrap_err());
        }
    }

    #[test]
    fn spoken_times_have_two_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (950, "950 ms"),
            (1_250, "1.2 s"),
            (65_000, "65 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (200_000_000, "2 d 7 h"),
        ] {
            assert_eq!(spoken(ms), text);
        }
    }
}
