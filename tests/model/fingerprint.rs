//! What makes two worlds the same: everything their future depends on, and nothing else. Values of the product are taken in
//! by their `Debug` text, with three things made alike on the way: instants become ages, the names of running steps
//! become their order, and sentences for people are left out, but for those that P7 looks into.

use std::{
    fmt::{self, Debug, Write as _},
    hash::{DefaultHasher, Hasher as _},
};

use quorate::core::replicated::State;

use crate::world::BASE_MS;

/// Fields whose text is for people: nothing is decided by it.
const SENTENCES: [&str; 5] = ["why", "said", "cancel", "cancel_pending", "text"];
/// Counts that only ever make names.
const COUNTERS: [&str; 1] = ["next_id"];
/// An instant that far ahead is never reached.
const NEVER_MS: u64 = 100_000_000;

/// Takes a value in.
pub fn print(hasher: &mut DefaultHasher, now_ms: u64, value: &impl Debug) {
    take_in(hasher, &mut DefaultHasher::new(), now_ms, value);
}

fn take_in(hasher: &mut DefaultHasher, names: &mut DefaultHasher, now_ms: u64, value: &impl Debug) {
    let mut text = Alike { hasher, names, now_ms, held: None, skip: Skip::Nothing, steps: None };
    write!(text, "{value:?}").expect("a hasher takes everything");
    text.flush(false);
}

/// The same for a value alone.
pub fn of(now_ms: u64, value: &impl Debug) -> u64 {
    with_names(now_ms, value).0
}

/// And beside it one of the names that were left out.
pub fn with_names(now_ms: u64, value: &impl Debug) -> (u64, u64) {
    let (mut hasher, mut names) = (DefaultHasher::new(), DefaultHasher::new());
    take_in(&mut hasher, &mut names, now_ms, value);
    (hasher.finish(), names.finish())
}

/// Of a state only what its future depends on: no audit, no verdicts, of an ended recovery only how it ended.
pub fn of_state(now_ms: u64, state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    let h = &mut hasher;
    print(h, now_ms, &state.clusters);
    print(h, now_ms, &(&state.orders, &state.blocks, state.recoveries_switch.enabled));
    for recovery in state.recoveries.values() {
        match recovery.running() {
            true => print(h, now_ms, recovery),
            false => {
                let candidate = recovery.decision.as_ref().map(|d| &d.candidate.server);
                let id = (recovery.id, recovery.supersedes);
                print(
                    h,
                    now_ms,
                    &(id, recovery.kind, recovery.ending, candidate, recovery.acknowledged.is_some()),
                );
            }
        }
    }
    state.requests.keys().for_each(|id| h.write(id.as_bytes()));
    hasher.finish()
}

/// An instant as an age.
pub fn age(now_ms: u64, at_ms: u64) -> &'static str {
    match at_ms {
        at if at > now_ms.saturating_add(NEVER_MS) => "never",
        at if at > now_ms => "soon",
        at if at == now_ms => "now",
        _ => "past",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    /// The next number.
    Number,
    /// The next text in quotes, unless the field has none.
    Sentence,
    /// What is between the quotes.
    Within,
}

struct Alike<'a> {
    hasher: &'a mut DefaultHasher,
    /// Takes the names of steps in.
    names: &'a mut DefaultHasher,
    now_ms: u64,
    /// A number whose meaning depends on what follows it.
    held: Option<u64>,
    skip: Skip,
    /// Within the map of running steps: how many keys were met.
    steps: Option<u64>,
}

impl Alike<'_> {
    fn take(&mut self, text: &str) {
        self.hasher.write(text.as_bytes());
    }

    /// A number that was held back; `is_key`: it is the key of a map.
    fn flush(&mut self, is_key: bool) {
        let Some(number) = self.held.take() else { return };
        if self.skip == Skip::Number {
            self.skip = Skip::Nothing;
            self.names.write_u64(number);
            return;
        }
        let number = match &mut self.steps {
            Some(met) if is_key => {
                self.names.write_u64(number);
                *met += 1;
                *met
            }
            _ if number >= BASE_MS => return self.take(age(self.now_ms, number)),
            _ => number,
        };
        self.hasher.write_u64(number);
    }

    fn field(&mut self, name: &str) {
        match name {
            "running" => self.steps = Some(0),
            "sets" => self.steps = None,
            _ if SENTENCES.contains(&name) => self.skip = Skip::Sentence,
            _ if COUNTERS.contains(&name) => self.skip = Skip::Number,
            _ => {}
        }
    }
}

impl fmt::Write for Alike<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.skip == Skip::Within {
            return Ok(());
        }
        if !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit()) {
            self.flush(false);
            self.held = text.parse().ok();
            return Ok(());
        }
        self.flush(text.starts_with(": "));
        if self.skip == Skip::Sentence && (text.starts_with(", ") || text.contains("None")) {
            self.skip = Skip::Nothing;
        }
        self.field(text);
        self.take(text);
        Ok(())
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        match (self.skip, c) {
            (Skip::Sentence, '"') => self.skip = Skip::Within,
            (Skip::Within, '"') => self.skip = Skip::Nothing,
            (Skip::Within, _) => {}
            _ => return self.write_str(c.encode_utf8(&mut [0; 4])),
        }
        Ok(())
    }
}

/// Whether it does what it says, on a value of each kind; asked before every exploration.
pub fn check() {
    #[derive(Debug)]
    #[allow(dead_code)]
    struct Sample {
        since_ms: u64,
        next_id: u32,
        running: std::collections::BTreeMap<u32, u32>,
        sets: u32,
        why: &'static str,
        cancel: Option<&'static str>,
        undone: Vec<&'static str>,
        last: u32,
    }
    let sample = |at, id, value, why, cancel, undone: &[&'static str], last| Sample {
        since_ms: at,
        next_id: id + 2,
        running: [(id, value), (id + 1, 7)].into(),
        sets: 3,
        why,
        cancel,
        undone: undone.to_vec(),
        last,
    };
    let now = BASE_MS + 50;
    let print = |s: Sample| of(now, &s);
    let one = print(sample(BASE_MS, 4, 1, "a", Some("b"), &["c"], 9));
    assert_eq!(one, print(sample(BASE_MS + 1, 8, 1, "x", Some("y"), &["c"], 9)), "names, ages, sentences");
    let others = [
        sample(now, 4, 1, "a", Some("b"), &["c"], 9),
        sample(BASE_MS, 4, 2, "a", Some("b"), &["c"], 9),
        sample(BASE_MS, 4, 1, "a", None, &["c"], 9),
        sample(BASE_MS, 4, 1, "a", Some("b"), &["c"], 8),
        sample(BASE_MS, 4, 1, "a", Some("b"), &["d"], 9),
    ];
    for other in others {
        let told = format!("{other:?}");
        assert_ne!(one, print(other), "{told}");
    }
}
