//! Names near a name that nobody knows, for "did you mean".

/// Longest name that is compared: the comparison takes the product of both lengths.
const NAME_MAX: usize = 100;

/// Names within a small edit distance, or that contain the name, nearest first; three at most. None for a long name.
pub fn near(name: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    if name.len() > NAME_MAX {
        return Vec::new();
    }
    let limit = (name.len() / 3).clamp(1, 4);
    let mut close: Vec<(usize, String)> = names
        .filter(|n| n.len() <= 4 * NAME_MAX)
        .map(|n| (if n.contains(name) { 0 } else { distance(name, &n) }, n))
        .filter(|(d, _)| *d <= limit)
        .collect();
    close.sort();
    close.dedup();
    close.into_iter().take(3).map(|(_, n)| n).collect()
}

/// Edits between two names: characters inserted, removed, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let names = || ["orders".to_owned(), "order-items".to_owned(), "users".to_owned()].into_iter();
        assert_eq!(near("ordes", names()), ["orders"]);
        assert_eq!(near("order", names()), ["order-items", "orders"]);
        assert!(near("zzz", names()).is_empty());
        assert_eq!(near("tsl", ["tls".to_owned()].into_iter()), ["tls"]);
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in
            [("", "", 0), ("", "ab", 2), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }
}
