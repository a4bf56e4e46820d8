//! The command line.

/// How it is called.
pub const USAGE: &str = "usage: model [--depth N] [--faults N] [--only WORDS]\n\
without arguments: every scenario to the bounds that stand with it";

/// What is wished for.
#[derive(Debug, Default)]
pub struct Wish {
    /// Events on one path.
    pub depth: Option<usize>,
    /// Faults on one path.
    pub faults: Option<u32>,
    /// Scenarios with these words in their name.
    pub only: Option<String>,
}

/// Reads it; `None`: the test harness' own question for a list.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Wish>, String> {
    let mut wish = Wish::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--depth" => wish.depth = Some(value()?.parse().map_err(|_| "--depth needs a number")?),
            "--faults" => wish.faults = Some(value()?.parse().map_err(|_| "--faults needs a number")?),
            "--only" => wish.only = Some(value()?),
            "--list" => return Ok(None),
            // What `cargo test` hands to every target.
            "--quiet" | "-q" | "--nocapture" | "--include-ignored" => {}
            other if other.starts_with("--test-threads") || other.starts_with("--format") => {}
            other => return Err(format!("what is {other}?")),
        }
    }
    Ok(Some(wish))
}
