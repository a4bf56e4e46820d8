//! Finds secrets in bytes, however a log or a file may have spelled them.

/// Things that must not be shown (or, to prove that the search finds, one that is).
pub struct Search {
    /// Name and one spelling of each.
    words: Vec<(String, Vec<u8>)>,
    /// By their first two bytes: which words may begin there. One pass over hundreds of megabytes finds all.
    starts: Vec<Vec<u16>>,
}

impl Search {
    /// Each as text, in hexadecimal, as a list of bytes like `99, 97`, and in base64 at any alignment.
    pub fn of<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut search = Self { words: Vec::new(), starts: vec![Vec::new(); 1 << 16] };
        for (name, secret) in secrets {
            for word in spellings(secret) {
                assert!(word.len() >= 6, "{name} is too short to be told from chance");
                let number = u16::try_from(search.words.len()).unwrap();
                search.starts[start(&word)].push(number);
                search.words.push((name.to_owned(), word));
            }
        }
        search
    }

    /// The first that stands in `bytes`, with a little of what is around it.
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        for (at, pair) in bytes.windows(2).enumerate() {
            for number in &self.starts[start(pair)] {
                let (name, word) = &self.words[usize::from(*number)];
                if bytes[at..].starts_with(word) {
                    let around = &bytes[at.saturating_sub(200)..(at + word.len() + 40).min(bytes.len())];
                    return Some(format!("{name} at byte {at}: ...{}...", String::from_utf8_lossy(around)));
                }
            }
        }
        None
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let lower: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let upper = lower.to_uppercase();
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut all = vec![secret.to_vec(), lower.into_bytes(), upper.into_bytes(), list.into_bytes()];
    all.extend((0..3).map(|shift| base64_inner(secret, shift)));
    all
}

/// The characters of base64 that `secret` alone determines when `shift` bytes stand before it.
fn base64_inner(secret: &[u8], shift: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded: Vec<u8> = vec![0; shift].into_iter().chain(secret.iter().copied()).collect();
    let bits: Vec<u8> = padded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let first = (shift * 8).div_ceil(6);
    let whole = bits.chunks_exact(6).skip(first);
    whole.map(|six| ALPHABET[six.iter().fold(0, |sum, bit| sum * 2 + usize::from(*bit))]).collect()
}

#[test]
fn every_spelling_is_found() {
    let search = Search::of([("it", &b"canary-5b1d"[..])]);
    for shown in [
        "password=canary-5b1d;",
        "63616e6172792d35623164",
        "63616E6172792D35623164",
        "Bytes([1, 99, 97, 110, 97, 114, 121, 45, 53, 98, 49, 100, 2])",
        // base64 of "canary-5b1d", "xcanary-5b1dx", "xxcanary-5b1dxx"
        "Y2FuYXJ5LTViMWQ=",
        "eGNhbmFyeS01YjFkeA==",
        "eHhjYW5hcnktNWIxZHh4",
    ] {
        assert!(search.find(shown.as_bytes()).is_some(), "{shown}");
    }
    assert!(search.find(b"canary-5b1e, canary").is_none());
}
