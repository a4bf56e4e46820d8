//! Text from outside, made fit to be kept, logged and shown on a terminal.

/// At most `most` characters of `text`. What would move a cursor, change a direction of writing, hide, or begin a new
/// line is written out (`\u{1b}`); what was cut off is shown as ` ...`.
pub fn tame(text: &str, most: usize) -> String {
    let mut tamed = String::with_capacity(text.len().min(most));
    for (n, c) in text.chars().enumerate() {
        if n == most {
            tamed.push_str(" ...");
            break;
        }
        match is_plain(c) {
            true => tamed.push(c),
            false => tamed.extend(c.escape_default()),
        }
    }
    tamed
}

/// Whether a character shows itself and does nothing else.
pub fn is_plain(c: char) -> bool {
    // Marks of direction and invisible ones (Unicode 16, general category Cf), line and paragraph separators.
    let hidden = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_control() && !hidden
}

/// Whether it is a UUID as servers write it: 36 characters, either case.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(tame("Zugriff verweigert für 'ä'", 99), "Zugriff verweigert für 'ä'");
        assert_eq!(tame("a\x1b[2J\nb\tc", 99), "a\\u{1b}[2J\\nb\\tc");
        assert_eq!(tame("\u{9b}2J \u{202e}gnp", 99), "\\u{9b}2J \\u{202e}gnp");
        assert_eq!(tame("abcdef", 3), "abc ...");
        assert_eq!(tame("abc", 3), "abc");
    }

    #[test]
    fn uuids_are_told_from_other_texts() {
        assert!(is_uuid("3E11FA47-71ca-11e1-9e33-c80aa9429562"));
        for text in [
            "",
            "3e11fa47-71ca-11e1-9e33-c80aa942956",
            "3e11fa47x71ca-11e1-9e33-c80aa9429562",
            &"é".repeat(18),
        ] {
            assert!(!is_uuid(text), "{text}");
        }
    }
}
