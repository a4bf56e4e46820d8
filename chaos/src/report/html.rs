//! Text into HTML.

/// Text between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// Milliseconds for people.
pub fn ms(at: f64) -> String {
    match at.abs() {
        size if size >= 10_000.0 => format!("{:.2} s", at / 1000.0),
        size if size >= 100.0 => format!("{at:.0} ms"),
        _ => format!("{at:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        assert_eq!(
            (ms(1.25), ms(-250.4), ms(12_345.0)),
            ("1.2 ms".into(), "-250 ms".into(), "12.35 s".into())
        );
    }
}
