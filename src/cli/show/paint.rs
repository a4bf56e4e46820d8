//! Colour, where it is wanted.

/// A brush that may be dry.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Look at it.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// The thing itself.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// By severity.
    pub fn severity(self, severity: &str, text: &str) -> String {
        match severity {
            "critical" => self.bad(text),
            "warning" => self.warn(text),
            _ => text.to_owned(),
        }
    }
}

/// Columns a text takes, its colour left out.
pub fn width(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\x1b') => escaped = true,
            (true, 'm') => escaped = false,
            (true, _) => {}
            (false, _) => width += 1,
        }
    }
    width
}
